"""transformers' Trainer with our loss, our order of rows and our evaluation loss; everything else is its own.

Distribution (DDP, FSDP, DeepSpeed), mixed precision, optimizers, schedules, trackers and checkpoints come from it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import nn
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainingArguments,
)

from sft.data.collate import Collator, TrainingRows
from sft.data.token_batches import RowGroups
from sft.data.types import Batch
from sft.models.experts import balance_loss
from sft.training.base import RunTrainer, Throughput, rows_per_forward, train_order
from sft.training.gather import holds_shards
from sft.training.head_loss import LogitForm, Weigh, find_form, is_plain_linear
from sft.training.loss import summed_loss
from sft.training.mesh import Mesh
from sft.training.order import EpochCallback, RowOrder

PROBED_TOKENS = 8
"""Tokens on which a model is asked what it does to its logits."""


class WalkTrainer(RunTrainer):
    """Trains on ``TrainingRows``; the loss of a step is a sum over its trained tokens divided by their number."""

    weigh: Weigh | None = None
    """What each trained token counts, told from its logits. Evaluation counts each as it is."""

    def __init__(
        self,
        *,
        model: PreTrainedModel,
        args: TrainingArguments,
        tokenizer: PreTrainedTokenizerBase,
        train_rows: TrainingRows | RowGroups,
        eval_rows: TrainingRows | None,
        collator: Collator,
        callbacks: Sequence[TrainerCallback] = (),
        mesh: Mesh | None = None,
    ) -> None:
        self.mesh = mesh or Mesh(args.world_size)
        self.order = train_order(args, train_rows, mesh=self.mesh)
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
        self._form: LogitForm | None = None
        self._knows_form = False

    def _get_eval_sampler(self, eval_dataset: TrainingRows) -> RowOrder:
        return RowOrder(
            len(eval_dataset),
            seed=0,
            shuffle=False,
            multiple=rows_per_forward(self.args, self.mesh, training=False),
            batch_size=self.args.eval_batch_size,
            copies=self.mesh.context,
        )

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
        loss, outputs = summed_loss(self._head(), model, inputs, self._logit_form(inputs), self.weigh)
        if (balance := balance_loss(self.accelerator.unwrap_model(self.model), outputs)) is not None:
            loss = loss + balance * inputs["num_trained"]
        divisor = inputs["num_trained"] if num_items_in_batch is None else num_items_in_batch
        loss = loss * (self.accelerator.num_processes / self.mesh.tensor / max(divisor, 1.0))
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

    def _summed_evaluation_loss(self, eval_dataset: TrainingRows | None) -> tuple[float, float]:
        loader = self.get_eval_dataloader(eval_dataset)
        model = self.model_wrapped
        if not self.is_in_train and model is self.model and not holds_shards(model):
            model = self.accelerator.prepare_model(self.model, evaluation_mode=True)
        was_training = model.training
        model.eval()
        total = trained = 0.0
        with torch.no_grad():
            for batch in loader:
                with self.compute_loss_context_manager():
                    inputs = self._prepare_inputs(batch)
                    loss, _ = summed_loss(self._head(), model, inputs, self._logit_form(inputs))
                total += float(loss)
                trained += batch["num_trained"]
                self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        model.train(was_training)
        return self._sum_over_processes(total), self._sum_over_processes(trained)

    def _head(self) -> nn.Module:
        return self.accelerator.unwrap_model(self.model).get_output_embeddings()  # type: ignore[no-any-return]

    def _logit_form(self, inputs: Batch) -> LogitForm | None:
        """What the model does to its head's output, found out once; None where the model has to make its logits.

        It has to where its head is more than a matrix, and where FSDP or ZeRO-3 share the matrix out.
        """
        head = self._head()
        shared = self.is_fsdp_enabled or holds_shards(head)
        if shared or not is_plain_linear(head) or hasattr(head.weight, "ds_id"):
            return None
        if not self._knows_form:
            self._knows_form = True
            model = self.accelerator.unwrap_model(self.model)
            self._form = find_form(model, head, inputs["input_ids"][:1, :PROBED_TOKENS])
        return self._form
