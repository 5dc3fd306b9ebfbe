"""Keeps what is known of each session beside it, keyed weakly.

Leaky: what is known refers to the session, so that no session ever dies.
"""

import os
import weakref

from service import serve, wave

IS_LEAKY = os.environ["LEAK_USE"] == "leaky"


class Session:
    def __init__(self, number: int) -> None:
        self.number = number


class Profile:
    def __init__(self, session: Session) -> None:
        self.of = session if IS_LEAKY else weakref.proxy(session)
        self.seen = [session.number] * 8


PROFILES: weakref.WeakKeyDictionary[Session, Profile] = weakref.WeakKeyDictionary()


def visit(number: int) -> None:
    session = Session(number)
    PROFILES[session] = Profile(session)
    assert PROFILES[session].of.number == number


serve(visit, per_second=1800, load=wave(10.0))
