"""A page of ours as HTML: titles, paragraphs, lists, fenced blocks, and in a line code,
emphasis and links. Links that leave the page are told as their text alone, since
nothing else of docs/ lies beside it; unseen comments are left out."""

import re
from collections.abc import Iterator
from html import escape

_COMMENT = re.compile(r"^<!-- .*?-->\n", re.MULTILINE | re.DOTALL)
_FENCED = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(
    r"`(?P<code>[^`]+)`|\[(?P<text>[^\]]+)\]\((?P<link>[^)]+)\)|(?<!\w)\*(?P<soft>[^*]+)\*"
)


def inline(text: str) -> str:
    def shown(part: re.Match[str]) -> str:
        if part["code"]:
            return f"<code>{escape(part['code'], quote=False)}</code>"
        if part["soft"]:
            return f"<em>{part['soft']}</em>"
        if part["link"].startswith("#"):
            return f'<a href="{part["link"]}">{part["text"]}</a>'
        return part["text"]

    # Quotes and apostrophes need no escape where no attribute is.
    parts, at = [], 0
    for part in _INLINE.finditer(text):
        parts += [escape(text[at : part.start()], quote=False), shown(part)]
        at = part.end()
    return "".join([*parts, escape(text[at:], quote=False)])


def block(text: str) -> Iterator[str]:
    if title := re.match(r"(#+) (.+)", text):
        level, name = len(title[1]), inline(title[2])
        yield f'<h{level} id="{title[2].lower().replace(" ", "-")}">{name}</h{level}>\n'
    elif text.startswith("- "):
        yield "<ul>\n"
        for item in re.split(r"^- ", text, flags=re.MULTILINE)[1:]:
            yield f"<li>{inline(' '.join(item.split()))}</li>\n"
        yield "</ul>\n"
    else:
        yield f"<p>{inline(' '.join(text.split()))}</p>\n"


def body(page: str) -> Iterator[str]:
    """The page's elements, one after the other."""
    for number, part in enumerate(_FENCED.split(_COMMENT.sub("", page))):
        if number % 2:
            yield f"<pre>{escape(part, quote=False)}</pre>\n"
            continue
        for text in re.split(r"\n{2,}", part.strip()):
            if text:
                yield from block(text)
