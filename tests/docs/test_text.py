"""What stands in the text of pages between the blocks: commands, options and figures."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from page_blocks import PAGES, ROOT, relative
from test_blocks import known_flags

from sft.cli.main import VERBS

README = (ROOT / "README.md").read_text(encoding="utf-8")


def without_blocks(page: Path) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_commands_within_sentences_take_what_they_are_given(page: Path) -> None:
    """`sft VERB --flag` in a sentence: the verb is there, and so is the flag."""
    if relative(page) == "CHANGELOG.md":
        return  # it tells of what was
    for span in re.findall(r"(?<!`)`(sft [^`]+)`(?!`)", without_blocks(page)):
        words = shlex.split(" ".join(span.split()))
        if "--dialect" in words or words[1] in ("VERB", "--help", "--version"):
            continue
        assert words[1] in VERBS, span
        flags = [word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)]
        assert [flag for flag in flags if flag not in {*known_flags(words[1]), "--help"}] == [], span


def test_contents_name_each_page_once() -> None:
    listed = re.findall(
        r"^- \[[^]]+\]\((\S+\.md)\)", (ROOT / "docs" / "index.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(listed) == len(set(listed))
    there = {relative(page) for page in PAGES} - {"README.md", "docs/index.md"}
    assert {relative((ROOT / "docs" / name).resolve()) for name in listed} == there


def test_programs_within_sentences_exist() -> None:
    """`python some/file.py`, in a sentence or indented: the file is there."""
    named = {
        (relative(page), name)
        for page in PAGES
        for name in re.findall(r"(?:`|^    )python (\S+\.py)", without_blocks(page), re.MULTILINE)
    }
    assert len(named) > 5
    places = {name: [ROOT / name, (ROOT / page).parent / name] for page, name in named}
    assert [name for name, found in places.items() if not any(path.exists() for path in found)] == []


def rows_beside_others() -> list[tuple[list[str], str]]:
    table = README.split("<!-- peers -->")[1].split("<!-- end of peers -->")[0]
    rows = [line.strip("| ").split(" | ") for line in table.strip().splitlines()[2:]]
    return [(row[1:-1], re.findall(r"\((.+)\)", row[-1])[0]) for row in rows]


@pytest.mark.parametrize(("cells", "link"), rows_beside_others(), ids=lambda value: str(value)[:40])
def test_figures_of_the_readme_stand_where_it_says(cells: list[str], link: str) -> None:
    page, _, anchor = link.partition("#")
    sections = re.split(r"^#+ ", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    (section,) = [one for one in sections if slug(one.splitlines()[0] if one else "") == anchor]
    section = re.sub(r"\([^()]* to [^()]*\)", "", section)  # the rounds, beside each median
    figures = [figure for cell in cells for figure in re.findall(r"\d[\d,.]*(?: of \d+)?", cell)]
    assert len(figures) >= 2
    for figure in figures:
        assert re.search(rf"(?<![\d.,]){re.escape(figure)}(?![\d.,]*\d)", section), f"{figure} is not in {link}"


def slug(heading: str) -> str:
    """The anchor that renderers of Markdown give a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")
