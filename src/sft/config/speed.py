"""What makes a step quicker or lets it fit, without changing what is learned."""

from __future__ import annotations

from dataclasses import dataclass

from sft.config.option import option


@dataclass(frozen=True, kw_only=True)
class SpeedOptions:
    """Batches by tokens, memory against time, compiled layers (docs/speed.md)."""

    tokens_per_batch: int | None = option(
        None,
        "Without packing: rows of about the same length share a forward pass of at most so many tokens, padding "
        "counted, in place of per_device_train_batch_size rows of any length. Unset: not used.",
        minimum=2,
    )
    gradient_checkpointing_every: int = option(
        1,
        "With gradient_checkpointing: recompute every n-th layer only. 2: about half the extra time, and half of the "
        "memory saved.",
        minimum=1,
    )
    gradient_checkpointing_layers: list[int] | None = option(
        None, "With gradient_checkpointing: numbers of the layers that are recomputed, from 0. Unset: all."
    )
    offload_activations: bool = option(
        False,
        "Keep what the backward pass needs in the memory of the CPU instead of that of the GPU, large tensors only. "
        "With gradient_checkpointing little is left to move, which is the usual way to use it.",
    )
    compile_layers: bool = option(
        False,
        "Compile the layers of the model with torch.compile, once for all that are alike. Takes a minute or more "
        "before the first step and needs a C++ compiler on a CPU.",
    )
    cpu_matmul: str = option(
        "auto",
        "Which library multiplies float32 matrices on a CPU: onednn; pytorch, what PyTorch takes by itself; auto, "
        "oneDNN where it is known to be quicker, which is on AMD's processors with AVX-512.",
        choices=["auto", "onednn", "pytorch"],
    )
    keep_cpu_memory: bool = option(
        True,
        "On a CPU under Linux: the process keeps memory that a step has freed, for the next step, instead of giving it "
        "back to the system.",
    )
    log_token_figures: bool = option(
        False,
        "Log, beside the training loss, the mean entropy of the predictions of trained tokens (entropy, in nats), the "
        "share of these tokens that the model ranked first (token_accuracy), and the loss of each source (loss_of/...) "
        "and of the first, second, ... answer of a conversation (loss_of_answer/...). About a fifth more time in the "
        "loss.",
    )
    memory_check: str = option(
        "refuse",
        "What is done with the estimate of memory that stands before every run: refuse a run that cannot fit, before "
        "its model is loaded; warn, and begin it all the same; off, make no estimate.",
        choices=["refuse", "warn", "off"],
    )
