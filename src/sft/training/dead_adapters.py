"""Stops a run in which an adapter cannot learn: a layer that is never called, or that a fused kernel goes past.

Such an adapter stays what it was while the loss falls, and nothing else would tell. What is looked at is the gradient
of each adapter's matrices: it counts as learning as soon as any of it is not zero, once. (The matrix A of a new LoRA
has a zero gradient at the first step, because B is zero; then B's is not.) When all have learnt, nothing is looked at
any more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft.errors import ModelError

PATIENCE = 3
"""Steps for which a gradient may be zero (dropout, an odd batch). One that is not even computed is judged at once."""

EXPERT_PATIENCE = 20
"""Steps for which an expert, or a layer that is sometimes skipped, may stay unused."""

PART = re.compile(r"\.(lora_[AB]|lora_embedding_[AB]|modules_to_save)\b")
EXPERT = re.compile(r"(experts?)\.\d+(?=\.|$)")


class Watch:
    """One adapter of one layer, until a part of its gradient is not zero."""

    def __init__(self, layer: str, parameters: Sequence[nn.Parameter]) -> None:
        self.layer = layer
        self.parameters = parameters
        self.reached = False
        """Whether a gradient was computed, zero or not."""
        self._learns: list[Tensor] = []
        self._hooks = [parameter.register_hook(self._look) for parameter in parameters]  # type: ignore[no-untyped-call]

    def _look(self, gradient: Tensor) -> None:
        self.reached = True
        self._learns.append(is_anywhere_nonzero(gradient))

    def learns(self, device: torch.device) -> Tensor:
        """Whether any gradient so far was not zero: a boolean on the device, without waiting for it.

        Engines that put a gradient into place themselves (FSDP) call no hook.
        """
        placed = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        if placed and not self.reached:
            self.reached = True
            self._learns += [is_anywhere_nonzero(gradient) for gradient in placed]
        seen = torch.stack([flag.to(device) for flag in self._learns]).any() if self._learns else None
        self._learns = [] if seen is None else [seen]
        return torch.zeros((), dtype=torch.bool, device=device) if seen is None else seen

    def end(self) -> None:
        """Look no more."""
        for hook in self._hooks:
            hook.remove()


class DeadAdapters(TrainerCallback):  # type: ignore[misc]
    """Raises ModelError at the first step that shows an adapter to be dead."""

    def __init__(self, targets: str | Sequence[str] | None = None) -> None:
        self.targets = targets
        self.steps = 0
        """Steps in which something learnt."""
        self.watches: list[Watch] = []
        self.learning: set[str] = set()
        self._skips_layers = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        model = kwargs["model"]
        self._skips_layers = bool(getattr(getattr(model, "config", None), "layerdrop", 0))
        self.watches = [Watch(layer, parameters) for layer, parameters in adapters_of(model).items()]

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not self.watches:
            return
        self.steps += 1
        learns, reached = self._of_all_processes(args.device)
        silent = self._settle(learns)
        is_last = state.global_step + 1 >= state.max_steps
        dead = [watch for watch in silent if self._is_dead(watch, reached[watch.layer], is_last=is_last)]
        if dead:
            raise ModelError(explain([watch.layer for watch in dead], self.steps, self.targets))
        if self.steps >= EXPERT_PATIENCE:
            self.watches = self._ended(silent)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.watches = self._ended(self.watches)

    def _of_all_processes(self, device: torch.device) -> tuple[dict[str, bool], dict[str, bool]]:
        """Per layer: whether it learns, and whether it was reached, in any process. The only wait of a step."""
        learns = torch.stack([watch.learns(device) for watch in self.watches])
        reached = torch.tensor([watch.reached for watch in self.watches], device=device)
        flags = torch.stack([learns, reached]).to(torch.int32)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        layers = [watch.layer for watch in self.watches]
        found = [dict(zip(layers, map(bool, row), strict=True)) for row in flags.tolist()]
        return found[0], found[1]

    def _settle(self, learns: dict[str, bool]) -> list[Watch]:
        """Let go of what has learnt; what is left."""
        self.learning |= {layer for layer, yes in learns.items() if yes}
        silent = [watch for watch in self.watches if not learns[watch.layer]]
        self._ended([watch for watch in self.watches if learns[watch.layer]])
        self.watches = silent
        return silent

    def _is_dead(self, watch: Watch, reached: bool, *, is_last: bool) -> bool:
        if EXPERT.search(watch.layer) and self._has_learning_sibling(watch.layer):
            return False  # another expert of the layer learns: this one was not asked
        if EXPERT.search(watch.layer) or self._skips_layers:
            return self.steps >= EXPERT_PATIENCE
        return not reached or self.steps >= PATIENCE or is_last

    def _has_learning_sibling(self, layer: str) -> bool:
        family = EXPERT.sub(r"\1", layer)
        return any(EXPERT.sub(r"\1", other) == family for other in self.learning)

    @staticmethod
    def _ended(watches: Iterable[Watch]) -> list[Watch]:
        for watch in watches:
            watch.end()
        return []


def is_anywhere_nonzero(gradient: Tensor) -> Tensor:
    """A boolean on the gradient's device; of a sharded one, this process's part."""
    local = gradient.to_local() if hasattr(gradient, "to_local") else gradient
    return (local != 0).any()


def adapters_of(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The matrices of every trained adapter, by the name of its layer in the base model."""
    found: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        part = PART.search(name)
        if part and parameter.requires_grad:
            layer = name[: part.start()].removeprefix("base_model.model.")
            found.setdefault(layer, []).append(parameter)
    return found


def explain(layers: Sequence[str], steps: int, targets: str | Sequence[str] | None) -> str:
    """What is dead, why that may be, and what to write instead."""
    kinds = sorted({last if not (last := layer.rpartition(".")[2]).isdigit() else layer for layer in layers})
    shown = ", ".join(layers[:4]) + (f" and {len(layers) - 4} more" if len(layers) > 4 else "")
    kept = [] if targets is None or isinstance(targets, str) else [name for name in targets if name not in kinds]
    advice = f"--target_modules {' '.join(kept)}" if kept else f"--exclude_modules {' '.join(kinds)}"
    return (
        f"the adapters on {', '.join(kinds)} cannot learn: after {steps} step{'s' if steps > 1 else ''} the gradient "
        f"of {len(layers)} of them is still exactly zero ({shown}). The model reads the weights of these layers "
        f"without calling them, or a fused kernel goes past them. Leave them out: {advice}."
    )
