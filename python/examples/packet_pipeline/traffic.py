"""Makes HTTP and DNS traffic on 127.0.0.1 and captures it into a pcap file.

    python -m packet_pipeline.traffic --output FILE [--seconds S] [--megabytes M]

Runs as a program of its own so that its memory is not the pipeline's. Prints one
JSON line: method, packets, dropped, requests, queries. SIGTERM ends it early, with
a complete file.
"""

import argparse
import http.client
import json
import os
import random
import signal
import socket
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from . import capture

HTTP_CLIENTS = 3
TIMEOUT_SECONDS = 5.0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # header and body are written one by one
    timeout = TIMEOUT_SECONDS
    documents: tuple[bytes, ...] = ()

    def do_GET(self) -> None:
        number = int(self.path.rpartition("/")[2])
        self._reply(self.documents[number % len(self.documents)])

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._reply(json.dumps({"received": len(body)}).encode())

    def _reply(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Traffic:
    """Servers and clients on ports of their own."""

    def __init__(self, megabytes: float) -> None:
        self.requests = self.queries = 0
        self._bytes_left = int(megabytes * 1e6)
        self._stop = threading.Event()
        self._random = random.Random(7)
        Handler.documents = tuple(
            self._document(size) for size in (1, 2, 4, 8, 16, 32, 48)
        )
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._dns.bind(("127.0.0.1", 0))
        self._dns.settimeout(0.1)
        self.ports = (self._http.server_port, self._dns.getsockname()[1])

    def stop(self) -> None:
        self._stop.set()

    def run(self, seconds: float, watch: Any = None) -> None:
        """Makes traffic until the time is up, the bytes are spent, or stop().

        watch(socket) may wrap each client's socket.
        """
        watch = watch or (lambda plain: plain)
        server = threading.Thread(target=self._http.serve_forever, args=(0.05,))
        threads = [threading.Thread(target=self._answer_queries)]
        threads += [
            threading.Thread(target=self._browse, args=(index, watch))
            for index in range(HTTP_CLIENTS)
        ]
        threads.append(threading.Thread(target=self._resolve, args=(watch,)))
        server.start()
        for thread in threads:
            thread.start()
        self._stop.wait(seconds)
        self._stop.set()
        for thread in threads:
            thread.join()
        self._http.shutdown()
        server.join()
        self._http.server_close()
        self._dns.close()

    def _document(self, kilobytes: int) -> bytes:
        rows: list[dict[str, Any]] = []
        size = 0
        while size < kilobytes * 1000:
            row = {
                "id": self._random.randrange(10**9),
                "customer": f"customer-{self._random.randrange(5000)}@example.com",
                "card": f"{self._random.randrange(10**16):016d}",
                "cents": self._random.randrange(100, 100_000),
            }
            rows.append(row)
            size += len(json.dumps(row)) + 2
        return json.dumps(rows).encode()

    def _spend(self, count: int) -> None:
        self._bytes_left -= count
        if self._bytes_left <= 0:
            self._stop.set()

    def _browse(self, index: int, watch: Any) -> None:
        client = http.client.HTTPConnection("127.0.0.1", self.ports[0])
        plain = socket.create_connection(("127.0.0.1", self.ports[0]), TIMEOUT_SECONDS)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sock = watch(plain)
        number = index
        while not self._stop.is_set():
            if number % 4 == 3:
                body = Handler.documents[number % 3]
                client.request("POST", "/orders", body)
            else:
                client.request("GET", f"/documents/{number}")
            self._spend(len(client.getresponse().read()))
            self.requests += 1
            number += 1
        client.close()

    def _resolve(self, watch: Any) -> None:
        plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        plain.connect(("127.0.0.1", self.ports[1]))
        plain.settimeout(0.5)
        with watch(plain) as client:
            number = 0
            while not self._stop.wait(0.001):
                number = (number + 1) % 65536
                name = f"host-{number % 500}.example.com"
                labels = b"".join(
                    bytes((len(part),)) + part.encode() for part in name.split(".")
                )
                # id, flags (recursion wanted), 1 question; name; type A, class IN
                head = struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0)
                client.send(head + labels + b"\0\0\x01\0\x01")
                try:
                    client.recv(512)
                except TimeoutError:
                    continue
                self.queries += 1

    def _answer_queries(self) -> None:
        while not self._stop.is_set():
            try:
                query, sender = self._dns.recvfrom(512)
            except TimeoutError:
                continue
            # The question again, and one answer: a pointer to its name, A, IN, 60 s.
            head = query[:2] + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0)
            answer = struct.pack(">HHHIH4B", 0xC00C, 1, 1, 60, 4, 192, 0, 2, query[1])
            self._dns.sendto(head + query[12:] + answer, sender)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--megabytes", type=float, default=32.0)
    parser.add_argument("--capture", choices=["auto", *capture.METHODS], default="auto")
    options = parser.parse_args()
    traffic = Traffic(options.megabytes)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: traffic.stop())
    try:
        with capture.start(
            options.capture, options.output, traffic.ports, options.seconds
        ) as running:
            traffic.run(options.seconds, getattr(running, "watch", None))
    except capture.CaptureUnavailableError as error:
        print(f"cannot capture: {error}", file=sys.stderr)
        return 1
    result = {
        "method": running.method,
        "packets": running.packets,
        "dropped": running.dropped,
        "requests": traffic.requests,
        "queries": traffic.queries,
    }
    print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    # Threads of the server that still wait for their peer must not hold this up.
    code = main()
    sys.stdout.flush()
    os._exit(code)
