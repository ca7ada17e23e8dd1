"""The fenced blocks of a page, each with its language, and the name of the file that the page says it is."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = "yaml|yml|json|jsonl|toml|csv|jinja|py|sh"


def relative(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "recipes/**/README.md", "examples/**/*.md")
    for page in ROOT.glob(pattern)
    if not relative(page).startswith("docs/_")
)
"""Every page that people read."""


@dataclass(frozen=True)
class Block:
    """What stands between two fences."""

    language: str
    text: str
    line: int
    """Of the opening fence."""

    file: str | None
    """What the page calls it: a comment in its first line (# my.yaml), or the last name of that kind before it."""

    def commands(self) -> Iterator[str]:
        """The lines of a shell block, continued ones joined, comments left out."""
        for line in self.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield shlex.join(words)


def blocks_of(page: Path) -> list[Block]:
    lines = page.read_text(encoding="utf-8").splitlines()
    found, start = [], None
    for number, line in enumerate(lines):
        fence = re.match(r"^ *(```+|:::+)(.*)$", line)
        if fence is None:
            continue
        if start is None:
            start, language = number, fence[2].strip()
        elif not fence[2].strip():
            inside = lines[start + 1 : number]
            found.append(Block(language, "\n".join([*inside, ""]), start + 1, called(language, inside, lines[:start])))
            start = None
    assert start is None, f"{page}:{start}: a fence that is never closed"
    return found


def called(language: str, inside: list[str], before: list[str]) -> str | None:
    first = re.match(rf"(?:#|//) ([\w./-]+\.(?:{FILES}))$", inside[0] if inside else "")
    if first:
        return first[1]
    paragraph: list[str] = []
    for line in reversed(before):
        if not line.strip():
            if paragraph:
                break
            continue
        paragraph.insert(0, line)
    names = re.findall(rf"`([\w./-]+\.(?:{FILES}))`", " ".join(paragraph))
    fitting = [name for name in names if name.rpartition(".")[2].replace("yml", "yaml") == language]
    return fitting[-1] if fitting else None
