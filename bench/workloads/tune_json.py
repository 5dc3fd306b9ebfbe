"""A JSON API over a catalogue of 2 million objects that stays in memory."""

import json
import random
from typing import Any

from meter import Job, serve

PRODUCTS = 250_000  # of eight objects each
LINES = 200  # of an order: such a request is a few thousand objects at once
REFUSED = 20  # one in so many orders has a line that is not in stock
RECENT = 400  # answers kept for clients that ask again


def product(number: int) -> dict[str, Any]:
    return {
        "sku": f"sku-{number}",
        "name": f"Article {number} of the catalogue",
        "price": {"net": number % 9973 / 100, "currency": "EUR"},
        "stock": [{"place": place, "count": number % 31} for place in ("B", "K")],
        "tags": [f"t{number % 97}", f"t{number % 89}"],
    }


class OutOfStockError(Exception):
    pass


def check(number: int, order: dict[str, Any]) -> str | None:
    """@return what is wrong. The error is kept for the log in a variable, and with
    it this frame, that variable and the order: a cycle, as many programs make."""
    failure = None
    try:
        if number % REFUSED == 0:
            raise OutOfStockError(order["lines"][-1]["sku"])
    except OutOfStockError as error:
        failure = error
    return failure and str(failure)


def build() -> Job:
    catalogue = {f"sku-{number}": product(number) for number in range(PRODUCTS)}
    draw = random.Random(3)
    orders = [
        json.dumps(
            {
                "client": f"client-{client}",
                "lines": [
                    {
                        "sku": f"sku-{draw.randrange(PRODUCTS)}",
                        "count": draw.randrange(1, 9),
                        "options": {"gift": bool(line % 2), "notes": ["a", "b"]},
                    }
                    for line in range(LINES)
                ],
            }
        )
        for client in range(300)
    ]
    recent: dict[int, dict[str, Any]] = {}

    def job(number: int) -> str:
        order = json.loads(orders[number % len(orders)])
        problem = check(number, order)
        lines = []
        for line in order["lines"]:
            article = catalogue[line["sku"]]
            price = article["price"]
            lines.append(
                {
                    "sku": article["sku"],
                    "sum": {"net": price["net"] * line["count"]},
                    "places": [place["place"] for place in article["stock"]],
                }
            )
        answer = {
            "client": order["client"],
            "problem": problem,
            "lines": lines,
            "total": sum(line["sum"]["net"] for line in lines),
        }
        recent[number] = answer
        if number >= RECENT:
            del recent[number - RECENT]
        changed = product(number % PRODUCTS)  # a supplier's update
        catalogue[changed["sku"]] = changed
        return json.dumps(answer)

    return job


if __name__ == "__main__":
    serve(build)
