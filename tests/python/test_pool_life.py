"""The life of pools: settings, pressure, threads, forks, interpreters, the end."""

import os
import threading
from collections.abc import Callable, Iterator

import memguard
import pytest
from memguard import MemoryPool, PooledBuffer
from pools import forget, on_thread, until

MIB = 1 << 20
Logged = Callable[[], list[str]]
Run = Callable[..., str]


@pytest.fixture
def pool() -> Iterator[MemoryPool]:
    """One that keeps the stack of each rental."""
    with MemoryPool({"leak_check": "paranoid"}, environment=False) as made:
        yield made


# ---- settings and the end ---------------------------------------------------


def test_switched_off_it_allocates_plainly() -> None:
    with MemoryPool({"pool_enabled": False}, environment=False) as pool:
        assert not pool.enabled
        buffer = pool.rent(1000)
        assert pool.stats()["plain"] == 1
        buffer.return_()
        with pytest.raises(memguard.ReturnedError):
            buffer.return_()
        assert pool.stats()["held_bytes"] == 0
        pool.update_config({"pool": {"pool_enabled": True}})
        assert pool.enabled
        with pool.rent(1000):
            assert pool.stats()["plain"] == 1


def test_above_its_limit_it_allocates_plainly() -> None:
    with MemoryPool({"max_pool_mb": 1}, environment=False) as pool:
        many = pool.rent_many(50, 100_000)
        stats = pool.stats()
        assert stats["current"] == 50
        assert stats["plain"] > 30
        assert stats["held_bytes"] <= 7 * MIB
        for one in many:
            one.return_()
        assert pool.stats()["current"] == 0


def test_after_close(logged: Logged) -> None:
    pool = MemoryPool(environment=False)
    kept, dropped = pool.rent(100), pool.rent(100)
    pool.close()
    pool.close()
    assert pool.closed
    for use in (
        lambda: pool.rent(5),
        lambda: pool.rent_many(1, 5),
        pool.rent_writer,
        pool.rent_array,
        pool.stats,
        pool.findings,
        pool.suspects,
        pool.trim,
        lambda: pool.update_config({}),
    ):
        with pytest.raises(memguard.ClosedError):
            use()
    kept.memory[:] = bytes(100)
    pool.return_(kept)
    with pytest.raises(memguard.ReturnedError):
        kept.return_()
    del dropped  # with its pool gone that is nobody's loss
    assert logged() == []


def test_without_init() -> None:
    pool = MemoryPool.__new__(MemoryPool)
    assert pool.closed
    with pytest.raises(memguard.ClosedError, match="__init__ did not run"):
        pool.rent(5)


def test_the_shared_pool() -> None:
    pool = memguard.shared_pool()
    assert memguard.shared_pool() is pool
    buffer = pool.rent(100)
    pool.close()
    again = memguard.shared_pool()
    assert again is not pool
    assert not again.closed
    buffer.return_()
    with again.rent(5):
        assert again.stats()["current"] >= 1


def test_the_pool_of_a_manager(manager: memguard.ResourceManager) -> None:
    pool = manager.pool
    assert manager.pool is pool
    assert pool.config["max_pool_mb"] == 1024
    manager.update_config({"max_pool_mb": 5})
    assert pool.config["max_pool_mb"] == 5
    manager.memory_monitor.update_config({"leak_check": "disabled"})
    assert pool.config["leak_check"] == 0
    buffer = pool.rent(100)
    manager.close()
    assert pool.closed
    buffer.return_()
    with memguard.ResourceManager({"enabled": False}) as other:
        pass
    with pytest.raises(memguard.ClosedError):
        _ = other.pool


# ---- under pressure ---------------------------------------------------------


def test_it_degrades_by_itself_and_comes_back(pool: MemoryPool) -> None:
    def is_plain() -> bool:
        before = pool.stats()["plain"]
        pool.rent(1000).return_()
        return bool(pool.stats()["plain"] > before)

    for one in pool.rent_many(20, MIB):
        one.return_()
    with memguard.ResourceManager({"max_memory_mb": 1, "sample_interval": 0.05}) as m:
        until(is_plain)
        assert pool.stats()["held_bytes"] <= MIB
        m.update_config({"max_memory_mb": 1 << 20})
        until(lambda: not is_plain())
        m.update_config({"max_memory_mb": 1})
        until(is_plain)
    assert not is_plain()


def test_release_memory_empties_pools(
    pool: MemoryPool, manager: memguard.ResourceManager
) -> None:
    for one in pool.rent_many(20, MIB):
        one.return_()
    assert pool.stats()["held_bytes"] >= 10 * MIB
    manager.memory_monitor._reclaim(("pools",), "manual", 1.0)
    assert pool.stats()["held_bytes"] <= MIB


def test_memory_goes_back_after_a_burst(run_child: Run) -> None:
    """1 GB in use at once, then nothing for a minute, a tick a second. What Python
    takes for the objects it has after the first time."""
    out = run_child("""
    import memguard
    pool = memguard.MemoryPool()
    MIB = 1 << 20
    def burst():
        for size, count in ((MIB, 896), (65536, 1024), (4096, 16384)):
            for one in pool.rent_many(count, size):
                one.memory[::4096] = bytes(size // 4096)
                yield one
    def round(minute):
        kept = list(burst())
        high = memguard.rss_bytes()
        for one in kept:
            one.return_()
        for second in range(60):
            pool._tick(60_000.0 * minute + 1000.0 * second)
        return high, memguard.rss_bytes()
    _, before = round(1)
    high, after = round(2)
    stats = pool.stats()
    print(stats["held_bytes"], stats["current"], stats["lost"])
    print(high - before > 1000 * MIB, after <= before * 1.1, before, high, after)
    """)
    assert out.startswith("0 0 0\nTrue True"), out


# ---- threads and processes --------------------------------------------------


def test_threads_that_end_leave_their_rentals(pool: MemoryPool) -> None:
    left: list[PooledBuffer] = []

    def work() -> None:
        for n in range(200):
            left.append(pool.rent(n + 1))
            pool.rent(n + 1).return_()

    for _ in range(10):
        on_thread(work)
    assert pool.stats()["current"] == 2000
    while left:
        left.pop().return_()
    stats = pool.stats()
    assert (stats["rented"], stats["returned"], stats["lost"]) == (4000, 4000, 0)


def test_ten_thousand_at_once_on_many_threads() -> None:
    """Returned by other threads than rented them, in another order."""
    sizes = (10, 100, 1000, 5000, 20_000)
    with MemoryPool(environment=False) as pool:
        shared: list[PooledBuffer] = []
        gate = threading.Barrier(16)

        def work(number: int) -> None:
            gate.wait(60)
            for n in range(625):
                shared.append(pool.rent(sizes[(n + number) % 5]))
            gate.wait(60)
            for _ in range(625):
                shared.pop().return_()

        threads = [threading.Thread(target=work, args=[n]) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert shared == []
        stats = pool.stats()
        assert (stats["rented"], stats["returned"]) == (10_000, 10_000)
        assert (stats["lost"], stats["current"], pool.findings()) == (0, 0, [])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork(pool: MemoryPool) -> None:
    buffer, kept = pool.rent(1000), pool.rent(MIB)
    buffer.memory[:4] = b"ours"
    forget(pool)
    child = os.fork()
    if child == 0:
        try:
            assert bytes(buffer.memory[:4]) == b"ours"
            buffer.memory[:4] = b"mine"
            buffer.return_()
            pool.trim()
            for n in (100, 1000, 5 * MIB):
                pool.rent(n).return_()
            kept.return_()
            assert pool.stats()["current"] == 0
            pool.close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert bytes(buffer.memory[:4]) == b"ours"
    buffer.return_()
    kept.return_()
    assert pool.stats()["current"] == 0


def test_at_exit_nothing_is_lost(run_child: Run) -> None:
    out = run_child("""
    import atexit, memguard
    pool, shared = memguard.MemoryPool(), memguard.shared_pool()
    kept = [pool.rent(100), shared.rent(MIB := 1 << 20), pool.rent_writer()]
    knot = [pool.rent(100)]
    knot.append(knot)
    view = pool.rent(100).memory
    class Late:
        def __del__(self, rent=pool.rent, kept=pool.rent(5)):
            print(len(kept))
            kept.return_()
            rent(10)
    late = Late()
    late.me = late
    print("end")
    """)
    assert out == "end\n5\n"


def test_at_exit_what_was_lost_is_told(run_child: Run) -> None:
    run_child(
        """
        import memguard
        memguard.shared_pool().rent(1 << 20)
        """,
        stderr="rented at <module> (<string>:3)",
    )


def test_interpreters_come_and_go(run_child: Run) -> None:
    out = run_child(
        """
    try:
        import _interpreters as api
    except ImportError:
        import _xxsubinterpreters as api
    import memguard
    mine = memguard.shared_pool().rent(100)
    mine.memory[:4] = b"mine"
    code = '''
    import memguard
    pool = memguard.MemoryPool({"leak_check": "paranoid"})
    shared = memguard.shared_pool()
    many = shared.rent_many(100, 100)
    for one in many:
        one.memory[:] = bytes(100)
        one.return_()
    pool.rent(5)
    assert pool.findings()[0]["site"]
    kept = pool.rent(100)
    lost = shared.rent(100)
    '''
    for _ in range(3):
        sub = api.create()
        failure = api.run_string(sub, code)
        assert failure is None, failure
        api.destroy(sub)
    print(bytes(mine.memory[:4]))
    mine.return_()
    """,
        stderr="a rented buffer (capacity 64 bytes) was dropped",
    )
    assert out == "b'mine'\n"
