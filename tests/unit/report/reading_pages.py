"""A page taken apart as a browser would, without one."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "link", "input", "br", "wbr", "img"}


@dataclass
class Element:
    name: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    @property
    def words(self) -> str:
        return " ".join(self.text.split())

    def all(self, name: str, **wanted: str) -> list[Element]:
        found = [self] if self.name == name and wanted.items() <= self.attributes.items() else []
        return found + [
            one for child in self.children if isinstance(child, Element) for one in child.all(name, **wanted)
        ]

    def classed(self, name: str) -> list[Element]:
        found = [self] if name in self.attributes.get("class", "").split() else []
        return found + [one for child in self.children if isinstance(child, Element) for one in child.classed(name)]

    def part(self, identity: str) -> Element:
        (found,) = [one for name in ("section", "details") for one in self.all(name, id=identity)]
        return found

    def numbers(self) -> list[float]:
        """The exact values of every number that is shown."""
        return [float(one.attributes["value"]) for one in self.all("data")]

    def rows(self) -> dict[str, list[str]]:
        """A table's rows by their head."""
        found = {}
        for row in self.all("tr"):
            cells = [child for child in row.children if isinstance(child, Element)]
            found[cells[0].words] = [cell.words for cell in cells[1:]]
        return found


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("root", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].name == tag, f"</{tag}> closes <{self.open[-1].name}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


@dataclass
class Page:
    """A page's elements, the data in it, and what it lets run."""

    text: str
    root: Element
    data: dict[str, Any]

    def chart(self, metric: str) -> dict[str, Any]:
        (found,) = [chart for chart in self.data["charts"] if chart["id"] == metric]
        return found

    def refuse_foreign_scripts(self) -> None:
        """Every script and style is one that the page's policy names, and no element has code of its own."""
        (policy,) = [one.attributes["content"] for one in self.root.all("meta") if "http-equiv" in one.attributes]
        allowed = set(re.findall(r"'sha256-([^']+)'", policy))
        running = [one for one in self.root.all("script") if one.attributes.get("type") != "application/json"]
        texts = [one.text for one in [*running, *self.root.all("style")]]
        assert {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts} == allowed
        assert len(running) == 2
        for element in every(self.root):
            assert not [name for name in element.attributes if name.startswith("on") or name == "style"], element.name
            assert element.name not in ("iframe", "object", "embed", "img", "base", "form2", "math")
            assert not element.attributes.get("href", "#").startswith("javascript")


def every(element: Element) -> list[Element]:
    return [element, *(one for child in element.children if isinstance(child, Element) for one in every(child))]


def read_page(text: str) -> Page:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == [reader.root], f"not closed: {[one.name for one in reader.open]}"
    (data,) = reader.root.all("script", id="page-data")
    return Page(text, reader.root, json.loads(data.text))
