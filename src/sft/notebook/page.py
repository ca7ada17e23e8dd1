"""The page of a run inside a notebook: in a frame of its own, so that neither's styles and scripts touch the other."""

from __future__ import annotations

from html import escape
from pathlib import Path

HEIGHT = 720
"""Pixels of the frame."""


def framed(page: Path) -> str:
    """The page as an inline frame: it needs no server, and its scripts can reach nothing outside of it."""
    text = escape(page.read_text(encoding="utf-8"), quote=True)
    style = f"width:100%;height:{HEIGHT}px;border:1px solid #8884"
    frame = f'<iframe srcdoc="{text}" sandbox="allow-scripts" title="the page of the run" style="{style}"></iframe>'
    return f"<div>{frame}</div>"
