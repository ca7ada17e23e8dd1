"""Stage dpo: TRL's DPOTrainer over our pairs, with our order, checkpoints and records (needs the extra ``dpo``).

Loss, rewards and the reference model are TRL's own. What differs from TRL: pairs come rendered and mapped from disk; a
step divides by its pairs, however it is split; a run that is resumed logs what the straight one does; nothing is sent
anywhere, and no card is written into checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from itertools import islice
from typing import Any

import torch
from datasets import Dataset
from peft.utils.other import TrainableTokensWrapper
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainerCallback
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from sft.data.collate import TrainingRows
from sft.data.pairs import SIDES, Pair
from sft.data.types import Example
from sft.errors import ModelError
from sft.training.base import RunTrainer, Throughput, train_order
from sft.training.order import EpochCallback

REFERENCE = "ref"
"""TRL's name for the copy of an adapter that it compares with."""


class PreferenceTrainer(RunTrainer, DPOTrainer):  # type: ignore[misc]
    """Trains on rows of two examples: the better answer to a prompt, and the worse.

    Args:
        model: the whole model, or one with an adapter.
        reference: what it is compared with, frozen. None: the model without its adapter, or with the adapter as it is
            now where ``adapter_is_new`` is false.
        adapter_is_new: the adapter changes nothing yet.
        args: of transformers, with TRL's own beside them.
        pad_token_id: fills the shorter sequences; masked by position.
    """

    def __init__(
        self,
        *,
        model: PreTrainedModel,
        reference: PreTrainedModel | None,
        adapter_is_new: bool,
        args: DPOConfig,
        tokenizer: PreTrainedTokenizerBase,
        pad_token_id: int,
        train_rows: TrainingRows,
        eval_rows: TrainingRows | None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        refuse_trained_head_rows(model)
        self.order = train_order(args, train_rows, filled=False)
        self.throughput = Throughput()
        self._rows = {"train": train_rows, "eval": eval_rows}
        with unchanged(model):
            try:
                super().__init__(
                    model=model,
                    ref_model=reference,
                    args=args,
                    data_collator=PairCollator(pad_token_id),
                    train_dataset=STAND_IN,
                    eval_dataset=None if eval_rows is None else STAND_IN,
                    processing_class=copy(tokenizer),  # TRL gives it a padding token
                    callbacks=[EpochCallback(self.order), *callbacks],
                )
            except ValueError as error:
                raise ModelError(f"TRL's DPOTrainer refuses this run: {' '.join(str(error).split())}") from error
        self.processing_class = tokenizer
        self.loss_is_scaled_for_ga = True
        if adapter_is_new and REFERENCE in getattr(model, "peft_config", {}):
            model.delete_adapter(REFERENCE)  # it equals no adapter at all

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        """Our rows, in place of the stand-in that TRL was given."""
        return self._rows[dataset_name]

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Any]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], float]:
        """The batches of one optimizer step, and the divisor of its loss: pairs of all processes."""
        batches = list(islice(epoch_iterator, num_batches))
        trained = self._sum_over_processes(sum(int(batch["completion_mask"].sum()) for batch in batches))
        self.throughput.add(sum(int(batch["attention_mask"].sum()) for batch in batches), trained)
        return batches, self._sum_over_processes(sum(map(num_pairs, batches)))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: float | None = None,
    ) -> Any:
        """TRL's mean over the pairs of a batch, as this batch's share of the step's loss."""
        loss = super().compute_loss(model, inputs, return_outputs=return_outputs)
        if num_items_in_batch is None:
            return loss
        return loss * (num_pairs(inputs) * self.accelerator.num_processes / num_items_in_batch)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add rewards, margins and accuracies to a loss. What is logged beside it does not use them up."""
        for metrics in self._metrics.values():
            metrics.pop("num_tokens", None)  # counts from the start of the process, not of the run
        if "loss" in logs or "eval_loss" in logs:
            super().log(logs, start_time)
        else:
            Trainer.log(self, logs, start_time)

    def _send_telemetry(self) -> None:
        """TRL reports each start to its makers. Here nothing is."""


def refuse_trained_head_rows(model: PreTrainedModel) -> None:
    """TRL multiplies with the head's weights as they lie there, past the rows of added tokens that PEFT trains apart.

    Raises:
        ModelError: the head has such rows.
    """
    if isinstance(model.get_output_embeddings(), TrainableTokensWrapper):
        raise ModelError(
            "added tokens under LoRA, with a head that is tied to the embeddings: TRL's DPO does not see their trained "
            "rows in the head. Train the tokens in stage sft first and merge, or train embed_tokens whole with "
            "modules_to_save."
        )


class PairCollator:
    """Rows of two examples -> TRL's batch: first every better answer, then every worse one."""

    def __init__(self, pad_token_id: int) -> None:
        self._collate = DataCollatorForPreference(pad_token_id=pad_token_id)

    def __call__(self, rows: Sequence[Sequence[Example]]) -> dict[str, Any]:
        batch: dict[str, Any] = self._collate([split_pair(Pair(*row)) for row in rows])
        return batch


def split_pair(pair: Pair) -> dict[str, list[int]]:
    """Prompt and answers as TRL names them."""
    start = pair.prompt_length
    return {
        "prompt_ids": pair.chosen.input_ids[:start].tolist(),
        "chosen_ids": pair.chosen.input_ids[start:].tolist(),
        "rejected_ids": pair.rejected.input_ids[start:].tolist(),
    }


def num_pairs(batch: dict[str, Any]) -> int:
    """Pairs in one of TRL's batches."""
    return len(batch["input_ids"]) // SIDES


STAND_IN = Dataset.from_dict({"pair": [0]})
"""TRL looks at the first row of a data set before it prepares it; the rows that it gets are ours."""


@contextmanager
def unchanged(model: Any) -> Iterator[None]:
    """Undo what TRL does to a model in passing: weights in half precision, and a padding token in its configs."""
    configs = [config for config in (model.config.get_text_config(), model.generation_config) if config is not None]
    padding = [config.pad_token_id for config in configs]
    weights = {name: weight.data for name, weight in model.named_parameters() if weight.requires_grad}
    yield
    for config, token in zip(configs, padding, strict=True):
        config.pad_token_id = token
    for name, weight in model.named_parameters():
        if name in weights and weight.dtype != weights[name].dtype:
            weight.data = weights[name]
