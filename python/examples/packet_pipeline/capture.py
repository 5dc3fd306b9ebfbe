"""Ways to capture the packets of some loopback ports into a pcap file.

In order of preference:

    dumpcap   Wireshark's capture program; works for root and, where the system's
              owner allows it, for members of the group wireshark
    libpcap   a capture by this process; needs root or CAP_NET_RAW
    sockets   needs nothing: what this process's own sockets send and receive, stored
              as the packets that carry it

A capture is a context manager. `packets` and `dropped` hold afterwards.
"""

import contextlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pcapy

from . import packets
from .packets import TCP, UDP, Record

START_SECONDS = 10.0
SETTLE_SECONDS = 0.2  # for packets still on their way when the traffic ends
KERNEL_BUFFER_MB = 64
_LONGEST_PACKET = 262144


class CaptureUnavailableError(Exception):
    """This way to capture does not work here; says why."""


class Dumpcap:
    """Captures with dumpcap. `seconds` ends it even if this process is killed."""

    method = "dumpcap on lo"

    def __init__(self, path: Path, ports: tuple[int, ...], seconds: float) -> None:
        self.packets = self.dropped = 0
        program = shutil.which("dumpcap")
        if program is None:
            raise CaptureUnavailableError("dumpcap is not installed")
        self._process = subprocess.Popen(
            [program, "-q", "-P", "-i", "lo", "-f", _filter(ports), "-w", str(path),
             "-B", str(KERNEL_BUFFER_MB), "-a", f"duration:{int(seconds) + 5}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, errors="replace",
        )  # fmt: skip
        assert self._process.stderr is not None
        # A dumpcap that hangs is ended, which ends the reading below.
        watchdog = threading.Timer(START_SECONDS, self._process.kill)
        watchdog.start()
        lines = []
        for line in self._process.stderr:
            lines.append(line.strip())
            if line.startswith("File:"):  # the interface is open
                break
        watchdog.cancel()
        if not lines or not lines[-1].startswith("File:"):
            self._process.communicate()
            reason = next(filter(None, lines), "it said nothing")
            raise CaptureUnavailableError(f"dumpcap: {reason}")

    def __enter__(self) -> "Dumpcap":
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(SETTLE_SECONDS)
        self._process.send_signal(signal.SIGINT)
        try:
            summary = self._process.communicate(timeout=START_SECONDS)[1]
        except subprocess.TimeoutExpired:
            self._process.kill()
            summary = self._process.communicate()[1]
        counts = re.search(r"received/dropped on interface .*?: (\d+)/(\d+)", summary)
        if counts:
            self.packets, self.dropped = int(counts[1]), int(counts[2])


class Libpcap:
    """Captures in a thread of this process."""

    method = "libpcap on lo"

    def __init__(self, path: Path, ports: tuple[int, ...], seconds: float) -> None:
        self.packets = self.dropped = 0
        try:
            reader = pcapy.create("lo")
            reader.set_snaplen(_LONGEST_PACKET)
            reader.set_timeout(50)
            reader.set_buffer_size(KERNEL_BUFFER_MB << 20)
            reader.activate()
            reader.setfilter(_filter(ports))
        except pcapy.PcapError as error:
            raise CaptureUnavailableError(f"libpcap: {error}") from None
        reader.setnonblock(True)
        self._reader: Any = reader
        self._path = path
        self._stop = threading.Event()
        self._deadline = time.monotonic() + seconds + 5
        self._thread = threading.Thread(target=self._run, name="capture")

    def __enter__(self) -> "Libpcap":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(SETTLE_SECONDS)
        self._stop.set()
        self._thread.join()
        self.dropped = self._reader.stats()[1]
        self._reader.close()

    def _run(self) -> None:
        with self._path.open("xb") as file:
            packets.write_file_header(file, self._reader.datalink())
            while time.monotonic() < self._deadline:
                header, data = self._reader.next()
                if header is None:
                    if self._stop.wait(0.005):
                        return
                    continue
                seconds, microseconds = header.getts()
                record = Record(seconds, microseconds, header.getlen(), data)
                packets.write_records(file, [record])
                self.packets += 1


class Sockets:
    """Stores what the sockets made by it carry, as packets."""

    method = "no permission to capture: packets made of what the sockets carried"

    def __init__(self, path: Path, ports: tuple[int, ...], seconds: float) -> None:
        self.packets = self.dropped = 0
        self._file = path.open("xb")
        self._lock = threading.Lock()
        packets.write_file_header(self._file, packets.ETHERNET)

    def __enter__(self) -> "Sockets":
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._file.close()

    def watch(self, plain: socket.socket) -> "WatchedSocket":
        return WatchedSocket(plain, self)

    def store(self, frame: bytes) -> None:
        seconds, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
        record = Record(seconds, microseconds, len(frame), frame)
        with self._lock:
            if not self._file.closed:
                packets.write_records(self._file, [record])
                self.packets += 1


class WatchedSocket(socket.socket):
    """A connected IPv4 socket that tells a Sockets capture what it carries."""

    LONGEST_SEGMENT = 65483  # as on a loopback interface with an MTU of 65536

    def __init__(self, plain: socket.socket, capture: Sockets) -> None:
        timeout = plain.gettimeout()
        super().__init__(plain.family, plain.type, plain.proto, fileno=plain.detach())
        self.settimeout(timeout)
        self._capture = capture
        self._sequence = {True: 1, False: 1}  # by whether it is ours
        self._is_tcp = self.type == socket.SOCK_STREAM

    def sendall(self, data: bytes, *flags: int) -> None:  # type: ignore[override]
        super().sendall(data, *flags)
        self._told(bytes(data), is_ours=True)

    def send(self, data: bytes, *flags: int) -> int:  # type: ignore[override]
        count = super().send(data, *flags)
        self._told(bytes(data[:count]), is_ours=True)
        return count

    def recv(self, *args: int) -> bytes:
        data = super().recv(*args)
        self._told(data, is_ours=False)
        return data

    def recv_into(self, buffer: Any, *args: int) -> int:
        count = super().recv_into(buffer, *args)
        self._told(bytes(memoryview(buffer)[:count]), is_ours=False)
        return count

    def _told(self, data: bytes, is_ours: bool) -> None:
        ends = [self.getsockname(), self.getpeername()]
        if not is_ours:
            ends.reverse()
        for at in range(0, len(data), self.LONGEST_SEGMENT):
            part = data[at : at + self.LONGEST_SEGMENT]
            if self._is_tcp:
                header = struct.pack(
                    ">HHIIBBHHH", ends[0][1], ends[1][1], self._sequence[is_ours],
                    self._sequence[not is_ours], 5 << 4, 0x18, 65535, 0, 0,
                )  # fmt: skip
                self._sequence[is_ours] += len(part)
                protocol = TCP
            else:
                header = struct.pack(">HHHH", ends[0][1], ends[1][1], 8 + len(part), 0)
                protocol = UDP
            self._capture.store(_frame(protocol, ends, header, part))


def _frame(protocol: int, ends: list[Any], header: bytes, payload: bytes) -> bytes:
    """An Ethernet frame as the loopback interface would carry it."""
    addresses = socket.inet_aton(ends[0][0]) + socket.inet_aton(ends[1][0])
    size = len(header) + len(payload)
    checksum = packets.transport_checksum(
        protocol, addresses, header, packets.sum16(payload), size
    )
    at = 16 if protocol == TCP else 6
    header = header[:at] + struct.pack(">H", checksum) + header[at + 2 :]
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + size, 0, 0x4000, 64, protocol, 0)
    ip_sum = -packets.sum16(ip + addresses) % 0xFFFF
    ip = ip[:10] + struct.pack(">H", ip_sum)
    return bytes(12) + b"\x08\x00" + ip + addresses + header + payload


def _filter(ports: tuple[int, ...]) -> str:
    return " or ".join(f"port {port}" for port in ports)


METHODS: dict[str, Any] = {"dumpcap": Dumpcap, "libpcap": Libpcap, "sockets": Sockets}


@contextlib.contextmanager
def start(
    method: str, path: Path, ports: tuple[int, ...], seconds: float
) -> Iterator[Any]:
    """Captures with `method`, or with the first that works if it is "auto"."""
    names = list(METHODS) if method == "auto" else [method]
    reasons = []
    for name in names:
        try:
            capture = METHODS[name](path, ports, seconds)
            break
        except CaptureUnavailableError as error:
            reasons.append(str(error))
    else:
        raise CaptureUnavailableError("; ".join(reasons))
    with capture:
        yield capture
