"""A proxy copies headers and looks at them."""

from multidict import CIMultiDict
from service import serve


def forward(number: int) -> None:
    headers = CIMultiDict({"Host": "example", "X-Request-Id": str(number)})
    headers.update({"Via": "proxy"})
    assert "via" in headers
    list(headers.items()), list(headers.keys()), list(headers.values())


serve(forward, per_second=1000)
