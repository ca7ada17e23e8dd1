"""What a run will do, counted before it is done."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sft.config import SFTConfig
from sft.data.blocks import group_blocks
from sft.data.packing import pack_examples, pack_in_order, packing_efficiency
from sft.data.pairs import group_pairs
from sft.data.prepare import PreparedData, PreparedPart
from sft.data.report import DataReport, histogram
from sft.data.store import ExampleStore
from sft.data.token_batches import form_batches, share_of_tokens
from sft.data.types import Pack


@dataclass(frozen=True)
class StreamedData:
    """How much of data that come window by window a plan knows."""

    window: int
    """Examples that are packed and shuffled together."""
    examples: int
    """Prepared so far."""
    is_whole: bool
    """Whether these are all."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"window": self.window, "examples_so_far": self.examples, "all_prepared": self.is_whole}


@dataclass(frozen=True)
class Plan:
    """Rows of tokens, optimizer steps and files of a run."""

    data: PreparedData
    stage: str
    """What is learned: sft, pretrain or dpo."""
    max_length: int
    """Most tokens of an example."""
    train_packs: list[Pack] | None
    """Which examples share a row, or make a pair of answers. None: one example a row."""
    eval_packs: list[Pack] | None
    train_computed: npt.NDArray[np.int64]
    """Tokens of each training example that go through the model: up to its last trained one."""
    eval_computed: npt.NDArray[np.int64] | None
    batches: list[list[int]] | None
    """Which rows share a forward pass; None: as many as asked for, as they come."""
    efficiency: float
    """Share of the slots of packed rows, or of batches by tokens, that hold a token; 1 where batches are padded as they
    come."""
    rows_per_step: int
    """Rows of one optimizer step, all processes and slices together."""
    steps_per_epoch: int
    steps: int
    files: list[str]
    order: str
    """In which order rows are seen: random or sequential."""
    stream: StreamedData | None = None
    """Training examples come window by window; packs, lengths and steps_per_epoch are those of the first window and of
    all steps."""

    @property
    def tokens_left_out(self) -> int:
        """Training tokens that go through no model, for they follow the last trained token of their example."""
        return int(self.data.train.examples.lengths.sum() - self.train_computed.sum())

    def to_dict(self) -> dict[str, Any]:
        """What `sft plan --json` prints."""
        report = self.data.train.report
        evaluation = None if self.data.eval is None else _counts(self.data.eval.report)
        return {
            "stage": self.stage,
            **_counts(report),
            "packs": None if self.train_packs is None else len(self.train_packs),
            "packing_efficiency": round(self.efficiency, 4),
            "tokens_left_out": self.tokens_left_out,
            "batches": None if self.batches is None else len(self.batches),
            "rows_per_step": self.rows_per_step,
            **({} if self.order == "random" else {"order": self.order}),
            "steps_per_epoch": self.steps_per_epoch if self.stream is None else None,
            "steps": self.steps,
            **({} if self.stream is None else {"stream": self.stream.to_dict()}),
            "lengths": histogram(self.data.train.examples.lengths.tolist()),
            "formats": report.formats,
            "notes": report.notes,
            "generation_kwargs": report.generation_kwargs,
            "evaluation": evaluation,
            "cache": {"hit": self.data.cache.hit, "why": self.data.cache.why, "folder": str(self.data.cache.folder)},
            "files": self.files,
        }


def make_plan(config: SFTConfig, data: PreparedData, *, row_groups: int) -> Plan:
    """Group the examples into rows and count the steps; ``row_groups`` (groups of) processes see rows of their own."""
    computed = computed_lengths(config, data.train.examples)
    eval_computed = None if data.eval is None else computed_lengths(config, data.eval.examples)
    lengths = computed.tolist()
    train_packs = group_rows(config, lengths)
    eval_packs = None
    if eval_computed is not None:
        eval_packs = group_rows(config, eval_computed.tolist())
    rows = len(data.train.examples) if train_packs is None else len(train_packs)
    per_forward = config.per_device_train_batch_size
    batches_by_tokens = group_batches(config, computed)
    if batches_by_tokens is not None:
        rows, per_forward = len(batches_by_tokens), 1
    batches = math.ceil(rows / (per_forward * row_groups))
    steps_per_epoch = max(1, math.ceil(batches / config.gradient_accumulation_steps))
    stream = streamed(data)
    if stream is not None:
        steps_per_epoch = config.max_steps
    steps = config.max_steps if config.max_steps > 0 else math.ceil(config.num_train_epochs * steps_per_epoch)
    is_packed = config.packing or config.isolate_documents
    efficiency = packing_efficiency(lengths, train_packs, config.max_length) if is_packed and train_packs else 1.0
    if batches_by_tokens is not None:
        efficiency = share_of_tokens(computed, batches_by_tokens)
    return Plan(
        data=data,
        stage=config.stage,
        max_length=config.max_length,
        train_packs=train_packs,
        eval_packs=eval_packs,
        train_computed=computed,
        eval_computed=eval_computed,
        batches=batches_by_tokens,
        efficiency=efficiency,
        rows_per_step=per_forward * config.gradient_accumulation_steps * row_groups,
        steps_per_epoch=steps_per_epoch,
        steps=steps,
        files=list_files(config, steps, evaluating=data.eval is not None),
        order=config.train_sampling_strategy,
        stream=stream,
    )


def streamed(data: PreparedData) -> StreamedData | None:
    """What is known now of data that come window by window; None where all were prepared first."""
    if data.stream is None:
        return None
    windows = data.stream.windows
    return StreamedData(windows.size, windows.num_examples, windows.is_whole)


def up_to_date(config: SFTConfig, plan: Plan) -> Plan:
    """The plan with the examples and the report that there are by now, at the end of training."""
    if plan.data.stream is None:
        return plan
    windows = plan.data.stream.windows
    windows.look()
    data = replace(plan.data, train=PreparedPart(windows.all(), windows.report()))
    computed = computed_lengths(config, data.train.examples)
    return replace(plan, data=data, train_computed=computed, stream=streamed(data))


def computed_lengths(config: SFTConfig, examples: ExampleStore) -> npt.NDArray[np.int64]:
    """Tokens of each example that go through the model: what follows its last trained token changes nothing.

    Whole examples where something else is counted: pairs of answers (TRL's loss), blocks that fill rows, and experts
    that are to be used evenly.
    """
    if config.stage == "dpo" or config.isolate_documents or config.router_aux_loss:
        return examples.lengths
    return examples.lengths_to_last_trained


def group_batches(config: SFTConfig, lengths: npt.NDArray[np.int64]) -> list[list[int]] | None:
    """Which examples, of so many tokens each, share a forward pass; None: that is not decided by tokens."""
    if config.tokens_per_batch is None:
        return None
    in_order = config.train_sampling_strategy == "sequential"
    return form_batches(lengths, config.tokens_per_batch, seed=None if in_order else config.seed)


def group_rows(config: SFTConfig, lengths: Sequence[int]) -> list[Pack] | None:
    """Which examples, of so many tokens each, share a row; None: each has its own."""
    if config.stage == "dpo":
        return group_pairs(len(lengths))
    if config.isolate_documents:
        return group_blocks(lengths, config.max_length)
    if not config.packing:
        return None
    pack = pack_in_order if config.train_sampling_strategy == "sequential" else pack_examples
    if not config.stream_preparation:
        return pack(lengths, config.max_length)
    found: list[Pack] = []
    for start in range(0, len(lengths), config.stream_window):
        packs = pack(lengths[start : start + config.stream_window], config.max_length)
        found += [[start + place for place in one] for one in packs]
    return found


def list_files(config: SFTConfig, steps: int, *, evaluating: bool) -> list[str]:
    """Files and folders that will stand in the output folder, as a user finds them."""
    files = ["run.json", "metrics.jsonl", *(["report.html"] if config.report_page else [])]
    if config.save_strategy != "no":
        every = config.save_steps if config.save_steps >= 1 else max(1, math.ceil(config.save_steps * steps))
        saves = [steps] if config.save_strategy == "epoch" or every >= steps else [int(every), steps]
        files += [f"checkpoint-{step}/" for step in saves]
    if config.gen_questions_file is not None:
        files += [f"gen_results/gen_step_{step}.json" for step in (0, min(config.gen_every_n_steps, steps), steps)]
    files.append(config.model_dir + "/")
    if config.merged_dir is not None:
        files.append(config.merged_dir + "/")
    return list(dict.fromkeys(files))


def _counts(report: DataReport) -> dict[str, Any]:
    return {
        "rows": report.rows,
        "conversations": report.conversations,
        **({"documents": report.documents, "blocks": report.blocks} if report.blocks else {}),
        **({"pairs": report.pairs} if report.pairs else {}),
        "examples": report.examples,
        "rejected": dict(report.rejected),
        "overlapping": dict(report.overlapping),
        "contaminated": report.contaminated,
        "duplicates": report.duplicates,
        "not_sampled": report.not_sampled,
        "held_out": report.held_out,
        "dropped": dict(report.dropped),
        "dropped_tokens": dict(report.dropped_tokens),
        "cut": report.cut,
        "cut_tokens": report.cut_tokens,
        "rendered_tokens": report.rendered_tokens,
        "split": report.split,
        "tokens": report.tokens,
        "trained_tokens": report.trained_tokens,
    }
