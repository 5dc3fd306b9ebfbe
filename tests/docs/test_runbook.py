"""Each alert has its section in the runbook, under the name that links end in."""

import re
import subprocess

from blocks import ROOT
from memguard.alerts import KINDS

RULE = re.compile(r"- alert: (\w+)\n.*?runbook_url: '[^#']*#(\w+)'", re.DOTALL)


def sections() -> dict[str, str]:
    page = (ROOT / "docs" / "runbook.md").read_text()
    parts = re.split(r"^## (\w+)\n", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_alert_of_a_monitor() -> None:
    told = sections()
    assert len(KINDS) == 10
    for kind in KINDS:
        assert re.match(r"\n\*(warning|critical)", told[kind]), kind


def test_every_rule() -> None:
    told = sections()
    tool = ROOT / "build" / "bin" / "memguard"
    rules = subprocess.run(
        [tool, "rules"], capture_output=True, text=True, check=True
    ).stdout
    found = RULE.findall(rules)
    assert len(found) == 18
    for alert, kind in found:
        assert alert in told[kind], alert
    assert set(told) == {*KINDS, *(kind for _, kind in found)}


def test_every_section_says_what_to_look_at_and_do() -> None:
    for name, text in sections().items():
        assert "```sh\n" in text, name
        assert len(text.split()) > 40, name


def test_the_page_of_the_site_has_the_same_places() -> None:
    page = (ROOT / "core" / "web" / "runbook.html").read_text()
    assert re.findall(r'<h2 id="(\w+)">', page) == list(sections())
    links = set(re.findall(r'href="#(\w+)"', page))
    assert "memory_leak" in links
    assert links <= set(sections())
    assert "<!-- sh" not in page
