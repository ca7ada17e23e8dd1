"""Templates that mark what the assistant generates (``{% generation %}``): their word against what was found."""

from __future__ import annotations

from collections.abc import Sequence

from sft.data.answers import snippet
from sft.data.control import ControlTokens


def disagreement(
    text: str, start: int, body_end: int, end: int, marked: Sequence[tuple[int, int]], control: ControlTokens
) -> str | None:
    """Say how the markers differ from an answer that was found, or return None where they agree.

    Whether the token that ends the answer, and white space around it, are marked makes no difference.

    Args:
        text: the rendered conversation.
        start: where the answer begins.
        body_end: where what the data has ends.
        end: just after the token that ends the answer.
        marked: the stretches that the template's markers enclose.
        control: the tokenizer's control tokens.
    """
    here = [span for span in marked if span[0] < end and span[1] > start]
    if not here:
        return f"the answer {snippet(text[start:body_end])} is not marked"
    first, last = here[0][0], here[-1][1]
    if text[min(first, start) : max(first, start)].strip():
        return f"the markers begin with {snippet(text[first:])}, the answer with {snippet(text[start:])}"
    if last < body_end and text[last:body_end].strip():
        return f"the markers leave out {snippet(text[last:body_end])}"
    if last > end and text[end:last].strip():
        return f"the markers reach beyond the answer, over {snippet(text[end:last])}"
    between = text[body_end:last] if last > body_end else ""
    if not control.only_tail(between, 0):
        return f"the markers reach beyond the answer, over {snippet(between)}"
    return None
