"""One step over a model without content: what is alive when most of it is."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sft.config import SFTConfig
from sft.data.collate import Collator
from sft.models.attention import attend_by_document, uses_documents
from sft.models.experts import balance_experts, balance_loss
from sft.training.head_loss import BUFFER_BYTES, form_of, is_plain_linear
from sft.training.loss import summed_loss
from sft.training.memory.batch import HeaviestBatch
from sft.training.memory.counter import LiveBytes
from sft.training.memory.few_bits import FewBitsLinear
from sft.training.memory.heap import Event
from sft.training.memory.skeleton import build_skeleton, tensor_bytes
from sft.training.speed import recompute_chosen

SLICES = 2
"""Forward passes of a traced step, where a step has several: the second finds gradients there, as all others do."""


@dataclass(frozen=True)
class TrainedWeight:
    """One tensor that an optimizer moves."""

    shape: tuple[int, ...]
    itemsize: int
    is_embedding: bool

    @property
    def elements(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def bytes(self) -> int:
        return self.elements * self.itemsize


@dataclass(frozen=True)
class Traced:
    """Bytes on one device that holds the whole model."""

    weights: int
    elements: int
    """Numbers that the weights stand for, quantised ones counted as they are multiplied."""
    trained: tuple[TrainedWeight, ...]
    largest_layer: int
    """Of the weights of one decoder layer."""
    outside: int
    """Of the weights outside of the decoder layers: embeddings and head."""
    gradients: int
    """All of them, after the backward pass."""
    step: dict[str, int]
    """By kind, when most was alive in forward and backward: gradients, activations, head."""
    evaluation: dict[str, int]
    """The same as ``step`` of a forward pass without gradients; empty where there is none."""
    course: tuple[Event, ...] = ()
    """What forward and backward made and freed, in order; empty: it is not known."""
    hidden_size: int = 0
    """Of the model, by which sizes of buffers are chosen."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What of a run decides a trace beside its config and its batch."""

    tokenizer: PreTrainedTokenizerBase | None
    strategy: str
    """As ``choose_trained`` has it."""
    makes_logits: bool
    """The model's own forward makes them: its head's weight is shared out."""
    half_weights: torch.dtype | None
    """What the engine turns all weights into for the computation; None: they stay as they are."""
    on_accelerator: bool


def trace_step(
    config: SFTConfig,
    model_config: Any,
    batch: HeaviestBatch,
    evaluated: HeaviestBatch | None,
    conditions: Conditions,
) -> Traced:
    """Count what is alive in a training step, and in an evaluation of ``evaluated``.

    Raises:
        Exception: whatever a model does that cannot be done without content; nothing is known then.
    """
    with without_content(conditions.on_accelerator) as counter:
        with counter.counting_as("weights"):
            model = build_skeleton(config, model_config, conditions.tokenizer, strategy=conditions.strategy)
            if conditions.half_weights is not None:
                model.to(conditions.half_weights)
            reference = None
            if config.stage == "dpo" and not config.use_lora:
                reference = build_skeleton(config, model_config, conditions.tokenizer, strategy=conditions.strategy)
        run = _Run(config, model, reference, counter, conditions)
        run.prepare(batch)
        evaluation = {} if evaluated is None else run.evaluate(evaluated)
        step = run.train(batch)
        layer, outside = _by_place(model)
        return Traced(
            weights=tensor_bytes(model) + (0 if reference is None else tensor_bytes(reference)),
            elements=_elements(model),
            trained=_trained_weights(model),
            largest_layer=layer,
            outside=outside,
            gradients=sum(one.grad.nbytes for one in model.parameters() if one.grad is not None),
            step=step,
            evaluation=evaluation,
            course=run.course,
            hidden_size=getattr(model_config.get_text_config(), "hidden_size", 0),
        )


@contextmanager
def without_content(on_accelerator: bool) -> Iterator[LiveBytes]:
    """Tensors made inside have shapes only and are counted; the head's buffer is that of the device planned for."""
    before, converted = BUFFER_BYTES["cpu"], nn.Module._apply
    BUFFER_BYTES["cpu"] = BUFFER_BYTES["accelerator" if on_accelerator else "cpu"]
    nn.Module._apply = _convert  # type: ignore[method-assign]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with FakeTensorMode(allow_non_fake_inputs=True), LiveBytes() as counter:
                yield counter
    finally:
        BUFFER_BYTES["cpu"] = before
        nn.Module._apply = converted  # type: ignore[method-assign]


def _convert(module: nn.Module, function: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """``Module.to`` and its like. PyTorch's own swaps tensors without content, which they refuse."""
    for one in module.modules() if recurse else [module]:
        for name, parameter in one.named_parameters(recurse=False):
            with torch.no_grad():
                getattr(one, name).data = function(parameter)
        for name, buffer in one.named_buffers(recurse=False):
            one._buffers[name] = function(buffer)
    return module


class _Run:
    """What a trainer does to its model in a step."""

    def __init__(
        self,
        config: SFTConfig,
        model: PreTrainedModel,
        reference: PreTrainedModel | None,
        counter: LiveBytes,
        conditions: Conditions,
    ) -> None:
        self.config, self.model, self.reference = config, model, reference
        self.counter, self.conditions = counter, conditions
        self.course: tuple[Event, ...] = ()

    def prepare(self, batch: HeaviestBatch) -> None:
        """Attention, checkpoints and the marks by which gradients and the head's share are told from the rest."""
        config, model, counter = self.config, self.model, self.counter
        longest = max(len(example) for row in batch.rows for example in row)
        if config.stage != "dpo":
            attend_by_document(model, longest=longest)
        if config.router_aux_loss:
            balance_experts(model)
        if config.gradient_checkpointing:
            asked = config.training_arguments.get("gradient_checkpointing_kwargs") or {"use_reentrant": False}
            model.gradient_checkpointing_enable({**asked, "preserve_rng_state": False})
            recompute_chosen(model, config)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(lambda one: counter.relabel(one.grad, "gradients"))

        def begin_head(_module: nn.Module, _args: Any) -> None:
            counter.kind = "head"

        model.get_output_embeddings().register_forward_pre_hook(begin_head)

    def train(self, batch: HeaviestBatch) -> dict[str, int]:
        """Forward and backward; bytes by kind when most was alive."""
        self.model.train()
        self.counter.forget_peak()
        for _ in range(min(SLICES, self.config.gradient_accumulation_steps)):
            with self.counter.counting_as("activations"):
                loss = self._loss(batch)
                self.counter.kind = "activations"
                self.counter.in_backward = True
                loss.backward()  # type: ignore[no-untyped-call]
                self.counter.in_backward = False
                del loss
        self.course = tuple(self.counter.course)
        return self._peak()

    def evaluate(self, batch: HeaviestBatch) -> dict[str, int]:
        """A forward pass without gradients."""
        self.model.eval()
        self.counter.forget_peak()
        with torch.no_grad(), self.counter.counting_as("activations"):
            self._loss(batch)
        return self._peak()

    def _peak(self) -> dict[str, int]:
        return {kind: size for kind, size in self.counter.at_peak.items() if kind != "weights"}

    def _loss(self, batch: HeaviestBatch) -> Tensor:
        head = self.model.get_output_embeddings()
        if self.config.stage == "dpo":
            return self._loss_of_pairs(head, batch)
        inputs = Collator(0, packed=batch.packed, weighted=batch.weighted, by_document=uses_documents(self.model))(
            batch.rows
        )
        in_one_pass = is_plain_linear(head) and not self.conditions.makes_logits
        form = form_of(self.model.config) if in_one_pass else None
        loss, outputs = summed_loss(head, _Wrapped(self.model, self._precision), inputs, form)
        balance = balance_loss(self.model, outputs)
        return loss if balance is None else loss + balance

    def _loss_of_pairs(self, head: nn.Module, batch: HeaviestBatch) -> Tensor:
        """Both answers of each pair in one pass, and once more by the model that it is compared with.

        TRL's own head is compiled for a GPU; what stands here makes the logits of the answers.
        """
        inputs = Collator(0, packed=False)([[example] for pair in batch.rows for example in pair])
        loss, _ = summed_loss(head, _Wrapped(self.model, self._precision), inputs)
        compared = self.model if self.reference is None else self.reference
        with torch.no_grad():
            summed_loss(compared.get_output_embeddings(), _Wrapped(compared, self._precision), inputs)
        return loss

    def _precision(self) -> AbstractContextManager[Any]:
        if self.conditions.half_weights is not None or not (self.config.bf16 or self.config.fp16):
            return nullcontext()
        return torch.autocast("cpu", torch.bfloat16 if self.config.bf16 else torch.float16)


class _Wrapped(nn.Module):
    """A model whose forward pass runs in the precision of the run, as accelerate wraps it."""

    def __init__(self, model: nn.Module, precision: Any) -> None:
        super().__init__()
        self.model, self.precision = model, precision

    def forward(self, **inputs: Any) -> Any:
        with self.precision():
            return self.model(**inputs)


def _elements(model: nn.Module) -> int:
    """Numbers of the weights; those held in few bits as they are multiplied."""
    packed = [module for module in model.modules() if isinstance(module, FewBitsLinear)]
    more = sum(module.in_features * module.out_features - module.weight.numel() for module in packed)
    return more + sum(parameter.numel() for parameter in model.parameters())


def _trained_weights(model: nn.Module) -> tuple[TrainedWeight, ...]:
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    return tuple(
        TrainedWeight(tuple(one.shape), one.element_size(), id(one) in embeddings)
        for one in model.parameters()
        if one.requires_grad
    )


def _by_place(model: nn.Module) -> tuple[int, int]:
    """Bytes of the largest decoder layer, and of all that is in none."""
    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) > 1]
    stack = max(stacks, key=tensor_bytes, default=None)
    if stack is None:
        return tensor_bytes(model), 0
    return max(tensor_bytes(layer) for layer in stack), tensor_bytes(model) - tensor_bytes(stack)
