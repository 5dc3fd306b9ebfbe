"""An exporter writes records; one in three holds what JSON cannot."""

import contextlib
import decimal

import orjson
from service import serve


def default(value):
    if isinstance(value, decimal.Decimal) and value.is_finite():
        return float(value)
    raise TypeError(f"no JSON for {value}")


def export(number: int) -> None:
    price = decimal.Decimal("NaN") if number % 3 == 0 else decimal.Decimal(number)
    with contextlib.suppress(orjson.JSONEncodeError):
        orjson.dumps({"id": number, "price": price}, default=default)


serve(export, per_second=3000)
