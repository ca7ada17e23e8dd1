"""What a notebook shows while it trains: where the run is, its losses as a chart, its last steps as a table."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft.notebook.chart import Curve, draw_chart
from sft.notebook.frame import rows_by_step

SECONDS_BETWEEN = 0.5
"""The view is drawn anew at most so often; each time all of it goes to the browser."""

MOST_ROWS = 8
"""Rows of the table, the latest ones."""

COLUMNS = {
    "step": ("step", ",.0f"),
    "loss": ("loss", ".4f"),
    "eval_loss": ("evaluation loss", ".4f"),
    "learning_rate": ("learning rate", ".2e"),
    "grad_norm": ("gradient norm", ".3g"),
    "trained_tokens": ("trained tokens since the row before", ",.0f"),
    "trained_tokens_per_second": ("trained tokens/s", ",.0f"),
}
"""Logged name -> head of its column, how its numbers are written."""

TABLE = "border-collapse:collapse;color:inherit;font-variant-numeric:tabular-nums"
CELL = "text-align:right;padding:1px 8px"


def in_notebook() -> bool:
    """Whether this is a kernel of Jupyter (JupyterLab, VS Code, Colab, ...) and not a terminal."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def display_html(html: str) -> Callable[[str], None]:
    """Show HTML under the cell that runs; what is returned puts other HTML in its place."""
    from IPython.display import HTML, display

    handle = display(HTML(html), display_id=True)
    return lambda later: handle.update(HTML(later))


class LiveView(TrainerCallback):  # type: ignore[misc]
    """Draws the view after figures were logged. A browser that does not take it costs the view, never the run.

    Args:
        show: puts HTML before people and returns what replaces it.
        say: tells them in words why there is no view.
    """

    def __init__(
        self, show: Callable[[str], Callable[[str], None]] = display_html, say: Callable[[str], object] = print
    ) -> None:
        self._show = show
        self._say = say
        self._replace: Callable[[str], None] | None = None
        self._drawn_at = 0.0
        self._speaks = False
        self._first_step, self._began = 0, 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._speaks = state.is_world_process_zero
        self._first_step, self._began, self._replace = state.global_step, time.monotonic(), None
        self._draw(state)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if time.monotonic() - self._drawn_at >= SECONDS_BETWEEN or state.global_step >= state.max_steps:
            self._draw(state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._draw(state)

    def _draw(self, state: TrainerState) -> None:
        if not self._speaks:
            return
        try:
            done, seconds = state.global_step - self._first_step, time.monotonic() - self._began
            left = seconds / done * (state.max_steps - state.global_step) if done else None
            html = view(state.log_history, step=state.global_step, steps=state.max_steps, seconds_left=left)
            if self._replace is None:
                self._replace = self._show(html)
            else:
                self._replace(html)
        except Exception as error:  # a view is worth no run
            self._speaks = False
            self._say(f"the chart is left out from here on: {type(error).__name__}: {error}. Training goes on.")
        self._drawn_at = time.monotonic()


def view(history: Iterable[Mapping[str, Any]], *, step: int, steps: int, seconds_left: float | None) -> str:
    """All of it as HTML.

    Args:
        history: ``TrainerState.log_history``.
        step: steps that are done, of ``steps``.
    """
    rows = rows_by_step(history)
    curves = (
        Curve(name="loss", colour="#3d85c6", points=points(rows, "loss")),
        Curve(name="evaluation loss", colour="#d9731a", points=points(rows, "eval_loss"), dotted=True),
    )
    head = f"<p style='margin:4px 0'>{escape(headline(rows, step=step, steps=steps, seconds_left=seconds_left))}</p>"
    return f"<div>{head}{draw_chart([one for one in curves if one.points], last_step=steps)}{table(rows)}</div>"


def headline(rows: Sequence[Mapping[str, Any]], *, step: int, steps: int, seconds_left: float | None) -> str:
    """Where the run is, in a line."""
    losses, evaluated = points(rows, "loss"), points(rows, "eval_loss")
    told = [f"step {step:,} of {steps:,}"]
    if losses:
        told.append(f"loss {losses[-1][1]:.4f}")
    if evaluated:
        before = f" ({evaluated[0][1]:.4f} untrained)" if evaluated[0][0] == 0 and len(evaluated) > 1 else ""
        told.append(f"evaluation loss {evaluated[-1][1]:.4f}{before}")
    if seconds_left is not None and step < steps:
        told.append(f"about {math.ceil(seconds_left):,} s left")
    return ", ".join(told)


def points(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[tuple[float, float], ...]:
    """(step, value) of the steps that measured it."""
    return tuple((float(row["step"]), float(row[name])) for row in rows if name in row)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The latest rows, the newest first, with the columns that have something."""
    latest = list(reversed(rows[-MOST_ROWS:]))
    shown = [name for name in COLUMNS if any(name in row for row in latest)]
    if not shown:
        return ""
    heads = "".join(f"<th style='{CELL}'>{COLUMNS[name][0]}</th>" for name in shown)
    lines = (
        "".join(f"<td style='{CELL}'>{_written(row.get(name), COLUMNS[name][1])}</td>" for name in shown)
        for row in latest
    )
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table style='{TABLE}'><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def _written(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
