"""An object-relational layer: entities that know each other, in cycles.

An identity map holds what was loaded for good; each request loads an aggregate
of its own, changes it and writes it back as statements. The latest aggregates stay
cached; once out of the cache only the collector can free them.
"""

import hashlib
import json
import random
from collections import deque
from typing import Any

from meter import Job, serve

CUSTOMERS = 25_000
ORDERS = 3  # of a customer
ITEMS = 4  # of an order
CACHED = 2000  # aggregates


class Entity:
    def __init__(self, session: "Session", key: int) -> None:
        self.session = session
        self.key = key
        self.changes: dict[str, Any] = {}
        session.entities.append(self)

    def change(self, name: str, value: Any) -> None:
        setattr(self, name, value)
        self.changes[name] = value


class Customer(Entity):
    def __init__(self, session: "Session", key: int, name: str) -> None:
        super().__init__(session, key)
        self.name = name
        self.orders: list[Order] = []


class Order(Entity):
    def __init__(self, session: "Session", key: int, customer: Customer) -> None:
        super().__init__(session, key)
        self.customer = customer
        self.items: list[Item] = []
        customer.orders.append(self)


class Item(Entity):
    def __init__(self, session: "Session", key: int, order: Order, price: int) -> None:
        super().__init__(session, key)
        self.order = order
        self.price = price
        order.items.append(self)


class Session:
    """Loads aggregates from rows and writes their changes back."""

    def __init__(self) -> None:
        self.entities: list[Entity] = []

    def load(self, key: int, orders: int) -> Customer:
        customer = Customer(self, key, f"customer {key}")
        for number in range(orders):
            order = Order(self, key * orders + number, customer)
            for item in range(ITEMS):
                Item(self, order.key * ITEMS + item, order, (key + item) % 500)
        return customer

    def flush(self) -> list[str]:
        """A statement for each entity that changed."""
        statements = []
        for entity in self.entities:
            if entity.changes:
                table = type(entity).__name__.lower()
                values = ", ".join(f"{k} = {v!r}" for k, v in entity.changes.items())
                statements.append(
                    f"UPDATE {table} SET {values} WHERE {table}_id = {entity.key}"
                )
                entity.changes = {}
        return statements


def view(customer: Customer) -> dict[str, Any]:
    """What the client is shown."""
    orders = [
        {
            "id": order.key,
            "items": [{"id": item.key, "price": item.price} for item in order.items],
        }
        for order in customer.orders
    ]
    return {"id": customer.key, "name": customer.name, "orders": orders}


def build() -> Job:
    shared = Session()
    identity = {key: shared.load(key, ORDERS) for key in range(CUSTOMERS)}
    draw = random.Random(9)

    cached: deque[Customer] = deque(maxlen=CACHED)

    def job(number: int) -> str:
        session = Session()
        customer = session.load(number, ORDERS)
        cached.append(customer)
        known = identity[draw.randrange(CUSTOMERS)]
        customer.change("name", known.name.upper())
        for order in customer.orders:
            for item in order.items:
                item.change("price", item.price * 95 // 100)
            order.change("total", sum(item.price for item in order.items))
        known.orders[0].items[0].price = number % 500
        log = "; ".join(session.flush()).encode()
        return json.dumps({"log": hashlib.sha256(log).hexdigest()} | view(customer))

    return job


if __name__ == "__main__":
    serve(build)
