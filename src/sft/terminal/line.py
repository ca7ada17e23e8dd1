"""What the line that changes is made of: what is done, a bar, and figures, as many as there is room for."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sft.terminal.plain import num_columns

GAP = "  "
SHORTEST_BAR, LONGEST_BAR = 6, 30


def compose(head: str, share: float | None, figures: Sequence[tuple[int, str]], width: int) -> str:
    """One line of at most ``width`` columns, unless the head alone is wider.

    Args:
        head: what is done and how far it is; always shown.
        share: done of all, from 0 to 1; no bar without it.
        figures: rank (the highest goes first where room is short) and text, in the order in which they are shown.
        width: columns.
    """
    shown: list[tuple[int, str]] = []
    room = width - num_columns(head)
    for rank, text in sorted((figure for figure in figures if figure[1]), key=lambda figure: figure[0]):
        room -= len(GAP) + num_columns(text)
        if room < 0:
            break
        shown.append((rank, text))
    room = width - sum(num_columns(text) + len(GAP) for _, text in shown) - num_columns(head) - len(GAP)
    bar = "" if share is None or room < SHORTEST_BAR else draw_bar(share, min(room, LONGEST_BAR))
    return GAP.join([head, *([bar] if bar else []), *(figure[1] for figure in figures if figure in shown)])


def draw_bar(share: float, width: int) -> str:
    """A bar that is filled as far as ``share`` of 1."""
    done, left = ("━", "─") if writes_all_characters() else ("#", "-")
    filled = round(min(max(share, 0.0), 1.0) * width)
    return done * filled + left * (width - filled)


def clock(seconds: float | None) -> str:
    """'02:14', '1:02:14'; '--:--' where it is not known."""
    if seconds is None:
        return "--:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def writes_all_characters() -> bool:
    """Whether standard error can write what is not ASCII."""
    return "utf" in (getattr(sys.stderr, "encoding", None) or "").lower().replace("-", "")
