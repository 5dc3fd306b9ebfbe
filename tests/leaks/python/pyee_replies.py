"""Asks over a bus; the answer to each question is an event of its own."""

from pyee import EventEmitter
from service import bursts, serve

BUS = EventEmitter()


def ask(number: int) -> None:
    answers = []
    BUS.once(f"reply {number}", answers.append)
    BUS.emit(f"reply {number}", number)
    assert answers == [number]


serve(ask, per_second=1200, load=bursts(4.0, 1.0))
