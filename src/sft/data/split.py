"""A batch in parts by rows."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from sft.data.collate import NOT_TRAINED
from sft.data.documents import Documents, find_documents
from sft.data.types import Batch

BY_ROW = ("input_ids", "labels", "position_ids", "attention_mask", "loss_weights")


def split_batch(batch: Batch, parts: int) -> list[Batch]:
    """At most ``parts`` batches that hold the rows of one, in their order. Their sums of losses add up to its own."""
    rows = batch["input_ids"].shape[0]
    bounds = [chunk for chunk in torch.arange(rows).tensor_split(min(parts, rows)) if len(chunk)]
    return [_rows(batch, int(chunk[0]), int(chunk[-1]) + 1) for chunk in bounds]


def _rows(batch: Batch, first: int, stop: int) -> Batch:
    seq = batch["input_ids"].shape[1]
    part = Batch()
    for name in BY_ROW:
        if name in batch:
            part[name] = batch[name][first:stop]  # type: ignore[literal-required]
    if "trained_slots" in batch:
        slots = batch["trained_slots"]
        inside = (slots >= first * seq) & (slots < stop * seq)
        part["trained_slots"] = slots[inside] - first * seq
        if "trained_groups" in batch:
            part["trained_groups"] = batch["trained_groups"][:, inside]
    is_trained = part["labels"] != NOT_TRAINED
    weights = part.get("loss_weights", torch.ones_like(part["labels"], dtype=torch.float32))
    part["num_trained"] = float(weights[is_trained].sum(dtype=torch.float64))
    spans = _spans(batch, seq)
    part["num_tokens"] = sum(length for start, length in spans if first * seq <= start < stop * seq)
    if "documents" in batch:
        here = [(start - first * seq, length) for start, length in spans if first * seq <= start < stop * seq]
        part["documents"] = _on(find_documents((stop - first) * seq, here), batch["input_ids"].device)
    return part


def _spans(batch: Batch, seq: int) -> list[tuple[int, int]]:
    """First slot and length of each document, padding left out."""
    flat = torch.arange(batch["input_ids"].numel())
    filled = torch.ones(len(flat), dtype=torch.bool)
    if "documents" in batch:
        filled[batch["documents"]["padding"].cpu()] = False
    elif "attention_mask" in batch:
        filled = batch["attention_mask"].flatten().bool().cpu()
    begins = (batch["position_ids"].flatten().cpu() == 0) if "position_ids" in batch else flat % seq == 0
    starts = flat[begins & filled].tolist()
    ends = [*flat[begins].tolist(), len(flat)]
    found = []
    for start in starts:
        end = next(place for place in ends if place > start)
        found.append((start, int(filled[start:end].sum())))
    return found


def _on(documents: Documents, device: torch.device) -> Documents:
    """The same on a device; what is no tensor stays."""
    moved: dict[str, Any] = {}
    for name, value in documents.items():
        values = [one.to(device) for one in value] if isinstance(value, list) else value
        moved[name] = values.to(device) if isinstance(values, Tensor) else values
    return cast(Documents, moved)
