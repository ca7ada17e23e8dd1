"""transformers' Trainer with our loss, our order of rows and our evaluation loss; everything else is its own.

Distribution (DDP, FSDP, DeepSpeed), mixed precision, optimizers, schedules, trackers and checkpoints come from it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from sft.data.collate import Collator, TrainingRows
from sft.data.types import Batch
from sft.training.loss import summed_loss
from sft.training.optimizer import LoraPlusTrainer
from sft.training.order import EpochCallback, RowOrder


class WalkTrainer(LoraPlusTrainer):
    """Trains on ``TrainingRows``; the loss of a step is a sum over its trained tokens divided by their number."""

    def __init__(
        self,
        *,
        model: PreTrainedModel,
        args: TrainingArguments,
        tokenizer: PreTrainedTokenizerBase,
        train_rows: TrainingRows,
        eval_rows: TrainingRows | None,
        collator: Collator,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self.order = train_order(args, train_rows)
        self.control: TrainerControl
        self.throughput = Throughput()
        super().__init__(
            model=model,
            args=args,
            data_collator=collator,
            train_dataset=train_rows,
            eval_dataset=eval_rows,
            processing_class=tokenizer,
            callbacks=[EpochCallback(self.order), *callbacks],
        )
        self.loss_is_scaled_for_ga = True

    def restore(self, checkpoint: Path) -> None:
        """Take the weights and the history of a checkpoint, without training on."""
        self._load_from_checkpoint(str(checkpoint))
        self.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))

    def _get_train_sampler(self, train_dataset: Any = None) -> RowOrder:
        return self.order

    def _get_eval_sampler(self, eval_dataset: TrainingRows) -> RowOrder:
        return RowOrder(len(eval_dataset), seed=0, shuffle=False, multiple=rows_per_forward(self.args, training=False))

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], float]:
        """The batches of one optimizer step, and the divisor of its loss: trained tokens of all processes."""
        batches = list(islice(epoch_iterator, num_batches))
        trained = self._sum_over_processes(sum(batch["num_trained"] for batch in batches))
        self.throughput.add(sum(batch["num_tokens"] for batch in batches), trained)
        return batches, trained

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: float | None = None,
    ) -> Any:
        """This batch's share of the step's loss. Gradients are averaged over processes, hence the factor."""
        loss, outputs = summed_loss(self._head(), model, inputs)
        divisor = inputs["num_trained"] if num_items_in_batch is None else num_items_in_batch
        loss = loss * (self.accelerator.num_processes / max(divisor, 1.0))
        return (loss, outputs) if return_outputs else loss

    def evaluate(
        self, eval_dataset: TrainingRows | None = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Loss per trained token over all evaluation rows (not a mean of batch means). Keeps no logits."""
        started = time.perf_counter()
        total, trained = self._summed_evaluation_loss(eval_dataset)
        metrics = {
            f"{metric_key_prefix}_loss": total / trained,
            f"{metric_key_prefix}_perplexity": math.exp(min(total / trained, 700.0)),
            f"{metric_key_prefix}_trained_tokens": trained,
            f"{metric_key_prefix}_seconds": round(time.perf_counter() - started, 3),
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add tokens per second and tokens so far to what every tracker gets with the training loss."""
        if "loss" in logs:
            logs.update(self.throughput.since_last(self.accelerator.num_processes))
        super().log(logs, start_time)

    def _summed_evaluation_loss(self, eval_dataset: TrainingRows | None) -> tuple[float, float]:
        loader = self.get_eval_dataloader(eval_dataset)
        model = self.model_wrapped
        if not self.is_in_train:
            model = self.accelerator.prepare_model(self.model, evaluation_mode=True)
        was_training = model.training
        model.eval()
        total = trained = 0.0
        with torch.no_grad():
            for batch in loader:
                with self.compute_loss_context_manager():
                    loss, _ = summed_loss(self._head(), model, self._prepare_inputs(batch))
                total += float(loss)
                trained += batch["num_trained"]
                self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        model.train(was_training)
        return self._sum_over_processes(total), self._sum_over_processes(trained)

    def _head(self) -> nn.Module:
        return self.accelerator.unwrap_model(self.model).get_output_embeddings()  # type: ignore[no-any-return]

    def _sum_over_processes(self, value: float) -> float:
        if self.args.world_size == 1:
            return value
        here = torch.tensor(value, dtype=torch.float64, device=self.args.device)
        return float(self.accelerator.reduce(here, reduction="sum"))

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Weights as safetensors, and the tokenizer. No pickled arguments: they can hold tokens and run code."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        # rows of added tokens are in the adapter; PEFT would write all of the embedding beside them
        only_adapter = {"save_embedding_layers": False} if isinstance(model, PeftModel) else {}
        model.save_pretrained(folder, state_dict=state_dict, **only_adapter)
        self.processing_class.save_pretrained(folder)


class Throughput:
    """Counts tokens between two logged steps. Waiting inside a step is part of its time, as a user feels it."""

    def __init__(self) -> None:
        self._tokens = 0
        self._trained = 0.0
        self._since = time.perf_counter()

    def add(self, tokens: int, trained: float) -> None:
        """Count a step: tokens of this process (padding not counted), trained tokens of all processes."""
        self._tokens += tokens
        self._trained += trained

    def since_last(self, num_processes: int) -> dict[str, float]:
        """Rates since the last call. Tokens of other processes are taken to be as many as this one's."""
        now = time.perf_counter()
        seconds = max(now - self._since, 1e-9)
        rates = {
            "tokens_per_second": round(self._tokens * num_processes / seconds, 1),
            "trained_tokens_per_second": round(self._trained / seconds, 1),
        }
        self._tokens, self._trained, self._since = 0, 0.0, now
        return rates


def train_order(args: TrainingArguments, rows: TrainingRows) -> RowOrder:
    """Shuffled by ``data_seed`` (or ``seed``) and epoch, the longest row first."""
    return RowOrder(
        len(rows),
        seed=args.seed if args.data_seed is None else args.data_seed,
        shuffle=True,
        multiple=rows_per_forward(args, training=True),
        first=int(rows.lengths.argmax()),
    )


def rows_per_forward(args: TrainingArguments, *, training: bool) -> int:
    """Rows that all processes together take in one forward pass; 1 in a single process, where rows need not divide."""
    batch_size: int = args.train_batch_size if training else args.eval_batch_size
    return batch_size * args.world_size if args.world_size > 1 else 1
