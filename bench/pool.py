"""pool.*: renting buffers instead of allocating them.

In C through the shared library, beside malloc and mimalloc doing the same work in
the same loop: a pair (take and give), a buffer taken on one thread and given on
another in batches of 1024 (what it costs each of them, and both), taking, touching
each page and giving, one at a time and eight at a time (burst).

In Python renting and returning a buffer (pair), and the same with every byte of it
written between (fill), beside making a bytearray: of zeros, which is all that it
can be made of, and filled the same way.

In Node: a pair, also with its Buffer looked at; taking, filling and returning.
"""

from collections.abc import Iterator
from typing import Any

from measure import ROOT, node_rows, output_of, python_ns, row

BYTES = (4096, 65536, 1048576)


def fill_rows() -> Iterator[dict[str, Any]]:
    """A message of that size comes in and is copied to where it is worked on."""
    import memguard

    with memguard.MemoryPool(environment=False) as pool:
        for size in BYTES:
            names = {"rent": pool.rent, "message": bytes(size), "n": size}
            calls = max(20_000_000 // size, 200)
            ours = python_ns(
                "b = rent(n); m = b.memory; m[:] = message; m.release(); b.return_()",
                names,
                calls,
            )
            peer = python_ns("b = bytearray(n); b[:] = message", names, calls)
            yield row(f"pool.python.fill.{size}", "ns", ours, peer, "bytearray")


def python_rows() -> Iterator[dict[str, Any]]:
    import memguard

    with memguard.MemoryPool(environment=False) as pool:
        names = {"pool": pool, "n": BYTES[0]}
        ours = python_ns("pool.rent(n).return_()", names, 1_000_000)
        peer = python_ns("bytearray(n)", names, 1_000_000)
        yield row("pool.python.pair", "ns", ours, peer, "bytearray of 4096 bytes")
    yield from fill_rows()


def rows() -> Iterator[dict[str, Any]]:
    for line in output_of([f"{ROOT}/build/bench_pool"]).splitlines():
        name, ours, peer, peer_name = line.split()
        yield row(name, "ns", float(ours), float(peer), peer_name)
    yield from python_rows()
    yield from node_rows("pool.js")
