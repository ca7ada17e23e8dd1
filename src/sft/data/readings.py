"""What is read for training and for evaluation.

Where every row is wanted once, rows are read as they stand: a lane for each segment of a file, or for each file. Where
some are chosen, they are all read beforehand to be counted, and one lane brings those that were chosen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sft.config import SFTConfig
from sft.data.census import Census
from sft.data.choice import choose_some, hold_out
from sft.data.conversations import MoreRows, OpenSource, open_sources
from sft.data.lanes import Lane, PartLane, Reading, SegmentLane, SourceLane
from sft.data.report import DataReport
from sft.data.sources import SourceSpec, parse_sources
from sft.data.sources.segments import cut_part


def open_readings(config: SFTConfig, more: MoreRows | None = None) -> dict[str, Reading]:
    """What is read for training and, where there is any, for evaluation.

    Raises:
        DataError: rows had to be counted beforehand, and too many of them are bad, or none is left.
    """
    train = _sources(config, config.data_path)
    if config.eval_data_path is not None:
        evaluation = _sources(config, config.eval_data_path, "eval_data_path")
        readings = _open_train(train, config, more, 0)
        return {**readings, "eval": _open_all(evaluation, config)}
    return _open_train(train, config, more, config.validation_size or 0)


def _open_all(sources: Sequence[OpenSource], config: SFTConfig) -> Reading:
    """Every row that the sources give."""
    if config.deduplicate or any(source.spec.weight != 1 or source.spec.sample for source in sources):
        census = Census.of(sources, config)
        chosen, account = census.weighed(config)
        return census.reading(chosen, account)
    account = DataReport(contaminated=config.allow_contamination)
    lanes: list[Lane] = []
    for source in sources:
        if source.spec.limit is not None:
            source.parts(account.notes)
            lanes.append(SourceLane(source))
            continue
        for part in source.parts(account.notes):
            segments = cut_part(part)
            lanes += [SegmentLane(segment, source.options) for segment in segments] or [PartLane(part, source.options)]
    return Reading(lanes, account, [source.spec for source in sources])


def _open_train(
    sources: Sequence[OpenSource], config: SFTConfig, more: MoreRows | None, held_out: float
) -> dict[str, Reading]:
    if more is None and config.max_train_samples is None and not held_out:
        return {"train": _open_all(sources, config)}
    census = Census.of(sources, config, more)
    chosen, account = census.weighed(config)
    if more is not None:
        chosen = census.leave_out(chosen, account, allow=config.allow_contamination)
        chosen = np.concatenate([chosen, census.join(more, account)])
    if config.max_train_samples is not None:
        before = len(chosen)
        chosen = choose_some(chosen, config.max_train_samples, config.seed)
        account.not_sampled = before - len(chosen)
    if not held_out:
        return {"train": census.reading(chosen, account)}
    chosen, out = hold_out(chosen, held_out, config.seed)
    account.held_out = len(out)
    apart = DataReport(rows=len(out), formats=dict(account.formats), contaminated=account.contaminated)
    return {"train": census.reading(chosen, account), "eval": census.reading(out, apart)}


def _sources(config: SFTConfig, data_path: str | list[object] | None, option: str = "data_path") -> list[OpenSource]:
    return open_sources(
        specs_of(config, data_path, option) if data_path is not None else [],
        role_names=config.role_names,
        system_prompt=config.system_prompt,
        input_separator=input_separator(config),
        pairs=config.stage == "dpo",
    )


def specs_of(
    config: SFTConfig, data_path: str | list[object] | None, option: str = "data_path"
) -> Sequence[SourceSpec]:
    """The sources that an option names."""
    return parse_sources(
        data_path or [],
        split=config.data_split,
        revision=config.data_revision,
        format_type=config.format_type,
        columns=config.columns,
        option=_written(config, option),
    )


def _written(config: SFTConfig, option: str) -> str:
    """An option with the line or flag where it was given, if that does not say the same."""
    origin = config.origins.get(option, "")
    is_told = origin not in ("", "default", "python", f"--{option}") and not origin.startswith("default of")
    return f"{option} ({origin})" if is_told else option


def input_separator(config: SFTConfig) -> str:
    """What stands between instruction and input."""
    if config.input_separator is not None:
        return config.input_separator
    return "\n\n" if config.use_chat_template else "\nInput: "
