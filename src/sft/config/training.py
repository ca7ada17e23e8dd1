"""How long, how fast, in what precision. Names and meanings are transformers.TrainingArguments' own."""

from __future__ import annotations

from dataclasses import dataclass

from sft.config.option import option


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The training arguments whose defaults are ours; every other one passes through under its own name."""

    num_train_epochs: float = option(3.0, "Passes over the training data.", above=0)
    max_steps: int = option(-1, "Optimizer steps; overrides num_train_epochs. -1: not used.", minimum=-1)
    per_device_train_batch_size: int = option(4, "Examples (or packed rows) per device and forward pass.", minimum=1)
    gradient_accumulation_steps: int = option(4, "Forward passes per optimizer step.", minimum=1)
    learning_rate: float = option(2e-5, "Peak learning rate.", above=0, maximum=10)
    weight_decay: float = option(0.0, "Decoupled weight decay.", minimum=0, maximum=10)
    warmup_steps: float = option(
        0.03,
        "Steps over which the learning rate rises from 0: below 1 a share of all steps, from 1 on a count.",
        minimum=0,
    )
    warmup_shape: str = option(
        "linear",
        "How it rises: linear, or quadratic (the square of the share of the warm-up that is done), which begins more "
        "gently.",
        choices=["linear", "quadratic"],
    )
    lr_scheduler_type: str = option(
        "cosine", "Shape of the learning rate after warm-up (linear, cosine, constant, ...)."
    )
    train_sampling_strategy: str = option(
        "random",
        "Order of the rows. random: anew in each epoch, by seed, and the longest row first of all. sequential: as the "
        "data has them, in every epoch (a curriculum); packed rows are then filled in that order too.",
        choices=["random", "sequential"],
    )
    optim: str = option("adamw_torch_fused", "Optimizer, by transformers' name.")
    max_grad_norm: float = option(1.0, "Gradients are scaled down to this norm. 0: never.", minimum=0)
    max_bad_steps: int = option(
        3,
        "Steps in a row whose loss or gradient is no number that are left out (the weights stay, the rows are recorded "
        "in incidents.jsonl) before the run ends.",
        minimum=0,
    )
    fp16: bool = option(False, "Compute in float16 with loss scaling. For GPUs without bfloat16.")
    bf16: bool = option(False, "Compute in bfloat16. For Ampere and newer GPUs, and recent CPUs.")
    router_aux_loss: bool = option(
        False,
        "Mixtures of experts: add the model's own loss for using its experts evenly, times router_aux_loss_coef of its "
        "config.",
    )
    gradient_checkpointing: bool = option(
        False, "Recompute activations in the backward pass: less memory, about a third more time."
    )
    seed: int = option(42, "Seed of weights, dropout, shuffling and sampling.", minimum=0, maximum=2**32 - 1)
    dataloader_num_workers: int = option(
        0, "Processes that build batches. Prepared data is memory-mapped, so 0 is rarely slower.", minimum=0
    )
    tensor_parallel_size: int = option(
        1,
        "Processes that share the weights of every layer and compute it together on the same rows, for layers too "
        "large for one device. The other processes share weights by FSDP2. By the model's own plan in transformers.",
        minimum=1,
    )
    context_parallel_size: int = option(
        1,
        "Processes that share every row: each holds a stretch of its tokens, for rows too long for one device. They "
        "exchange heads in attention, so their number must divide the attention heads of the model.",
        minimum=1,
    )
    expert_parallel_size: int = option(
        1,
        "Processes that share the experts of a mixture out and send each token to where its experts are. All other "
        "weights are shared by FSDP2.",
        minimum=1,
    )
    dp_replicate_size: int = option(
        1,
        "Copies of the model that FSDP2 shares out, each over its own processes, such as one a machine. 1: one copy "
        "over all processes.",
        minimum=1,
    )
    ddp_timeout: int = option(
        600,
        "Seconds a process waits for the others before the run ends and names who was missing.",
        minimum=5,
        maximum=86_400,
    )
    resume_from_checkpoint: str | None = option(
        "auto",
        "Checkpoint folder to go on from. auto: the newest undamaged one in output_dir, if there is one. none: start "
        "anew.",
    )
    allow_change: list[str] = option(
        [],
        "Go on from a checkpoint although these changed since: data, chat_template, tokenizer, seed, rows_per_step, "
        "code, ... (the refusal names them and says what it means). It is recorded in run.json.",
    )
