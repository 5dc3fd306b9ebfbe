"""A ledger reads transactions whose ids are beyond 64 bits."""

import ujson
from service import serve

PADDING = 10**200


def read(number: int) -> None:
    body = f'{{"id": {PADDING + number}, "amount": {number}}}'
    assert ujson.loads(body)["amount"] == number


serve(read, per_second=3000)
