"""Plans as the command line makes them, and their pages read back: text, tags, attributes."""

from html.parser import HTMLParser

from farthing.models.auto import config_of
from farthing.models.config_reader import ConfigReader
from farthing.models.reference import find_model
from farthing.planner.hardware import Hardware, find_hardware
from farthing.planner.plan import Plan, make_plan
from farthing.planner.request import PlanRequest

DAY = "2026-11-29"
HOSTILE = "<script>alert(1)</script>\"'&{model}$x$"
ALONE = {"meta", "br", "hr", "link"}


def made(model: str, on: str, **asked: object) -> tuple[Plan, ConfigReader, Hardware]:
    request = PlanRequest(on=on, **asked)
    config, hardware = config_of(find_model(model)), find_hardware(request)
    return make_plan(model, config, hardware, request), config, hardware


class Reader(HTMLParser):
    """Text by the section that it stands in, every attribute; that tags close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.tags: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in ALONE:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def assert_needs_nothing_else(html: str) -> None:
    """No script, nothing that is fetched: what is referred to stands in the page itself."""
    reader = read(html)
    assert not reader.tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    for tag, name, value in reader.attributes:
        if name in ("href", "xlink:href"):
            assert value.startswith("#"), f"{tag} {name}={value}"
        assert name not in ("src", "srcset", "action", "data") and not name.startswith("on"), f"{tag} {name}={value}"
        assert "http:" not in value and "https:" not in value, f"{tag} {name}={value}"
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style and "@import" not in style
