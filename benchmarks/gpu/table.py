"""The part of docs/benchmarks.md on GPUs, from ``results/gpu.jsonl``: one line of JSON for each measurement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gpu.contestants import CONTESTANTS
from gpu.rows import read_lengths
from gpu.shapes import SHAPES, mean_attended

RESULTS = Path(__file__).resolve().parent.parent / "results" / "gpu.jsonl"
NOT_MEASURED = "not measured"
LOSS_TOLERANCE = 0.01
DATASHEET_TFLOPS = 989
"""Dense bfloat16 of an H100 or H200 by its data sheet, the usual base of such shares."""

GOALS = (
    ("8B", "mixed", "lora", 0.60),
    ("0.6B", "alpaca", "full", 0.50),
)
"""Shape, list, method, share of the measured product of matrices."""

TEXT = """\
## On a GPU

`python benchmarks/on_gpu.py` on a machine with one: models of Qwen3's shapes with random weights in bfloat16, three
fixed lists of document lengths (`benchmarks/gpu/lengths.json`), 56 % of the tokens trained (long: all), the same tokens
for all, each contestant in a process of its own, five steps of warm-up, the median of twenty. *Share*: floating point
operations counted (`benchmarks/gpu/shapes.py`; a head on all positions, nothing twice) over those of an 8192-cubed
product measured on the same machine. All use the attention inside torch. Losses of one shape and list must agree with
the plain Trainer's within 1 %.
"""

Row = dict[str, Any]


def read_rows(path: Path = RESULTS) -> list[Row]:
    """All measurements, oldest first."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def key_of(row: Row) -> tuple[str, str, str]:
    """What has to be the same for two rows to be compared."""
    return row["shape"], row["list"], row["method"]


def render(path: Path = RESULTS) -> str:
    """The whole part. What was not measured is called that."""
    rows = read_rows(path)
    measured = [row for row in rows if "shape" in row]
    machine = next((row for row in reversed(rows) if "matmul_tflops" in row), None)
    if not measured:
        goals = "".join(
            f"- {shape} {method} on {name}, at least {least:.0%} of the measured product: {NOT_MEASURED}\n"
            for shape, name, method, least in GOALS
        )
        return f"{TEXT}\nNot measured yet: no GPU was to be had.\n\n{goals}"
    lines = [TEXT]
    if machine is not None:
        lines.append(
            f"{machine['date']}, {machine['device']}: {machine['matmul_tflops']:.0f} TFLOP/s in an 8192-cubed product, "
            f"{machine['copy_tbs']:.1f} TB/s in a copy.\n"
        )
    for key in dict.fromkeys(map(key_of, measured)):
        lines += [
            f"### Qwen3-{key[0]}, {key[2]}, {key[1]}",
            "",
            *table([row for row in measured if key_of(row) == key], machine),
            "",
        ]
    lines += [*goal_lines(measured, machine), "", *versions(measured)]
    return "\n".join(lines)


def table(rows: list[Row], machine: Row | None) -> list[str]:
    """All contestants, those that were not measured too; of several measurements the latest."""
    latest = {row["contestant"]: row for row in rows}
    base = latest.get("Trainer, padded", {}).get("mean_loss")
    headings = [
        "",
        "tokens/s",
        "trained/s",
        "share",
        f"of {DATASHEET_TFLOPS}",
        "peak GiB",
        "first step, s",
        "idle",
        "loss",
    ]
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    for name in CONTESTANTS:
        row = latest.get(name)
        if row is None or "tokens_per_second" not in row:
            why = "" if row is None else f": {row['problem']}"
            lines.append(f"| {name} | {NOT_MEASURED}{why} |" + " |" * (len(headings) - 2))
            continue
        cells = [
            f"{row['tokens_per_second']:,.0f}",
            f"{row['trained_tokens_per_second']:,.0f}",
            percent(share_of(row, machine)),
            percent(tflops_of(row) / DATASHEET_TFLOPS),
            shown(row["peak_gib"], "{:.1f}"),
            shown(row["first_step_seconds"], "{:.1f}"),
            percent(row["idle_share"]),
            loss_cell(row["mean_loss"], base),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def tflops_of(row: Row) -> float:
    """Floating point operations a second, counted by the model's shape and the list's lengths."""
    per_token = SHAPES[row["shape"]].flops_per_token(
        mean_attended(read_lengths(row["list"])), lora=row["method"] == "lora"
    )
    return float(row["tokens_per_second"]) * per_token / 1e12


def share_of(row: Row, machine: Row | None) -> float | None:
    """Of the product of matrices measured on the same machine."""
    return None if machine is None else tflops_of(row) / float(machine["matmul_tflops"])


def goal_lines(rows: list[Row], machine: Row | None) -> list[str]:
    """What ours is held to."""
    lines = []
    for shape, name, method, least in GOALS:
        found = [row for row in rows if key_of(row) == (shape, name, method) and "tokens_per_second" in row]
        ours = [row for row in found if row["contestant"] == "ours"]
        share = share_of(ours[-1], machine) if ours else None
        verdict = "" if share is None else ", reached" if share >= least else ", missed"
        lines.append(
            f"- {shape} {method} on {name}, at least {least:.0%} of the measured product: {percent(share)}{verdict}"
        )
    return lines


def versions(rows: list[Row]) -> list[str]:
    """One line a contestant: date and versions of its latest measurement."""
    latest = {row["contestant"]: row for row in rows}
    return [
        f"- {name}: {row['date']}, {', '.join(f'{package} {number}' for package, number in row['versions'].items())}"
        for name, row in latest.items()
        if row.get("versions")
    ]


def loss_cell(loss: float, base: float | None) -> str:
    """The mean loss, and whether it is another one than the plain Trainer's."""
    differs = base is not None and abs(loss / base - 1) > LOSS_TOLERANCE
    return f"{loss:.3f}{' **differs**' if differs else ''}"


def percent(share: float | None) -> str:
    return NOT_MEASURED if share is None else f"{share:.0%}"


def shown(value: float | None, form: str) -> str:
    return NOT_MEASURED if value is None else form.format(value)
