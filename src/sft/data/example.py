"""Text and its trained stretches -> Example: token ids, loss mask and weights, checked against the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sft.data.answers import snippet
from sft.data.control import Uncovered
from sft.data.encode import Encoded, Encoder
from sft.data.types import Example, Source
from sft.errors import RowError

NOTHING_PRECEDES = "no trained tokens: what is trained is the first token, which nothing precedes"


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
    encoded = _encode(encoder, written, source, borders=borders, ends=ends, begins_at=begins_at)
    mask, weights, texts = _mask(encoder, encoded, written.text, stretches, spans, source, is_exact=is_exact)
    if (encoded.is_apart or not is_exact) and not encoder.writes(encoded.ids, written.text):
        raise _cannot_write(source, written.text)
    example = Example(
        input_ids=np.array(encoded.ids, dtype=np.int32),
        loss_mask=mask,
        text=written.text,
        source=source,
        turn=turn,
        weights=weights,
        trained_text=texts,
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


def _encode(
    encoder: Encoder, written: Uncovered, source: Source, *, borders: list[int], ends: list[int], begins_at: int
) -> Encoded:
    try:
        return encoder.encode(written.text, owned=written.owned, borders=borders, ends=ends, begins_at=begins_at)
    except UnicodeEncodeError as error:
        raise RowError(source, "the text is no valid Unicode", f"It holds {error.object[error.start]!a}") from error
    except ValueError as error:
        raise RowError(source, str(error), "Set allow_special_tokens to let it act") from error


def _mask(
    encoder: Encoder,
    encoded: Encoded,
    text: str,
    stretches: Sequence[Stretch],
    spans: Sequence[tuple[int, int]],
    source: Source,
    *,
    is_exact: bool,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32] | None, tuple[str, ...]]:
    """Of each token whether it is trained, and its weight where they are not all 1; of each stretch its text."""
    mask = np.zeros(len(encoded.ids), dtype=np.uint8)
    is_weighted = any(stretch.weight != 1 for stretch in stretches)
    weights = np.ones(len(encoded.ids), dtype=np.float32) if is_weighted else None
    texts = []
    for stretch, (start, end) in zip(stretches, spans, strict=True):
        first, last = max(encoded.token_at(start), 1), encoded.token_at(end)
        mask[first:last] = 1
        if weights is not None:
            weights[first:last] = stretch.weight
        if first >= last and is_exact:
            raise RowError(source, NOTHING_PRECEDES)
        texts.append(text[start:end] if start else encoder.decode(encoded.ids[first:last]))
        if is_exact:
            _check_stretch(encoder, encoded.ids[first:last], texts[-1], stretch, source)
    if not mask.any():
        raise RowError(source, NOTHING_PRECEDES)
    return mask, weights, tuple(texts)


def _check_stretch(encoder: Encoder, ids: Sequence[int], text: str, stretch: Stretch, source: Source) -> None:
    if not encoder.writes(ids, text):
        raise _cannot_write(source, text)
    if stretch.is_answer and ids[-1] not in encoder.control_ids:
        raise RowError(source, "an answer does not end with a special token", f"It ends {snippet(text, end=True)}")


def _is_straddled(encoded: Encoded, borders: Sequence[int]) -> bool:
    return encoded.is_apart and any(piece.start in borders for piece in encoded.pieces[1:])


def _cannot_write(source: Source, text: str) -> RowError:
    return RowError(source, "the tokenizer cannot write the text", f"Its tokens do not decode to {snippet(text)}")
