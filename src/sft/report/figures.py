"""Numbers, times and sizes for people. Beside each number the page keeps the exact one."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from typing import Any

from markupsafe import Markup, escape

ABSENT = Markup('<span class="absent">not recorded</span>')


def spoken(value: Any, digits: int = 4) -> str:
    """A number in so many significant digits, thousands apart; whole numbers in full."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "not a number"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    size = abs(value)
    if size >= 10 ** (digits - 1):
        return f"{value:,.{1 if size < 1e5 else 0}f}"
    if size < 1e-3:
        return f"{value:.{digits - 1}e}"
    decimals = digits if size < 1 else max(0, digits - math.floor(math.log10(size)) - 1)
    return f"{value:.{decimals}f}".rstrip("0").rstrip(".")


def number(value: Any, digits: int = 4) -> Markup:
    """A number as an element that also carries the exact one; absent where there is none."""
    if value is None:
        return ABSENT
    if not isinstance(value, int | float):
        return escape(str(value))
    return Markup('<data value="{}">{}</data>').format(exact(value), spoken(value, digits))


def fixed(value: Any, decimals: int = 4) -> Markup:
    """The same with so many decimals, for columns."""
    if value is None:
        return ABSENT
    return Markup('<data value="{}">{}</data>').format(exact(value), f"{value:,.{decimals}f}")


def short(value: Any) -> Markup:
    """The same with at most two decimals."""
    if value is None:
        return ABSENT
    return Markup('<data value="{}">{}</data>').format(exact(value), f"{value:,.2f}".rstrip("0").rstrip("."))


def change(value: float | None, decimals: int = 4) -> Markup:
    """A difference, with its sign."""
    if value is None:
        return Markup('<span class="absent">not compared</span>')
    sign = "up" if value > 0 else "down" if value < 0 else "same"
    return Markup('<data class="change {}" value="{}">{}</data>').format(sign, exact(value), f"{value:+,.{decimals}f}")


def share(value: float | None) -> Markup:
    """A share of 1 in percent."""
    if value is None:
        return ABSENT
    return Markup('<data value="{}">{}</data>').format(exact(value), f"{value:.1%}")


def exact(value: float) -> str:
    """A number that reads back as the same."""
    return repr(value)


def size(value: Any) -> Markup:
    """Bytes, in the decimal units that the terminal speaks too."""
    if value is None:
        return ABSENT
    units = ("bytes", "kB", "MB", "GB", "TB")
    power = min(len(units) - 1, int(math.log10(max(abs(value), 1)) / 3))
    text = f"{value:,} bytes" if power == 0 else f"{value / 1000**power:,.2f} {units[power]}"
    return Markup('<data value="{}">{}</data>').format(exact(value), text)


def seconds(value: Any) -> Markup:
    """A duration."""
    if value is None:
        return ABSENT
    whole = round(value)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        text = f"{hours:,} h {minutes:02d} min"
    elif minutes:
        text = f"{minutes} min {whole % 60:02d} s"
    else:
        text = f"{value:.1f} s"
    return Markup('<data value="{}">{}</data>').format(exact(value), text)


def moment(value: float | None) -> str:
    """Seconds since 1970 as a date and a time."""
    return (
        "not recorded" if value is None else datetime.fromtimestamp(value, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    )
