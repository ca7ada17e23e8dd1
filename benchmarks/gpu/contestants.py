"""Who takes part on the GPU. Each gets the same model, rows and settings, and gives back a trainer that is ready.

All compute in bfloat16 with AdamW over weights in bfloat16, without gradient checkpointing unless the job says so, with
the attention that torch has inside (there is no FlashAttention where the package index is out of reach).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu.rows import LISTS, RowList
from gpu.shapes import LORA_RANK

IGNORED = -100


@dataclass(frozen=True)
class Job:
    """One measurement."""

    model: Path
    """A folder with weights and a tokenizer."""
    rows: Path
    """JSON lines of ``input_ids`` and ``labels``."""
    row_list: str
    lora: bool
    steps: int
    """All of them: warm-up, timed, profiled."""
    checkpointing: bool
    on_gpu: bool
    out: str

    @property
    def shape_of_steps(self) -> RowList:
        return LISTS[self.row_list]

    def settings(self, *, packed: bool) -> dict[str, Any]:
        """By the names of transformers.TrainingArguments."""
        one = self.shape_of_steps
        rows, forward = (
            (one.packs_per_step, one.packs_per_step) if packed else (one.rows_per_step, one.rows_per_forward)
        )
        return {
            "output_dir": self.out,
            "max_steps": self.steps,
            "per_device_train_batch_size": forward,
            "gradient_accumulation_steps": max(1, rows // forward),
            "learning_rate": 1e-5,
            "lr_scheduler_type": "constant",
            "save_strategy": "no",
            "logging_steps": self.steps,
            "report_to": "none",
            "bf16": self.on_gpu,
            "use_cpu": not self.on_gpu,
            "optim": "adamw_torch_fused" if self.on_gpu else "adamw_torch",
            "seed": 0,
            "disable_tqdm": True,
            **({"gradient_checkpointing": True} if self.checkpointing else {}),
        }


def load_plain(job: Job) -> Any:
    """The model as transformers loads it."""
    import torch
    from transformers import AutoModelForCausalLM

    dtype = torch.bfloat16 if job.on_gpu else torch.float32
    return AutoModelForCausalLM.from_pretrained(job.model, dtype=dtype, attn_implementation="sdpa")


def lora_config() -> Any:
    """The same adapter for all: every linear layer but the head."""
    from peft import LoraConfig

    return LoraConfig(
        r=LORA_RANK, lora_alpha=2 * LORA_RANK, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )


def plain_trainer(job: Job) -> Any:
    """transformers' Trainer over padded rows, in the order of the list."""
    import json

    import torch
    from torch.utils.data import SequentialSampler
    from transformers import Trainer, TrainingArguments

    rows = [json.loads(line) for line in job.rows.read_text(encoding="utf-8").splitlines()]

    def collate(batch: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        width = max(len(row["input_ids"]) for row in batch)

        def padded(name: str, filler: int) -> torch.Tensor:
            return torch.tensor([row[name] + [filler] * (width - len(row[name])) for row in batch])

        lengths = torch.tensor([len(row["input_ids"]) for row in batch])
        mask = (torch.arange(width) < lengths[:, None]).long()
        return {"input_ids": padded("input_ids", 0), "labels": padded("labels", IGNORED), "attention_mask": mask}

    class InOrder(Trainer):  # type: ignore[misc]
        def _get_train_sampler(self, *_: Any, **__: Any) -> SequentialSampler:
            return SequentialSampler(rows)

    model = load_plain(job)
    if job.lora:
        from peft import get_peft_model

        model = get_peft_model(model, lora_config())
    args = TrainingArguments(**job.settings(packed=False), remove_unused_columns=False)
    return InOrder(model=model, args=args, train_dataset=rows, data_collator=collate)


def trl_trainer(job: Job, *, liger: bool, model: Any = None) -> Any:
    """``SFTTrainer`` with its own packing."""
    import datasets
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    datasets.disable_progress_bars()
    args = SFTConfig(
        **{"gradient_checkpointing": False} | job.settings(packed=True),  # TRL's own default is True
        packing=True,
        max_length=job.shape_of_steps.pack_length,
        use_liger_kernel=liger,
        shuffle_dataset=False,
    )
    return SFTTrainer(
        model=load_plain(job) if model is None else model,
        args=args,
        train_dataset=datasets.load_dataset("json", data_files=str(job.rows), split="train", cache_dir=job.out),
        processing_class=AutoTokenizer.from_pretrained(job.model),
        peft_config=lora_config() if job.lora and model is None else None,
    )


def unsloth_trainer(job: Job) -> Any:
    """Unsloth's model in TRL's trainer, as its documents show. It needs a GPU to be imported at all."""
    import torch
    from unsloth import FastLanguageModel

    length = job.shape_of_steps.pack_length
    model, _ = FastLanguageModel.from_pretrained(
        str(job.model), max_seq_length=length, dtype=torch.bfloat16, load_in_4bit=False, full_finetuning=not job.lora
    )
    if job.lora:
        names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        model = FastLanguageModel.get_peft_model(
            model, r=LORA_RANK, lora_alpha=2 * LORA_RANK, lora_dropout=0, target_modules=names, bias="none",
            use_gradient_checkpointing="unsloth" if job.checkpointing else False,
        )  # fmt: skip
    return trl_trainer(job, liger=False, model=model)


def our_trainer(job: Job, **more: Any) -> Any:
    """As `sft train --packing` makes it; ``more`` are further options."""
    from sft.config import SFTConfig
    from sft.training.run import assemble

    settings = {name: value for name, value in job.settings(packed=True).items() if name != "report_to"}
    adapter = {"use_lora": True, "lora_r": LORA_RANK, "lora_alpha": 2 * LORA_RANK, "lora_dropout": 0.0}
    config = SFTConfig(
        model_name_or_path=str(job.model),
        data_path=str(job.rows),
        max_length=job.shape_of_steps.pack_length,
        packing=True,
        cache_dir=f"{job.out}-cache",
        dtype="bfloat16" if job.on_gpu else "float32",
        **settings,
        **(adapter if job.lora else {}),
        **more,
    )
    return assemble(config).trainer


CONTESTANTS: dict[str, Callable[[Job], Any]] = {
    "Trainer, padded": plain_trainer,
    "TRL, packing": lambda job: trl_trainer(job, liger=False),
    "TRL, packing, Liger": lambda job: trl_trainer(job, liger=True),
    "Unsloth": unsloth_trainer,
    "ours": our_trainer,
    "ours, compiled": lambda job: our_trainer(job, compile_layers=True),
}
