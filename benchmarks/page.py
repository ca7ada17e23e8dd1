"""Makes docs/benchmarks.md from the files in ``results/``; nothing on the page is written by hand.

python benchmarks/page.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rounds import Figures, Result, column, read_result, spread
from sections import SECTIONS, Column, Section, middle, quotient

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
QUIET_LOAD = 1.0
"""Load average per core up to which a machine counts as quiet: a contestant that has just ended is in it."""

HEADING = """\
# Benchmarks

Ours beside other programs: same rows, model and settings, each program in an environment of its own with pinned
versions (`benchmarks/environments/`), in turns, going forth and back. A figure is the median, in parentheses the
smallest and largest of the rounds. Ratios compare medians; **read a ratio below 1.25 as equal**. What happens on a CPU
says little about GPUs, which have a part of their own at the end. `make bench` runs everything again and writes this
page; a program whose environment is missing is left out with the reason.
"""


def render_page() -> str:
    """The whole page."""
    parts = [HEADING]
    for section in SECTIONS:
        parts.append(f"## {section.title}\n\n{wrapped(section.text)}\n\n    {section.command}\n")
        result = read_result(section.name)
        parts.append("Not measured yet.\n" if result is None else render_result(section, result))
    parts.append(render_gpu())
    return "\n".join(parts)


def render_result(section: Section, result: dict[str, Any]) -> str:
    """Tables, goals, versions and notes of one benchmark."""
    lines = []
    for title, part in result["parts"].items():
        lines += [f"### {title}" if len(result["parts"]) > 1 else f"{title}:", "", *table(section, part), ""]
        lines += [f"- {name}: **computed something else**: {what}" for name, what in part.get("disagree", {}).items()]
        lines += [f"- {name}: left out, {why}" for name, why in part["skipped"].items()]
        lines += [""] if part.get("disagree") or part["skipped"] else []
    lines += goals(section, result["parts"])
    lines += [wrapped(footnote(result)), ""]
    return "\n".join(lines)


def table(section: Section, part: Result) -> list[str]:
    """A contestant a row; ratios where ours is among them."""
    measured: dict[str, list[Figures]] = part["measured"]
    first = section.columns[0]
    base = middle(part, section.baseline, first.key)
    headings = ["", *(one.heading for one in section.columns), *(["ours is better by"] if base else [])]
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    for name, found in measured.items():
        cells = [cell(found, one, with_spread=one is first) for one in section.columns]
        if base:
            own = middle(part, name, first.key)
            ratio = quotient(base, own) if section.more_is_better else quotient(own, base)
            cells.append("" if name == section.baseline or ratio is None else f"{ratio:.1f}")
        lines.append(f"| {' | '.join([name, *cells])} |")
    return lines


def cell(found: Sequence[Figures], of: Column, *, with_spread: bool) -> str:
    """A median, and how far the rounds lie apart."""
    values = column(found, of.key)
    if not values:
        return "not measured"
    median, least, most = (of.form.format(value) for value in spread(values))
    return f"{median} ({least} to {most})" if with_spread and len(values) > 1 else median


def goals(section: Section, parts: dict[str, Result]) -> list[str]:
    """What was asked for, and what was reached."""
    if not section.goals:
        return []
    lines = ["| held to | reached | |", "|---|---|---|"]
    for goal in section.goals:
        value = goal.value(parts)
        reached = "not measured" if value is None else f"{value:.2f}"
        lines.append(f"| {goal.text} | {reached} | {'' if value is None else 'yes' if value >= goal.least else 'no'} |")
    return [*lines, ""]


def footnote(result: dict[str, Any]) -> str:
    """Date, machine, versions, rounds and noise of all parts."""
    parts = list(result["parts"].values())
    versions: dict[str, dict[str, str]] = {}
    for part in parts:
        for name, found in part["measured"].items():
            versions.setdefault(name, found[-1].get("versions", {}))
    told = "; ".join(
        f"{name}: {', '.join(f'{package} {number}' for package, number in found.items())}"
        for name, found in versions.items()
        if found
    )
    when = " and ".join(sorted({f"{part['date']}, {part['machine']}" for part in parts}))
    count = " and ".join(sorted({str(part["rounds"]) for part in parts}))
    noise = " Other work ran beside it: trust the ratios, not the seconds." if any(map(was_busy, parts)) else ""
    return f"{when}; rounds: {count}.{noise}{f' {told}.' if told else ''}"


def was_busy(part: Result) -> bool:
    """Whether more ran on the machine than one contestant after the other."""
    cores = int(str(part["machine"]).split()[0])
    return max(part["load_before_each"], default=0.0) > QUIET_LOAD * cores


def render_gpu() -> str:
    """The part on GPUs, from what ``benchmarks/gpu`` wrote."""
    from gpu.table import render

    return render()


def wrapped(text: str) -> str:
    """In lines of at most 120 characters."""
    import textwrap

    return "\n".join(textwrap.wrap(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False))


def main() -> None:
    """Write the page."""
    PAGE.write_text(render_page().rstrip() + "\n", encoding="utf-8")
    print(f"wrote {PAGE.relative_to(PAGE.parent.parent)}")


if __name__ == "__main__":
    main()
