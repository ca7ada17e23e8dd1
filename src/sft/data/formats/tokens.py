"""Rows that were made into tokens elsewhere: `input_ids`, and beside them `labels` and `attention_mask`.

Nothing is rendered: the ids are the example. Labels repeat the id of a trained token and are -100 elsewhere, as
transformers has them (not shifted). Slots at either end that the attention mask closes are padding and left out.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from sft.data.formats.build import read_row_switches
from sft.data.formats.fields import describe, parsed, refuse, shorten
from sft.data.formats.options import FormatOptions
from sft.data.types import Conversation, Row, TokenRow

IDS, LABELS, ATTENTION = "input_ids", "labels", "attention_mask"
UNTRAINED = -100
LARGEST_ID = 2**31 - 1

Numbers = npt.NDArray[np.int64]


def convert_tokens(row: Row, options: FormatOptions) -> Conversation:
    """The ids are kept as they are; where there are no labels, it is left to ``train_on`` whether all are trained."""
    ids = _whole_numbers(row, IDS)
    if ids is None:
        refuse(row, f"no column {IDS!r}", f"Its columns are {', '.join(map(repr, row.values)) or 'none'}")
    if ids.size and not (ids.min() >= 0 and ids.max() <= LARGEST_ID):
        refuse(row, f"{IDS!r} holds what is no token id", f"Found {ids.min() if ids.min() < 0 else ids.max()}")
    labels, attention = _whole_numbers(row, LABELS), _whole_numbers(row, ATTENTION)
    for name, values in ((LABELS, labels), (ATTENTION, attention)):
        if values is not None and len(values) != len(ids):
            refuse(row, f"{name!r} is not as long as {IDS!r}", f"{len(values)} and {len(ids)} numbers")
    kept = _without_padding(row, attention) if attention is not None else slice(None)
    ids, labels = ids[kept], None if labels is None else labels[kept]
    if not len(ids):
        refuse(row, "no tokens", f"{IDS!r} is empty, or padding alone")
    weight, is_trained, _ = read_row_switches(row, options)
    return Conversation(
        messages=(),
        source=row.source,
        tokens=TokenRow(ids.astype(np.int32), None if labels is None else _mask(row, ids, labels)),
        weight=weight if is_trained else 0.0,
    )


def refuse_pair(row: Row, options: FormatOptions) -> NoReturn:
    """Stage dpo renders two answers to one prompt; rows of ids have one sequence."""
    refuse(row, "token ids, where stage dpo compares two answers", "Give prompt, chosen and rejected as text")


def _whole_numbers(row: Row, column: str) -> Numbers | None:
    """A column of whole numbers; None where the row has none."""
    value: Any = row.values.get(column)
    if value is None:
        return None
    value = parsed(row, value, column)
    if not isinstance(value, list | tuple):
        refuse(row, f"{column!r} is {describe(value)}, not a list of whole numbers", f"Found {shorten(value)}")
    if not all(type(number) is int for number in value):
        odd = next(number for number in value if type(number) is not int)
        refuse(row, f"{column!r} is not a list of whole numbers", f"Found {shorten(odd)} in it")
    try:
        return np.array(value, np.int64)
    except OverflowError:
        refuse(row, f"{column!r} holds a number that is too large", f"Found {shorten(max(value, key=abs))}")


def _without_padding(row: Row, attention: Numbers) -> slice:
    """The stretch of ones."""
    open_slots = np.flatnonzero(attention)
    if not np.isin(attention, (0, 1)).all():
        refuse(row, f"{ATTENTION!r} holds other numbers than 0 and 1", "Packed rows cannot be read; give one row each")
    if not len(open_slots):
        return slice(0, 0)
    start, stop = int(open_slots[0]), int(open_slots[-1]) + 1
    if stop - start != len(open_slots):
        refuse(row, f"{ATTENTION!r} is 0 between tokens", "Padding stands before the tokens or after them")
    return slice(start, stop)


def _mask(row: Row, ids: Numbers, labels: Numbers) -> npt.NDArray[np.uint8]:
    trained = labels != UNTRAINED
    wrong = np.flatnonzero(trained & (labels != ids))
    if len(wrong):
        place = int(wrong[0])
        refuse(
            row,
            f"a label is neither its token's id nor {UNTRAINED}",
            f"Number {place + 1}: id {ids[place]}, label {labels[place]}. Labels are not shifted",
        )
    return np.asarray(trained, np.uint8)
