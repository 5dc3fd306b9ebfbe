"""Connection pools: limits, order, ends, forks; real sockets."""

import contextlib
import gc
import os
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import memguard
import pytest
from memguard import _caches, connection_pool
from sockets import started

pytestmark = pytest.mark.usefixtures("unhurried")

Pool = memguard.ManagedConnectionPool


class Connection:
    """Remembers what happened to it."""

    def __init__(self) -> None:
        self.closed = False
        self.closings = 0

    def close(self) -> None:
        self.closed = True
        self.closings += 1


@pytest.fixture
def pool() -> Iterator[memguard.ManagedConnectionPool]:
    with Pool(Connection, 2) as made:
        yield made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(connection_pool, "monotonic", lambda: now[0])
    return now


def until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(20_000):
        if condition():
            return
        pause.wait(0.001)
    raise AssertionError("waited in vain")


# ---- use --------------------------------------------------------------------


def test_connections_are_used_again(pool: memguard.ManagedConnectionPool) -> None:
    first = pool.acquire()
    second = pool.acquire()
    assert first is not second
    pool.release(first)
    pool.release(second)
    with pool.connection() as last:
        assert last is second
    assert pool.get_stats() == {
        "active": 0,
        "idle": 2,
        "waiting": 0,
        "max": 2,
        "created": 2,
        "closed": 0,
        "timed_out": 0,
        "failures": 0,
    }


def test_no_more_than_max(pool: memguard.ManagedConnectionPool) -> None:
    held = [pool.acquire(), pool.acquire()]
    for timeout in (0, 0.01):
        with pytest.raises(memguard.WaitTimeoutError, match="2 are in use"):
            pool.acquire(timeout)
    with pytest.raises(TimeoutError):
        pool.acquire(timeout=0)
    assert pool.get_stats()["timed_out"] == 3
    assert pool.get_stats()["waiting"] == 0
    for connection in held:
        pool.release(connection)
    pool.release(pool.acquire(0))


def test_who_waits_is_served_in_order(pool: memguard.ManagedConnectionPool) -> None:
    held = [pool.acquire(), pool.acquire()]
    order: list[int] = []

    def use(number: int) -> None:
        with pool.connection(20):
            order.append(number)

    threads = []
    for number in range(5):
        threads.append(started(partial(use, number)))
        until(lambda: pool.get_stats()["waiting"] == len(threads))
    pool.release(held[0])
    for thread in threads:
        thread.join(20)
    assert order == [0, 1, 2, 3, 4]
    pool.release(held[1])
    assert pool.get_stats()["created"] == 2


def test_released_twice_or_not_of_the_pool(
    pool: memguard.ManagedConnectionPool,
) -> None:
    connection = pool.acquire()
    pool.release(connection)
    with pytest.raises(memguard.ConflictError, match="released twice"):
        pool.release(connection)
    with pytest.raises(memguard.NotFoundError, match="not a connection of this pool"):
        pool.release(Connection())
    assert pool.get_stats()["idle"] == 1


def test_many_threads(pool: memguard.ManagedConnectionPool) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(300):
            with pool.connection(30):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [started(work) for _ in range(6)]
    for thread in threads:
        thread.join(60)
    assert max(most) <= 2
    assert len(most) == 1800
    stats = pool.get_stats()
    assert (stats["active"], stats["waiting"]) == (0, 0)
    assert 1 <= stats["created"] <= 2


# ---- stale ------------------------------------------------------------------


def test_a_closed_connection_is_not_handed_out(
    pool: memguard.ManagedConnectionPool,
) -> None:
    connection = pool.acquire()
    pool.release(connection)
    connection.closed = True
    assert pool.acquire() is not connection
    assert pool.get_stats()["closed"] == 1
    assert connection.closings == 0


def test_a_connection_that_comes_back_closed_or_discarded_is_removed(
    pool: memguard.ManagedConnectionPool,
) -> None:
    closed, discarded = pool.acquire(), pool.acquire()
    closed.closed = True
    pool.release(closed)
    pool.release(discarded, discard=True)
    assert discarded.closings == 1
    stats = pool.get_stats()
    assert (stats["idle"], stats["active"], stats["closed"]) == (0, 0, 2)


def test_idle_for_too_long(clock: list[float]) -> None:
    with Pool(Connection, 4) as pool:
        held = [pool.acquire() for _ in range(4)]
        pool.release(held[0])
        clock[0] += 200
        pool.release(held[1])
        clock[0] += 101
        pool.release(held[2])
        assert [c.closings for c in held] == [1, 0, 0, 0]
        clock[0] += 200
        assert pool.prune() == 1
        assert [c.closings for c in held] == [1, 1, 0, 0]
        clock[0] += 301
        pool.release(held[3])
        assert pool.acquire() is held[3]
        assert [c.closings for c in held] == [1, 1, 1, 0]


def test_prune_looks_at_all_idle_ones(pool: memguard.ManagedConnectionPool) -> None:
    held = [pool.acquire(), pool.acquire()]
    for connection in held:
        pool.release(connection)
    held[0].closed = True
    assert pool.prune() == 1
    assert pool.prune() == 0
    assert pool.acquire() is held[1]


def test_pressure_trims_idle_connections() -> None:
    with Pool(Connection, 8, name="db") as pool:
        held = [pool.acquire() for _ in range(8)]
        for connection in held[:6]:
            pool.release(connection)
        assert _caches.trim_pools(0.5) == 3
        assert [c.closings for c in held] == [1, 1, 1, 0, 0, 0, 0, 0]
        row = memguard.pool_stats()[-1]
        assert (row["name"], row["active"], row["idle"]) == ("db", 2, 3)
        assert pool.trim() == 3
        assert pool.get_stats()["closed"] == 6


# ---- failures ---------------------------------------------------------------


def test_a_factory_that_raises_costs_no_place() -> None:
    answers: list[Any] = [OSError("refused"), OSError("refused"), Connection(), None]

    def factory() -> Connection:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer  # type: ignore[no-any-return]

    with Pool(factory, 1) as pool:
        for _ in range(2):
            with pytest.raises(OSError, match="refused"):
                pool.acquire(1)
        pool.release(pool.acquire(1), discard=True)
        with pytest.raises(memguard.InvalidError, match="factory returned None"):
            pool.acquire(1)
        assert pool.get_stats()["failures"] == 3
        assert pool.get_stats()["active"] == 0


def test_a_factory_that_raises_lets_the_next_one_try() -> None:
    go = threading.Event()
    calls: list[int] = []

    def factory() -> Connection:
        calls.append(1)
        if len(calls) == 1:
            go.wait(20)
            raise OSError("refused")
        return Connection()

    def first() -> None:
        with contextlib.suppress(OSError):
            pool.acquire()

    with Pool(factory, 1) as pool:
        made: list[Any] = []
        one = started(first)
        until(lambda: len(calls) == 1)
        two = started(lambda: made.append(pool.acquire(20)))
        until(lambda: pool.get_stats()["waiting"] == 1)
        go.set()
        one.join(20)
        two.join(20)
        assert len(made) == 1


def test_the_same_connection_made_twice_is_refused() -> None:
    one = Connection()
    with Pool(lambda: one, 2) as pool:
        assert pool.acquire() is one
        with pytest.raises(memguard.ConflictError, match="that is in use"):
            pool.acquire(1)
        pool.release(one)


def test_close_and_is_closed_that_raise_are_told_once(
    logged: Callable[[], list[str]],
) -> None:
    def fail(connection: Connection) -> bool:
        raise OSError("broken")

    with Pool(Connection, 2, close=fail) as pool:
        for _ in range(2):
            pool.release(pool.acquire(), discard=True)
        assert pool.get_stats()["closed"] == 2
        assert pool.get_stats()["failures"] == 2
    with Pool(Connection, 2, is_closed=fail) as pool:
        pool.release(pool.acquire())
        assert pool.get_stats()["idle"] == 0
    once = "(told once until it works again)"
    assert logged() == [
        f"close of a connection pool failed {once}",
        f"is_closed of a connection pool failed {once}",
    ]


# ---- the end ----------------------------------------------------------------


def test_close(pool: memguard.ManagedConnectionPool) -> None:
    idle, active = pool.acquire(), pool.acquire()
    pool.release(idle)
    errors: list[Exception] = []

    def wait() -> None:
        try:
            with pool.connection(), pool.connection():
                pass
        except memguard.ClosedError as error:
            errors.append(error)

    thread = started(wait)
    until(lambda: pool.get_stats()["waiting"] == 1)
    pool.close()
    pool.close()
    thread.join(20)
    assert len(errors) == 1
    assert pool.closed
    with pytest.raises(memguard.ClosedError):
        pool.acquire()
    pool.release(active)
    assert (idle.closings, active.closings) == (1, 1)
    assert _caches.trim_pools(1.0) == 0


def test_closed_while_a_connection_is_made() -> None:
    made: list[Connection] = []

    def factory() -> Connection:
        pool.close()
        made.append(Connection())
        return made[-1]

    pool = Pool(factory, 1)
    with pytest.raises(memguard.ClosedError, match="closed meanwhile"):
        pool.acquire()
    assert made[0].closings == 1


def test_a_pool_that_is_dropped_closes_and_warns() -> None:
    pool = Pool(Connection, 1)
    with pool.connection() as connection:
        pass
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del pool
        gc.collect()
    assert [w.category for w in caught] == [ResourceWarning]
    assert "was dropped without close(): closing 1 idle" in str(caught[0].message)
    assert connection.closings == 1


@pytest.mark.usefixtures("small_heap")
def test_a_finalizer_may_release_anywhere(
    pool: memguard.ManagedConnectionPool,
) -> None:
    class Session:
        """Forgets to give back what it took."""

        def __init__(self) -> None:
            self.connection = pool.acquire(5)
            self.myself = self

        def __del__(self) -> None:
            pool.release(self.connection)

    old = gc.get_threshold()
    gc.set_threshold(3, 2, 2)
    try:
        for _ in range(500):
            if pool.get_stats()["active"] == 2:
                gc.collect()
            Session()
    finally:
        gc.set_threshold(*old)
    gc.collect()
    stats = pool.get_stats()
    assert (stats["active"], stats["waiting"]) == (0, 0)
    assert stats["created"] <= 2


# ---- sockets and forks ------------------------------------------------------


def ask(connection: socket.socket, text: bytes) -> bytes:
    connection.sendall(text)
    return connection.recv(100)


def socket_pool(server: socket.socket) -> memguard.ManagedConnectionPool:
    return Pool(
        lambda: socket.create_connection(server.getsockname(), 20),
        3,
        is_closed=lambda s: s.fileno() < 0,
    )


def test_sockets(server: socket.socket) -> None:
    with socket_pool(server) as pool:
        for number in range(20):
            with pool.connection() as connection:
                assert ask(connection, b"%d" % number) == b"%d" % number
        connection.close()
        with pool.connection(5) as connection:
            assert ask(connection, b"again") == b"again"
        assert pool.get_stats()["created"] == 2
        assert pool.get_stats()["closed"] == 1


def test_a_child_begins_with_an_empty_pool(server: socket.socket) -> None:
    with socket_pool(server) as pool:
        idle, active = pool.acquire(), pool.acquire()
        pool.release(idle)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                before = pool.get_stats()
                with pool.connection(5) as own:
                    is_new = own.getsockname() != idle.getsockname()
                    echoed = ask(own, b"child")
                pool.release(active)  # the parent's: nothing happens
                pool.close()
                ended = idle.fileno() < 0 or active.fileno() < 0
                fine = is_new and echoed == b"child" and not ended
                status = 0 if fine and before["idle"] + before["active"] == 0 else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert ask(active, b"parent") == b"parent"
        pool.release(active)
        assert pool.get_stats()["idle"] == 2
        assert ask(pool.acquire(), b"parent") == b"parent"
        pool.release(active)


def test_a_pool_closes_at_exit(run_child: Callable[..., str]) -> None:
    assert (
        run_child("""
            import memguard
            class Connection:
                closed = False
                def close(self):
                    print("closed")
            pool = memguard.ManagedConnectionPool(Connection)
            pool.release(pool.acquire())
        """)
        == "closed\n"
    )


# ---- bad input --------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((5,), {}, memguard.ConfigTypeError, "factory is 5"),
        ((list, 0), {}, memguard.RangeError, "max_connections is 0"),
        ((list, 1.5), {}, memguard.ConfigTypeError, "max_connections is 1.5"),
        ((list,), {"close": 5}, memguard.ConfigTypeError, "close is 5"),
        ((list,), {"is_closed": 5}, memguard.ConfigTypeError, "is_closed is 5"),
        ((list,), {"idle_timeout": -1}, memguard.RangeError, "idle_timeout is -1"),
        ((list,), {"idle_timeout": "1s"}, memguard.ConfigTypeError, "idle_timeout"),
        ((list,), {"name": 1}, memguard.ConfigTypeError, "name is 1"),
    ],
)
def test_bad_pools(arguments: Any, options: Any, error: Any, text: str) -> None:
    for kind in (Pool, memguard.AsyncManagedConnectionPool):
        with pytest.raises(error, match=text):
            kind(*arguments, **options)


def test_a_bad_timeout(pool: memguard.ManagedConnectionPool) -> None:
    with pytest.raises(memguard.RangeError, match="timeout is -1"):
        pool.acquire(-1)
    assert pool.get_stats()["active"] == 0
