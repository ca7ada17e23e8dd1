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
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainingArguments,
)

from sft.data.collate import Collator, TrainingRows
from sft.data.split import split_batch
from sft.data.token_batches import RowGroups
from sft.data.types import Batch
from sft.models.experts import balance_loss
from sft.training.base import RunTrainer, Throughput, rows_per_forward, train_order, window_order
from sft.training.gather import holds_shards
from sft.training.head_loss import LogitForm, Weigh, find_form, form_of, is_plain_linear
from sft.training.launch import announce
from sft.training.loss import summed_loss
from sft.training.mesh import Mesh
from sft.training.order import EpochCallback, RowOrder
from sft.training.token_figures import TokenFigures
from sft.training.window_order import EndWithData
from sft.training.window_rows import WindowRows

PROBED_TOKENS = 8
"""Tokens on which a model is asked what it does to its logits."""

SMALLEST_DIVISOR = 1e-9
"""Of a step without a trained token, whose loss is 0. Weights may make any step count less than one token."""


class WalkTrainer(RunTrainer):
    """Trains on ``TrainingRows``; the loss of a step is a sum over its trained tokens divided by their number."""

    weigh: Weigh | None = None
    """What each trained token counts, told from its logits. Evaluation counts each as it is."""
    figures: TokenFigures | None = None
    """Adds up what is logged of trained tokens."""

    def __init__(
        self,
        *,
        model: PreTrainedModel,
        args: TrainingArguments,
        tokenizer: PreTrainedTokenizerBase,
        train_rows: TrainingRows | RowGroups | WindowRows,
        eval_rows: TrainingRows | None,
        collator: Collator,
        callbacks: Sequence[TrainerCallback] = (),
        mesh: Mesh | None = None,
    ) -> None:
        self.mesh = mesh or Mesh(args.world_size)
        follows: TrainerCallback
        if isinstance(train_rows, WindowRows):
            self.order = window_order(args, train_rows, mesh=self.mesh)
            follows = EndWithData(self.order)
        else:
            self.order = train_order(args, train_rows, mesh=self.mesh)
            follows = EpochCallback(self.order)
        self.control: TrainerControl
        self.throughput = Throughput()
        super().__init__(
            model=model,
            args=args,
            data_collator=collator,
            train_dataset=train_rows,
            eval_dataset=eval_rows,
            processing_class=tokenizer,
            callbacks=[follows, *callbacks],
        )
        self.loss_is_scaled_for_ga = True
        self._unwrapped: tuple[nn.Module, PreTrainedModel] | None = None
        self._form: LogitForm | None = None
        self._knows_form = False
        self._has_seen_form = False

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
    ) -> tuple[list[Batch], float | Tensor]:
        """The batches of one optimizer step, and the divisor of its loss: trained tokens of all processes by weight."""
        batches = list(islice(epoch_iterator, num_batches))
        weight, trained = self._totals(
            sum(batch["num_trained"] for batch in batches), sum(batch["num_labels"] for batch in batches)
        )
        self.throughput.add(sum(batch["num_tokens"] for batch in batches), trained)
        return batches, weight

    def split(self, inputs: Batch, parts: int) -> list[Batch]:
        """A batch in at most so many parts by rows."""
        return split_batch(inputs, parts)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: float | Tensor | None = None,
    ) -> Any:
        """This batch's share of the step's loss. Gradients are averaged over processes, hence the factor."""
        if self.figures is not None:
            self.figures.begin(inputs.get("trained_groups"))
        loss, outputs = self._summed_loss(model, inputs, weigh=self.weigh, watch=self.figures)
        if (balance := balance_loss(self._bare_model(), outputs)) is not None:
            loss = loss + balance * inputs["num_trained"]
        divisor = inputs["num_trained"] if num_items_in_batch is None else num_items_in_batch
        loss = loss * self._share_of_step(divisor)
        return (loss, outputs) if return_outputs else loss

    def evaluate(
        self, eval_dataset: TrainingRows | None = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Loss per trained token over all evaluation rows (not a mean of batch means). Keeps no logits."""
        started = time.perf_counter()
        total, weight, trained = self._summed_evaluation_loss(eval_dataset)
        metrics = {
            f"{metric_key_prefix}_loss": total / weight,
            f"{metric_key_prefix}_perplexity": math.exp(min(total / weight, 700.0)),
            f"{metric_key_prefix}_trained_tokens": trained,
            f"{metric_key_prefix}_seconds": round(time.perf_counter() - started, 3),
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _summed_evaluation_loss(self, eval_dataset: TrainingRows | None) -> tuple[float, float, float]:
        """The sum, and over how many trained tokens: by weight, and by number."""
        self.callback_handler.eval_dataloader = loader = self.get_eval_dataloader(eval_dataset)
        model = self.model_wrapped
        if not self.is_in_train and model is self.model and not holds_shards(model):
            model = self.accelerator.prepare_model(self.model, evaluation_mode=True)
        was_training = model.training
        model.eval()
        losses, weight, trained = [], 0.0, 0
        with torch.no_grad():
            for batch in loader:
                with self.compute_loss_context_manager():
                    inputs = self._prepare_inputs(batch)
                    loss, _ = self._summed_loss(model, inputs)
                losses.append(loss)
                weight, trained = weight + batch["num_trained"], trained + batch["num_labels"]
                self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        model.train(was_training)
        total, weight, number = (self._sum_over_processes(x) for x in (sum(map(float, losses)), weight, float(trained)))
        return total, weight, number

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add figures of the trained tokens, where they are asked for."""
        if "loss" in logs and self.figures is not None:
            logs.update(self.figures.since_last(self._sum_over_processes))
        super().log(logs, start_time)

    def _summed_loss(self, model: nn.Module, inputs: Batch, **seen: Any) -> tuple[Tensor, Any]:
        """The loss of a batch, made where the head's weights are whole."""
        head, form = self._head(), self._logit_form(inputs)
        in_head = form is not None and self._shares_head()
        loss, outputs = summed_loss(head, model, inputs, form, **seen, in_head=in_head)
        if self._has_seen_form:
            return loss, outputs
        self._has_seen_form = True
        if in_head and form is not None:
            explained = form.explains(loss.detach(), outputs.logits.detach())
            if self._sum_over_processes(float(not explained)):
                self._form = None
                loss, outputs = summed_loss(head, model, inputs, **seen)
        if self._form is None:
            announce("loss: the model makes the logits of trained tokens, all of a batch at once")
        elif in_head:
            announce("loss: in one pass, while the model calls its head, for its weights are whole only then")
        return loss, outputs

    def _totals(self, *values: float) -> Sequence[float | Tensor]:
        """Sums over processes, which stay on the device where there are several."""
        if self.args.world_size == 1:
            return values
        here = [torch.full((), value, dtype=torch.float64, device=self.args.device) for value in values]
        totals: Tensor = self.accelerator.reduce(torch.stack(here), reduction="sum") / self.mesh.tensor
        return totals.unbind()

    def _share_of_step(self, divisor: float | Tensor) -> float | Tensor:
        """What a sum over trained tokens is multiplied by. Nothing here waits for the device."""
        processes = self.accelerator.num_processes / self.mesh.tensor
        if isinstance(divisor, Tensor):
            share: Tensor = processes / divisor.clamp_min(SMALLEST_DIVISOR)
            return share.float()
        return float(processes / max(divisor, SMALLEST_DIVISOR))

    def _bare_model(self) -> PreTrainedModel:
        """Without what is around it. Kept, for accelerate reads an installed package's files each time it unwraps."""
        if self._unwrapped is None or self._unwrapped[0] is not self.model:
            self._unwrapped = self.model, self.accelerator.unwrap_model(self.model)
        return self._unwrapped[1]

    def _head(self) -> nn.Module:
        return self._bare_model().get_output_embeddings()  # type: ignore[no-any-return]

    def _logit_form(self, inputs: Batch) -> LogitForm | None:
        """What the model does to its head's output, found out once; None where the model has to make its logits.

        It has to where its head is more than a matrix, and where tensor parallelism or FSDP1 share the matrix out.
        Under FSDP2 and ZeRO-3 it is read from the model's config, and seen to be so in the first step.
        """
        head = self._head()
        if not is_plain_linear(head):
            return None
        if not self._shares_head() and (self.is_fsdp_enabled or holds_shards(head)):
            return None
        if not self._knows_form:
            self._knows_form = True
            model = self._bare_model()
            if self._shares_head():
                self._form = form_of(model.config)
            else:
                self._form = find_form(model, head, inputs["input_ids"][:1, :PROBED_TOKENS])
        return self._form

    def _shares_head(self) -> bool:
        """Whether the head's weights are whole only while the model calls it: by accelerate's FSDP2, or ZeRO-3."""
        by_fsdp2 = self.is_fsdp_enabled and self.accelerator.is_fsdp2
        return by_fsdp2 or hasattr(self._head().weight, "ds_id")
