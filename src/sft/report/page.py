"""Run folders -> ``report.html``: one file that needs no network, no server and nothing beside it."""

from __future__ import annotations

import base64
import hashlib
import os
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from sft import __version__
from sft.report import figures
from sft.report.charts import (
    KIND,
    MOST_MARKS,
    count_marks,
    draw_charts,
    draw_marks,
    few_of,
    undrawn_figures,
)
from sft.report.comparing import compare
from sft.report.names import METRICS, PAGE, RECORD, SUMMARY
from sft.report.reading import read_runs
from sft.report.repeating import commands_after, flat, machine_rows, option_rows, plain, train_command
from sft.report.safe import script_json, shown
from sft.report.score_charts import score_charts
from sft.report.side_by_side import FittedAnswers, fit_answers
from sft.report.story import Mark, RunStory
from sft.report.training_data import example_pieces, row_account, rows_of_tokens, source_formats, token_parts
from sft.report.verdict import has_combined, judge

ASSETS = Path(__file__).parent / "assets"
UPLOT = "1.6.32"
"""Version of uPlot, which draws the charts; its licence lies beside it."""

MOST_BYTES = 4_800_000
"""Of a page; answers take what everything else leaves."""

ROOM = 600_000
"""Bytes of a page without charts and answers, and some to spare."""

RENEW_SECONDS = 15
"""Between two looks of an open page at its file."""

MISSING = {
    RECORD: f"There is no {RECORD}: options, data and versions are not recorded.",
    METRICS: f"There is no {METRICS}: no figure of a step is recorded.",
    SUMMARY: f"There is no {SUMMARY} (runs of earlier versions kept none): lengths and examples are not recorded.",
}

MOST_LISTED = 200
"""Incidents in the list of each kind."""


def write_page(runs: Sequence[Path], output: Path) -> Path:
    """Write the page of one run, or of several laid over each other, and return where it is.

    The file is written beside and renamed into place: whoever opens it sees the page before or the new one. While a run
    is not finished, the page in its own folder renews itself in the browser.

    Args:
        runs: output folders of runs; finished, stopped or still going on.
        output: the file; its folder is made where there is none.

    Raises:
        DataError: a folder is not there, or no run.
        OSError: the file cannot be written.
    """
    stories = read_runs([Path(run) for run in runs])
    is_own = len(stories) == 1 and output.resolve() == (stories[0].folder / PAGE).resolve()
    text = render_page(stories, renews=is_own and not stories[0].is_over)
    output.parent.mkdir(parents=True, exist_ok=True)
    beside = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, output)
    finally:
        beside.unlink(missing_ok=True)
    return output


def render_page(stories: Sequence[RunStory], *, renews: bool = False, now: float | None = None) -> str:
    """The page as text.

    Args:
        renews: an open page looks again for a newer one.
        now: seconds since 1970 that it is dated with; None: the clock's.
    """
    written = time.time() if now is None else now
    charts, scores = draw_charts(stories), score_charts(stories)
    curves = _with_visible_names([*charts, *scores])
    budget = max(200_000, MOST_BYTES - ROOM - len(script_json(curves))) // len(stories)
    answers = [fit_answers(story, budget) for story in stories]
    tellings = tell_once([_telling(story, fitted) for story, fitted in zip(stories, answers, strict=True)])
    scripts = [_asset(f"uPlot-{UPLOT}.iife.min.js"), _asset("page.js")]
    styles = [_asset(f"uPlot-{UPLOT}.min.css"), _asset("page.css")]
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            stories=stories,
            is_single=len(stories) == 1,
            tellings=tellings,
            compared=compare(stories, [one["verdict"] for one in tellings]) if len(stories) > 1 else [],
            options=option_rows(stories),
            charts=charts,
            score_charts=scores,
            undrawn=undrawn_figures(stories),
            data=script_json(
                {
                    "written": written,
                    "renews": RENEW_SECONDS if renews else None,
                    "runs": [shown(story.name, 200) for story in stories],
                    "charts": curves,
                    "marks": draw_marks(stories),
                    "counts": count_marks(stories),
                    "answers": [None if fitted is None else fitted.tasks for fitted in answers],
                }
            ),
            title=f"{', '.join(story.name for story in stories)} · run report",
            written=figures.moment(written),
            renews=renews,
            version=__version__,
            uplot=UPLOT,
            styles=[Markup(style) for style in styles],
            scripts=[Markup(script) for script in scripts],
            policy=_policy(scripts, styles),
        )
    )


def tell_once(tellings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with the name of the first run that has the same data, or ran on the same machine, in each."""
    for number, telling in enumerate(tellings):
        before = tellings[:number]
        for name, of in (("same_data", _data_of), ("same_machine", _machine_of)):
            alike = [other["story"].name for other in before if of(other) == of(telling)]
            telling[name] = alike[0] if alike else None
    return tellings


def _data_of(telling: dict[str, Any]) -> Any:
    seen_otherwise = ("cache", "steps", "files", "rows_per_step", "steps_per_epoch")
    plan = {name: value for name, value in telling["plan"].items() if name not in seen_otherwise}
    return plan, telling["data"]


def _machine_of(telling: dict[str, Any]) -> Any:
    return telling["versions"], telling["machine"]


def _telling(story: RunStory, fitted: FittedAnswers | None) -> dict[str, Any]:
    """What the template shows of one run."""
    plan = story.part("plan")
    return {
        "story": story,
        "verdict": judge(story),
        "has_combined": has_combined(story),
        "plan": plan,
        "rows": row_account(plan),
        "eval_rows": row_account(evaluation) if isinstance(evaluation := plan.get("evaluation"), dict) else [],
        "tokens": token_parts(plan),
        "rows_of_tokens": rows_of_tokens(story),
        "data": story.data,
        "formats": source_formats(plan, story.data),
        "examples": [(one, example_pieces(one)) for one in (story.data or {}).get("examples", ())],
        "incidents": _incident_groups(story),
        "answers": fitted,
        "train_command": train_command(story),
        "commands": commands_after(story),
        "versions": flat(story.part("versions")),
        "fingerprints": flat(story.part("fingerprints")),
        "machine": machine_rows(story),
        "missing": [MISSING[name] for name in story.missing],
    }


def _incident_groups(story: RunStory) -> list[tuple[str, int, list[Mark]]]:
    """What happened, by kind: how often, and the marks that are listed."""
    kinds = dict.fromkeys(mark.kind for mark in story.marks)
    grouped = [(shown(kind, KIND), [mark for mark in story.marks if mark.kind == kind]) for kind in kinds]
    return [(kind, len(marks), few_of(marks, min(MOST_LISTED, MOST_MARKS))) for kind, marks in grouped]


def _with_visible_names(charts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The charts with names of figures and runs made harmless: they come from files."""
    texts = ("id", "title", "unit", "said")
    return [
        {
            **chart,
            **{name: shown(str(chart[name]), 400) for name in texts},
            "curves": [
                {**curve, "name": shown(curve["name"], 200)} if "name" in curve else curve for curve in chart["curves"]
            ],
        }
        for chart in charts
    ]


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: shown(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=figures.number,
        fixed=figures.fixed,
        change=figures.change,
        short=figures.short,
        share=figures.share,
        size=figures.size,
        seconds=figures.seconds,
        moment=figures.moment,
        plain=plain,
        commas=", ".join,
        shown=shown,
        breakable=lambda text: escape(shown(text)).replace("_", Markup("_<wbr>")),
    )
    return environment


@lru_cache(maxsize=8)
def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str], styles: Sequence[str]) -> str:
    """What the browser may run and load: these scripts and styles, and nothing else from anywhere."""

    def sources(texts: Sequence[str]) -> str:
        digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    return (
        f"default-src 'none'; script-src {sources(scripts)}; style-src {sources(styles)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
