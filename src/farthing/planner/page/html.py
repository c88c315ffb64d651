"""HTML that can't be broken by what stands in it: every text that is not HTML already is escaped.

Knows no page.
"""

import html
from collections.abc import Iterable, Mapping

_EMPTY: Mapping[str, str] = {}
_ALONE = frozenset({"meta", "br", "hr", "link"})


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = str | Iterable[str]


def element(kind: str, content: Content = "", attributes: Mapping[str, str] = _EMPTY) -> Html:
    """`kind`: the name, with classes as in CSS: "p.note.faint". Attributes and plain texts are escaped."""
    name, *classes = kind.split(".")
    written = {"class": " ".join(classes), **attributes} if classes else attributes
    opened = "".join(f' {key}="{html.escape(value)}"' for key, value in written.items())
    if name in _ALONE:
        return Html(f"<{name}{opened}>")
    return Html(f"<{name}{opened}>{joined(content)}</{name}>")


def joined(content: Content) -> Html:
    """Parts, one after the other."""
    if isinstance(content, str):
        return content if isinstance(content, Html) else Html(html.escape(content))
    return Html("".join(joined(part) for part in content))


def table(head: Iterable[str], rows: Iterable[Iterable[str]], *, marked: Iterable[int] = ()) -> Html:
    """The first cell of a row names it; rows whose numbers are `marked` stand out. It scrolls where it is too wide."""
    marks = frozenset(marked)
    names = list(head)
    top = element("tr", [element("th", cell, {"scope": "col"}) for cell in names])
    body = []
    for number, row in enumerate(rows):
        first, *others = row
        cells = [element("th", first, {"scope": "row"}), *(element("td", cell) for cell in others)]
        body.append(element("tr.marked" if number in marks else "tr", cells))
    whole = element("table.narrow" if len(names) <= 3 else "table", [element("thead", top), element("tbody", body)])
    return element("div.scroll", whole, {"tabindex": "0"})


def listed(items: Iterable[Content]) -> Html:
    return element("ul", [element("li", item) for item in items])
