"""Each connection to a database parses replies with a reader of its own."""

import hiredis
from service import serve


class Connection:
    def __init__(self, number: int) -> None:
        self.number = number
        self.reader = hiredis.Reader(replyError=self.error, encoding="utf-8")

    def error(self, text: str) -> Exception:
        return RuntimeError(f"connection {self.number}: {text}")


def session(number: int) -> None:
    connection = Connection(number)
    connection.reader.feed(b"+OK\r\n")
    assert connection.reader.gets() == "OK"


serve(session, per_second=600)
