"""A client for each tenant. Leaky: each adds its handler to one logger."""

import io
import logging
import os

from service import serve

IS_LEAKY = os.environ["LEAK_USE"] == "leaky"


class Client:
    def __init__(self, number: int) -> None:
        self.logger = logging.getLogger("client")
        if IS_LEAKY or not self.logger.handlers:
            handler = logging.StreamHandler(io.StringIO())
            handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
            self.logger.addHandler(handler)
        self.number = number


serve(Client, per_second=200)
