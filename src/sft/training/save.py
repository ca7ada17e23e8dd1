"""The end of the walk: what was trained is written where the config says, and merged if it asks for that."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from sft.config import SFTConfig
from sft.export.card import DataSource, TrainingFacts
from sft.export.merge_result import MergeResult
from sft.export.save import save_final
from sft.models.quantization import quantization_of
from sft.models.tokenizer import template_origin
from sft.training.base import RunTrainer
from sft.training.gather import gather_weights, loading_whole_models, saved_as_whole
from sft.training.launch import announce
from sft.training.plan import Plan

CARD_OPTIONS = (
    "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate",
    "lr_scheduler_type", "warmup_steps", "weight_decay", "optim", "max_length", "packing", "seed", "bf16", "fp16",
)  # fmt: skip
STAGE_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "sft": (),
    "pretrain": ("isolate_documents",),
    "dpo": ("dpo_beta", "dpo_loss_type", "dpo_label_smoothing"),
}
LOSS_ON = {"pretrain": "every token", "dpo": "the better of two answers against the worse (DPO)"}
"""What is trained, where train_on does not say it."""
ADAPTER_OPTIONS = (
    "lora_r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "init_lora_weights", "loraplus_lr_ratio",
    "load_in_4bit", "load_in_8bit",
)  # fmt: skip


BITS_OPTIONS = (
    "qat_weight_dtype", "qat_activation_dtype", "qat_group_size", "qat_embedding", "qat_output_head", "qat_start_step",
    "float8_training", "keep_zeros",
)  # fmt: skip
LEARNING_OPTIONS = ("eaft_alpha", "lisa_layers", "relora_steps", "lr_restart_steps")
"""Named where they are set."""


@dataclass(frozen=True)
class SavedModel:
    """Where the result of a run lies."""

    model: Path
    """The trained model, or the adapter."""

    merged: Path | None
    """The merged model of a LoRA run, if one was asked for."""

    merge: MergeResult | None = None
    """How far it is from the adapter."""


@dataclass(frozen=True)
class ModelSaver:
    """Writes the model or adapter of a run as it is now, with all that its use needs."""

    config: SFTConfig
    trainer: RunTrainer
    tokenizer: PreTrainedTokenizerBase
    plan: Plan

    def save(self, name: str, results: Mapping[str, Any]) -> Path:
        """Write it into a folder of the run; every process calls it, the first one writes.

        Args:
            name: the folder, within output_dir; '.' is output_dir itself.
            results: figures of the run for the model card.
        """
        folder, report = Path(self.config.output_dir) / name, self.plan.data.train.report
        state_dict = gather_weights(self.trainer)
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        if self.trainer.is_world_process_zero():
            with saved_as_whole(model):
                save_final(
                    model=model,
                    tokenizer=self.tokenizer,
                    folder=folder,
                    stop_token_ids=report.stop_token_ids,
                    facts=card_facts(self.config, self.tokenizer, self.plan, results),
                    template_defaults=report.generation_kwargs,
                    state_dict=state_dict,
                    keep_others=name == ".",
                    quantization=quantization_of(self.config),
                )
        self.trainer.accelerator.wait_for_everyone()
        return folder


def save_run(saver: ModelSaver, results: Mapping[str, Any]) -> SavedModel:
    """Save what was trained, and merge it if the config asks for that; the first process does, the others go on."""
    config, root = saver.config, Path(saver.config.output_dir)
    folder = saver.save(config.model_dir, results)
    if config.merged_dir is None:
        return SavedModel(folder, None)
    merge = None
    if saver.trainer.is_world_process_zero():
        with loading_whole_models():
            from sft.export.merge import merge_adapter  # with PEFT, which a run without an adapter does not load

            merge = merge_adapter(
                base_model=config.model_name_or_path,
                adapter_path=folder,
                output_path=root / config.merged_dir,
                base_revision=config.model_revision,
                trust_remote_code=config.trust_remote_code,
                keep_others=True,  # an earlier end of this run may have merged there
            )
        announce(
            "merged model, as written, against adapter: "
            + ", ".join(f"{name} {figure}" for name, figure in merge.agreement())
        )
    return SavedModel(folder, root / config.merged_dir, merge)  # the others wait for no merge: it can take its time


def card_facts(
    config: SFTConfig, tokenizer: PreTrainedTokenizerBase, plan: Plan, results: Mapping[str, Any]
) -> TrainingFacts:
    """What the model card tells of this run."""
    report = plan.data.train.report
    names = CARD_OPTIONS + STAGE_OPTIONS[config.stage] + (ADAPTER_OPTIONS if config.use_lora else ())
    names += tuple(name for name in (*BITS_OPTIONS, *LEARNING_OPTIONS) if getattr(config, name))
    return TrainingFacts(
        base_model=config.model_name_or_path,
        base_revision=config.model_revision,
        sources=[
            DataSource(path=path, num_examples=count, sha256=hash_file(Path(path)))
            for path, count in plan.data.train.examples.count_by_path().items()
        ],
        trained_on=LOSS_ON.get(config.stage, config.train_on),
        chat_template=template_origin(tokenizer),
        hyperparameters={name: getattr(config, name) for name in names},
        results={
            "rows": report.rows,
            "examples": report.examples,
            "tokens": report.tokens,
            "trained tokens": report.trained_tokens,
            **results,
        },
    )


def hash_file(path: Path) -> str | None:
    """SHA-256 of a file, the hash people compare downloads with; None for what is no file."""
    if not path.is_file():
        return None
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
