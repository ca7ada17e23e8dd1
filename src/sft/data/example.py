"""Text and its trained stretches -> Example: token ids, loss mask and weights, checked against the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sft.data.answers import snippet
from sft.data.control import Uncovered
from sft.data.encode import Encoded, Encoder
from sft.data.types import Example, Source
from sft.errors import RowError


@dataclass(frozen=True, slots=True)
class Stretch:
    """Characters of a text that are trained."""

    turn: int
    """Index of the message they belong to; -1 for plain text."""
    start: int
    """Where the prompt ends."""
    body_end: int
    """Where what the data has ends."""
    end: int
    """Just after the token that ends the turn."""
    weight: float
    is_answer: bool = True


def make_example(
    encoder: Encoder,
    written: Uncovered,
    stretches: Sequence[Stretch],
    source: Source,
    *,
    turn: int | None = None,
    is_exact: bool = True,
    begins_at: int = 0,
) -> tuple[Example, bool]:
    """Encode a text and mask it.

    Args:
        encoder: of the tokenizer.
        written: the text, which ``stretches`` count before its special-token texts were put back.
        stretches: what is trained, ascending.
        source: where the row came from.
        turn: set when a conversation was split.
        is_exact: whether every stretch must begin and end at a token of its own (not where everything is trained).
        begins_at: where the text proper begins, after a token put before it.

    Returns:
        The example, and whether a token straddled the border of a prompt.

    Raises:
        RowError: the tokenizer cannot write the text, or nothing of it is trained.
    """
    spans = [(written.position(stretch.start), written.position(stretch.end)) for stretch in stretches]
    borders, ends = _borders(written.text, stretches, spans, encoder) if is_exact else ([], [])
    try:
        encoded = encoder.encode(written.text, owned=written.owned, borders=borders, ends=ends, begins_at=begins_at)
    except UnicodeEncodeError as error:
        raise RowError(source, "the text is no valid Unicode", f"It holds {error.object[error.start]!a}") from error
    except ValueError as error:
        raise RowError(source, str(error), "Set allow_special_tokens to let it act") from error
    ids = np.array(encoded.ids, dtype=np.int32)
    mask = np.zeros(len(ids), dtype=np.uint8)
    is_weighted = any(stretch.weight != 1 for stretch in stretches)
    weights = np.ones(len(ids), dtype=np.float32) if is_weighted else None
    trained_text = []
    for stretch, (start, end) in zip(stretches, spans, strict=True):
        first, last = max(encoded.token_at(start), 1), encoded.token_at(end)
        mask[first:last] = 1
        if weights is not None:
            weights[first:last] = stretch.weight
        if first >= last:
            raise RowError(source, "no trained tokens: what is trained is the first token, which nothing precedes")
        text = written.text[start:end] if start else encoder.decode(encoded.ids[first:last])
        trained_text.append(text)
        if is_exact:
            _check_stretch(encoder, encoded.ids[first:last], text, stretch, source)
    if (encoded.is_apart or not is_exact) and not encoder.writes(encoded.ids, written.text):
        raise _cannot_write(source, written.text)
    example = Example(
        input_ids=ids,
        loss_mask=mask,
        text=written.text,
        source=source,
        turn=turn,
        weights=weights,
        trained_text=tuple(trained_text),
        trained_turns=tuple(stretch.turn for stretch in stretches),
    )
    return example, _is_straddled(encoded, borders)


def _borders(
    text: str, stretches: Sequence[Stretch], spans: Sequence[tuple[int, int]], encoder: Encoder
) -> tuple[list[int], list[int]]:
    """Where prompts end, and where stretches end. An end without a control token is a border, too."""
    borders = [start for start, _ in spans]
    ends = [end for _, end in spans]
    for stretch, end in zip(stretches, ends, strict=True):
        if not stretch.is_answer and not text.endswith(encoder.control.texts, 0, end):
            borders.append(end)
    return borders, ends


def _check_stretch(encoder: Encoder, ids: Sequence[int], text: str, stretch: Stretch, source: Source) -> None:
    if not encoder.writes(ids, text):
        raise _cannot_write(source, text)
    if stretch.is_answer and ids[-1] not in encoder.control_ids:
        raise RowError(source, "an answer does not end with a special token", f"It ends {snippet(text, end=True)}")


def _is_straddled(encoded: Encoded, borders: Sequence[int]) -> bool:
    return encoded.is_apart and any(piece.start in borders for piece in encoded.pieces[1:])


def _cannot_write(source: Source, text: str) -> RowError:
    return RowError(source, "the tokenizer cannot write the text", f"Its tokens do not decode to {snippet(text)}")
