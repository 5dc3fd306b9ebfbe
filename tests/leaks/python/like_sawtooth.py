"""Events are collected and written in batches, now and then."""

import json

from service import serve

BATCH: list[dict] = []


def handle(number: int) -> None:
    BATCH.append({"event": number, "text": f"event {number} " * 30})
    if len(BATCH) == 9000:
        json.dumps(BATCH)
        BATCH.clear()


serve(handle, per_second=1500)
