"""One side of the bus: publishes numbered messages, answers those of the other side,
and sends again what was not answered."""

import asyncio
import secrets
import time
from collections import Counter, deque
from typing import Any

import memguard
from memguard.serializers import MessagePackSerializer

from . import messages
from .stream import AT_ONCE

WINDOW = 256  # messages published and not answered, at most
BATCH = 32
RESEND_S = 2.0  # without an answer, if the broker does not keep messages
LOOK_S = 0.05  # between looks at the memory pressure
RETRY_S = 0.2  # after a failure
ANSWERS = 10_000  # that wait to be published, at most
ASIDE = AT_ONCE  # unreadable messages that wait to be set aside, at most
SUM_BELOW = 1 << 48


class Flight:
    """A message on its way. Its rental is kept until the broker has it for sure, or
    the other side has answered."""

    __slots__ = ("is_published", "is_sending", "number", "rental", "sum", "tried_at")

    def __init__(self, number: int, rental: memguard.PooledBuffer, total: int) -> None:
        self.number = number
        self.rental: memguard.PooledBuffer | None = rental
        self.sum = total
        self.is_published = self.is_sending = False
        self.tried_at = 0.0

    def let_go(self) -> None:
        if self.rental is not None and not self.is_sending:
            self.rental.return_()
            self.rental = None


class Seen:
    """Which messages of a session have come."""

    def __init__(self, session: str) -> None:
        self.session = session
        self._below = 0  # all of these
        self._others: set[int] = set()  # no more than the other side's window

    def add(self, number: int) -> bool:
        """@return False if it was there before."""
        if number < self._below or number in self._others:
            return False
        self._others.add(number)
        while self._below in self._others:
            self._others.remove(self._below)
            self._below += 1
        return True


class Side:
    """`limits`: messages, seconds, patience. See run()."""

    def __init__(self, road: Any, manager: memguard.ResourceManager, limits: Any):
        self._road = road
        self._manager = manager
        self._limits = limits
        self._serializer = MessagePackSerializer(manager.pool)
        self.session = secrets.token_hex(4)
        self._flying: dict[int, Flight] = {}
        self._seen = Seen("")
        self._answers: list[tuple[str, int, int]] = []
        self._aside: deque[bytes] = deque(maxlen=ASIDE)
        self._moved = asyncio.Event()
        self._progress_at = time.monotonic()
        self._looked_at, self._is_pressed = 0.0, False
        self._bytes = 0  # that went through the pool
        self.is_stopping = False  # publishes nothing new
        self.has_given_up = False
        self.failures: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.published = self.acknowledged = self.resent = 0
        self.received = self.duplicated = self.slowed = 0
        self.sent_sum = self.received_sum = 0

    async def open(self) -> None:
        await self._road.open(self.take, self.settled, self.failed)

    def stop(self) -> None:
        self.is_stopping = True
        self._moved.set()

    def give_up(self) -> None:
        self.is_stopping = self.has_given_up = True
        self._moved.set()

    def failed(self, error: Exception) -> None:
        self.failures[type(error).__name__] += 1

    # ---- publishing ------------------------------------------------------------

    async def run(self) -> None:
        """Publishes as many messages as it should, or as long, or until stop(). Then
        waits for the answers, until there was none for `patience` seconds."""
        limits = self._limits
        end = time.monotonic() + (limits.seconds or float("inf"))
        number = 0
        while not self.has_given_up:
            is_over = (
                self.is_stopping
                or time.monotonic() >= end
                or number >= (limits.messages or messages.NUMBERS)
            )
            due = self._due()
            if not due and not is_over:
                due = self._begin(number)
                number += len(due)
            if due:
                await self._send(due)
            elif is_over and not self._flying:
                return
            else:
                await self._wait()
            if not is_over:
                self._progress_at = time.monotonic()
            elif time.monotonic() - self._progress_at > limits.patience:
                self.give_up()

    def _window(self) -> int:
        """How many may be on their way: few under pressure."""
        if time.monotonic() - self._looked_at >= LOOK_S:
            self._looked_at = time.monotonic()
            was_pressed = self._is_pressed
            self._manager.get_memory_pressure()
            level = self._manager.memory_monitor.latest.level
            self._is_pressed = level in ("high", "critical")
            self.slowed += self._is_pressed and not was_pressed
        return BATCH if self._is_pressed else WINDOW

    def _due(self) -> list[Flight]:
        """What is to be sent again: the broker does not have it, or has no memory."""
        now = time.monotonic()
        found = []
        for flight in self._flying.values():
            wait_s = RESEND_S if flight.is_published else RETRY_S
            if flight.rental is not None and now - flight.tried_at >= wait_s:
                found.append(flight)
                if len(found) == BATCH:
                    break
        return found

    def _begin(self, number: int) -> list[Flight]:
        most = self._limits.messages or messages.NUMBERS
        room = min(BATCH, self._window() - len(self._flying), most - number)
        begun = []
        for one in range(number, number + room):
            value, total = messages.data(self.session, one)
            flight = Flight(one, self._serializer.serialize_pooled(value), total)
            self._flying[one] = flight
            begun.append(flight)
        return begun

    async def _send(self, flights: list[Flight]) -> None:
        for flight in flights:
            flight.is_sending = True
            self.resent += flight.tried_at != 0
        rentals = [flight.rental for flight in flights if flight.rental is not None]
        self._bytes += sum(map(len, rentals))
        is_done = False
        try:
            await self._road.send(rentals)
            is_done = True
        except memguard.MemguardError as error:
            self.failed(error)
        finally:
            now = time.monotonic()
            for flight in flights:
                flight.is_sending = False
                flight.tried_at = now
                if is_done:
                    self._is_published(flight)
                if flight.number not in self._flying:
                    flight.let_go()  # answered meanwhile

    def _is_published(self, flight: Flight) -> None:
        if not flight.is_published:
            flight.is_published = True
            self.published += 1
        if self._road.is_durable:
            flight.let_go()

    async def _wait(self) -> None:
        self._moved.clear()
        try:
            async with asyncio.timeout(RETRY_S):
                await self._moved.wait()
        except TimeoutError:
            pass

    # ---- receiving -------------------------------------------------------------

    def take(self, message: Any, _: str) -> None:
        """A message that came, whatever it is."""
        self._bytes += len(message)
        try:
            value = messages.read(self._serializer, message)
        except messages.BadMessageError as bad:
            self.rejected[bad.reason] += 1
            self._aside.append(bytes(message))
            return
        if value["kind"] == "data":
            self._take_data(value["session"], value["n"], value["sum"])
        elif value["session"] == self.session:
            for number, total in value["sums"]:
                self._take_answer(number, total)

    def _take_data(self, session: str, number: int, total: int) -> None:
        if session != self._seen.session:
            self._seen = Seen(session)  # the other side was started anew
        if self._seen.add(number):
            self.received += 1
            self.received_sum = (self.received_sum + total) % SUM_BELOW
        else:
            self.duplicated += 1
        if len(self._answers) < ANSWERS:  # else it comes again
            self._answers.append((session, number, total))

    def _take_answer(self, number: int, total: int) -> None:
        flight = self._flying.get(number)
        if flight is None:
            return  # the second answer
        if total != flight.sum:
            self.rejected["answer"] += 1
            return
        del self._flying[number]
        self._is_published(flight)  # also if nobody had said so
        flight.let_go()
        self.acknowledged += 1
        self.sent_sum = (self.sent_sum + total) % SUM_BELOW
        self._progress_at = time.monotonic()
        self._moved.set()

    async def settled(self) -> None:
        """Publishes the answers to what has come. Raises MemguardError: they wait."""
        while self._aside:
            # Taken out: others may come meanwhile, and push the oldest out.
            oldest = self._aside.popleft()
            try:
                await self._road.set_aside([oldest])
            except memguard.MemguardError:
                self._aside.appendleft(oldest)
                raise
        while self._answers:
            session = self._answers[0][0]
            some = [
                (number, total)
                for other, number, total in self._answers[: messages.MOST_ANSWERS]
                if other == session
            ]
            value = messages.answers(session, some)
            with self._serializer.serialize_pooled(value) as reply:
                self._bytes += len(reply)
                await self._road.reply([reply])
            done = {(session, number) for number, _ in some}
            self._answers = [a for a in self._answers if a[:2] not in done]

    # ---- reports ---------------------------------------------------------------

    async def pending(self) -> int | None:
        """Messages in the outbox; None if there is none, or the broker is away."""
        try:
            count: int | None = await self._road.pending()
            return count
        except memguard.MemguardError as error:
            self.failed(error)
            return None

    def _hit_rate(self) -> float:
        """The share of what was rented for which the pool had memory already."""
        stats = self._manager.pool.stats()
        new = min(1, stats["peak_held_bytes"] / max(1, self._bytes))
        return float((1 - new) * (1 - stats["plain"] / max(1, stats["rented"])))

    def state(self) -> dict[str, Any]:
        latest = self._manager.memory_monitor.latest
        return {
            "published": self.published,
            "acknowledged": self.acknowledged,
            "in_flight": self.published - self.acknowledged,
            "unpublished": sum(not f.is_published for f in self._flying.values()),
            "resent": self.resent,
            "received": self.received,
            "duplicated": self.duplicated,
            "rejected": dict(self.rejected),
            "failures": dict(self.failures),
            "sent_sum": self.sent_sum,
            "received_sum": self.received_sum,
            "slowed": self.slowed,
            "pool_hit_rate": round(self._hit_rate(), 4),
            "level": latest.level,
            "rss_bytes": latest.rss_bytes,
            "peak_bytes": latest.peak_rss_bytes,
        }

    async def close(self, is_last: bool) -> None:
        """Closes the road; what is not answered is let go of. `is_last`: the other
        side has ended and needs nothing that is left in the broker."""
        try:
            await self._road.close(is_last and not self._flying)
        except memguard.MemguardError as error:
            self.failed(error)
        finally:
            for flight in self._flying.values():
                flight.let_go()
