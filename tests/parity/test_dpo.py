"""Stage dpo against TRL: the same token ids, losses, rewards and gradients as its plain DPOTrainer on the same rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip(
    "trl", reason="the extra `dpo` is not installed (pip install -e '.[dpo]'), so no TRL to compare with"
)

from datasets import Dataset
from transformers import set_seed
from trl import DPOConfig, DPOTrainer

from sft.config import SFTConfig
from sft.data.pairs import Pair
from sft.data.prepare import prepare
from sft.models.tokenizer import load_tokenizer_for
from sft.training.base import train_order
from sft.training.build_model import build_model
from sft.training.dpo import split_pair
from sft.training.metrics_file import read_metrics
from sft.training.run import assemble, train

pytestmark = pytest.mark.filterwarnings("ignore")  # TRL's own deprecations

# Observed: no difference at all in eight comparisons; both compute the same sums in the same order.
TOLERANCE = 1e-5
COMPARED = ("loss", "grad_norm", "rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins")

# It ends with the token that ends the answer, so that TRL trains no token behind it.
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def messages(number: int) -> dict[str, Any]:
    """One of forty pairs, of which no two are alike."""
    question = f"Count to {number}" + ", please" * (number % 3)
    right, wrong = " ".join(str(n) for n in range(1, number % 7 + 2)), "No" + " no" * (number % 4) + "."
    return {
        "prompt": [{"role": "user", "content": question}],
        "chosen": [{"role": "assistant", "content": right}],
        "rejected": [{"role": "assistant", "content": wrong}],
    }


def whole(number: int) -> dict[str, Any]:
    """The same with an implicit prompt."""
    row = messages(number)
    return {name: row["prompt"] + row[name] for name in ("chosen", "rejected")}


def text(number: int) -> dict[str, Any]:
    """The same as texts, which no template renders."""
    row = messages(number)
    return {name: turns[0]["content"] + ("\n" if name == "prompt" else "") for name, turns in row.items()}


def whole_text(number: int) -> dict[str, Any]:
    row = text(number)
    return {name: row["prompt"] + row[name] for name in ("chosen", "rejected")}


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def config(tiny_model_folder: Path, tmp_path: Path) -> Callable[..., SFTConfig]:
    def make(rows: Callable[[int], dict[str, Any]] = messages, **changes: Any) -> SFTConfig:
        values = {
            "stage": "dpo",
            "model_name_or_path": str(tiny_model_folder),
            "data_path": write(tmp_path / "train.jsonl", [rows(number) for number in range(1, 33)]),
            "eval_data_path": write(tmp_path / "eval.jsonl", [rows(number) for number in range(33, 41)]),
            "chat_template": TEMPLATE,
            "cache_dir": str(tmp_path / "cache"),
            "output_dir": str(tmp_path / "run"),
            "max_length": 128,
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 2,
            "max_steps": 4,
            "eval_steps": 2,
            "learning_rate": 1e-2,
            "logging_steps": 1,
            "save_strategy": "no",
            "warmup_steps": 0,
        }
        return SFTConfig(**{**values, **changes})

    return make


def trl_trainer(config: SFTConfig, rows: Callable[[int], dict[str, Any]], order: list[int]) -> DPOTrainer:
    """TRL's trainer as a user would write it, with its own tokenisation; only the order is given to it."""
    tokenizer = load_tokenizer_for(config)
    set_seed(config.seed)
    return DPOTrainer(
        model=build_model(config, tokenizer),
        args=DPOConfig(
            output_dir=config.output_dir + "-trl",
            beta=config.dpo_beta,
            loss_type=[config.dpo_loss_type],
            label_smoothing=config.dpo_label_smoothing,
            per_device_train_batch_size=config.per_device_train_batch_size,
            per_device_eval_batch_size=config.per_device_eval_batch_size,
            gradient_accumulation_steps=config.gradient_accumulation_steps,
            max_steps=config.max_steps,
            learning_rate=config.learning_rate,
            lr_scheduler_type=config.lr_scheduler_type,
            optim=config.optim,
            seed=config.seed,
            train_sampling_strategy="sequential",
            eval_strategy="steps",
            eval_steps=2,
            eval_on_start=True,
            logging_steps=1,
            save_strategy="no",
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            disable_tqdm=True,
            report_to=[],
        ),
        train_dataset=Dataset.from_list([rows(position + 1) for position in order]),
        eval_dataset=Dataset.from_list([rows(number) for number in range(33, 41)]),
        processing_class=tokenizer,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_lora": True, "dpo_beta": 0.3},
        {"dpo_loss_type": "ipo"},
        {"dpo_loss_type": "robust", "dpo_label_smoothing": 0.1, "use_lora": True},
    ],
    ids=["full", "lora", "ipo", "robust lora"],
)
def test_losses_rewards_and_gradients_are_trls(config: Callable[..., SFTConfig], changes: dict[str, Any]) -> None:
    ours = config(**changes)
    run = assemble(ours)
    order = list(train_order(run.trainer.args, run.trainer.train_dataset, filled=False))
    train(run)
    plain = trl_trainer(ours, messages, order)
    plain.train()
    theirs = plain.state.log_history
    logged = read_metrics(Path(ours.output_dir) / "metrics.jsonl")
    for prefix in ("", "eval_"):
        names = [prefix + name for name in COMPARED if prefix + name != "eval_grad_norm"]
        one, other = (
            [[line[name] for name in names] for line in lines if f"{prefix}loss" in line] for lines in (logged, theirs)
        )
        assert len(one) == len(other) == (3 if prefix else 4)
        assert one == [pytest.approx(line, abs=TOLERANCE) for line in other]
    assert any(abs(line.get("rewards/margins", 0.0)) > 0.01 for line in logged)


@pytest.mark.parametrize("rows", [messages, whole, text, whole_text])
def test_token_ids_are_trls(config: Callable[..., SFTConfig], rows: Callable[[int], dict[str, Any]]) -> None:
    ours = config(rows, max_steps=1)
    examples = prepare(ours, load_tokenizer_for(ours), quiet=True).train.examples
    theirs = trl_trainer(ours, rows, list(range(32))).train_dataset
    assert len(examples) == 2 * len(theirs)
    for number, other in enumerate(theirs):
        pair = split_pair(Pair(examples[2 * number], examples[2 * number + 1]))
        assert pair == {name: other[name] for name in pair}
