"""TRL's and axolotl's files run as they are, train the text and the tokens they mean, and equal their translation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoTokenizer

from sft.cli.main import main
from sft.cli.options import config_from_words
from sft.data.prepare import prepare
from sft.models.tokenizer import load_tokenizer_for

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
    "'\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TALKS = [
    [("system", "Be short."), ("human", "What is 2 + 3?"), ("gpt", "5"), ("human", "And 4 + 4?"), ("gpt", "8")],
    [("human", "Name a colour."), ("gpt", "Blue.")],
] * 4
ROLES = {"human": "user", "gpt": "assistant", "system": "system"}
QUESTIONS = [
    {"instruction": "Add the numbers.", "input": "2 and 3", "output": "5"},
    {"instruction": "Say hello.", "input": "", "output": "Hello!"},
] * 4
WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
    "response that appropriately completes the request.\n\n### Instruction:\nAdd the numbers.\n\n### Input:\n2 and 3"
    "\n\n### Response:\n"
)
WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    "\n\n### Instruction:\nSay hello.\n\n### Response:\n"
)
SHORT = {"num_epochs": 1, "max_steps": 2, "learning_rate": "1e-3", "sequence_len": 256, "optimizer": "adamw_torch"}


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def talks(tmp_path: Path) -> str:
    rows = [{"conversations": [{"from": role, "value": text} for role, text in talk]} for talk in TALKS]
    return write(tmp_path / "talks.jsonl", rows)


@pytest.fixture
def messages(tmp_path: Path) -> str:
    rows = [{"messages": [{"role": ROLES[role], "content": text} for role, text in talk]} for talk in TALKS]
    return write(tmp_path / "messages.jsonl", rows)


@pytest.fixture
def questions(tmp_path: Path) -> str:
    return write(tmp_path / "questions.jsonl", QUESTIONS)


def save(values: dict[str, Any], folder: Path) -> Path:
    path = folder / "theirs.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def trained(path: Path, cache: Path) -> list[tuple[str, list[str]]]:
    """Text and trained stretches of each example that a configuration prepares."""
    config = config_from_words([str(path), "--cache_dir", str(cache)])
    tokenizer = load_tokenizer_for(config)
    examples = prepare(config, tokenizer, quiet=True).train.examples
    found = []
    for number in range(len(examples)):
        example = examples[number]
        stretches: list[list[int]] = []
        before = 0
        for token, mask in zip(example.input_ids.tolist(), example.loss_mask.tolist(), strict=True):
            if mask and not before:
                stretches.append([])
            if mask:
                stretches[-1].append(token)
            before = mask
        found.append((tokenizer.decode(example.input_ids), [tokenizer.decode(ids) for ids in stretches]))
    return found


def run_both(path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Train by the file, and by what it is translated to; both are one run."""
    words = ["--cache_dir", str(folder / "cache"), "--dtype", "float32", "--bf16", "False"]
    assert main(["train", str(path), "--output_dir", str(folder / "theirs"), *words]) == 0
    capsys.readouterr()
    assert main(["translate", str(path)]) == 0
    ours = folder / "ours.yaml"
    ours.write_text(capsys.readouterr().out, encoding="utf-8")
    assert main(["train", str(ours), "--output_dir", str(folder / "ours"), *words]) == 0
    runs = [json.loads((folder / name / "run.json").read_text(encoding="utf-8")) for name in ("theirs", "ours")]
    losses = [
        [json.loads(line).get("loss") for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("theirs", "ours")
    ]
    assert losses[0] == losses[1]
    assert sum(loss is not None for loss in losses[0]) == 2
    configs = [{key: entry["value"] for key, entry in run["config"].items() if key != "output_dir"} for run in runs]
    assert configs[0] == configs[1]
    return configs[0]


def test_a_recipe_of_trl(
    tiny_model_folder: Path, messages: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {
        "model_name_or_path": str(tiny_model_folder),
        "torch_dtype": "bfloat16",
        "chat_template": CHATML,
        "dataset_mixture": {"datasets": [{"id": messages, "columns": ["messages"], "weight": 1.0}], "seed": 0},
        "dataset_num_proc": 12,
        "eval_strategy": "no",
        "gradient_checkpointing": True,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "max_seq_length": 256,
        "max_steps": 2,
        "overwrite_output_dir": True,
        "per_device_train_batch_size": 2,
        "remove_unused_columns": True,
        "report_to": [],
        "use_peft": True,
        "lora_r": 4,
        "warmup_ratio": 0.1,
    }
    path = save(values, tmp_path)
    config = run_both(path, tmp_path, capsys)
    assert (config["lora_r"], config["lora_alpha"], config["model_dir"]) == (4, 32, ".")
    assert (tmp_path / "theirs" / "adapter_model.safetensors").is_file()
    first, second = trained(path, tmp_path / "cache")[:2]
    assert first[1] == ["5<|im_end|>", "8<|im_end|>"]
    assert second[1] == ["Blue.<|im_end|>"]


def test_axolotl_alpaca(
    tiny_model_folder: Path, questions: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {
        "base_model": str(tiny_model_folder),
        "datasets": [{"path": questions, "type": "alpaca"}],
        "val_set_size": 0.25,
        "adapter": "lora",
        "lora_r": 4,
        "lora_alpha": 8,
        "lora_target_linear": True,
        "sample_packing": True,
        "saves_per_epoch": 1,
        "evals_per_epoch": 4,
        "bf16": "auto",
        "tf32": True,
        "logging_steps": 1,
        "warmup_ratio": 0.1,
        "wandb_project": None,
        "special_tokens": {"pad_token": "<|end_of_text|>"},
        **SHORT,
    }
    path = save(values, tmp_path)
    config = run_both(path, tmp_path, capsys)
    assert (config["target_modules"], config["eval_steps"], config["save_strategy"]) == ("all-linear", 0.25, "epoch")
    eos = load_tokenizer_for(config_from_words([str(path)])).eos_token
    texts = dict(trained(path, tmp_path / "cache"))
    assert texts == {f"{WITH_INPUT}5{eos}": [f"5{eos}"], f"{WITHOUT_INPUT}Hello!{eos}": [f"Hello!{eos}"]}


def test_axolotl_chat_template(
    tiny_model_folder: Path, talks: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {
        "base_model": str(tiny_model_folder),
        "chat_template": "chatml",
        "datasets": [
            {
                "path": talks,
                "type": "chat_template",
                "field_messages": "conversations",
                "message_property_mappings": {"role": "from", "content": "value"},
            }
        ],
        "gradient_checkpointing": True,
        "micro_batch_size": 2,
        "logging_steps": 1,
        "eot_tokens": ["<|im_end|>"],
        "plugins": ["axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin"],
        **SHORT,
    }
    path = save(values, tmp_path)
    config = run_both(path, tmp_path, capsys)
    assert (config["use_lora"], config["per_device_train_batch_size"]) == (False, 2)
    assert (tmp_path / "theirs" / "model.safetensors").is_file()
    first, second = trained(path, tmp_path / "cache")[:2]
    assert first[1] == ["5<|im_end|>", "8<|im_end|>"]
    assert second[1] == ["Blue.<|im_end|>"]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, ["5<|im_end|>", "8<|im_end|>"]),
        ({"roles_to_train": None, "train_on_eos": None}, ["8<|im_end|>"]),
        ({"roles_to_train": ["assistant"], "train_on_eos": "turn"}, ["5<|im_end|>", "8<|im_end|>"]),
    ],
)
def test_axolotl_masks_are_the_documented_ones(
    changed: dict[str, Any], expected: list[str], tiny_model_folder: Path, messages: str, tmp_path: Path
) -> None:
    entry = {"path": messages, "type": "chat_template", **changed}
    values = {"base_model": str(tiny_model_folder), "chat_template": "chatml", "datasets": [entry], **SHORT}
    assert trained(save(values, tmp_path), tmp_path / "cache")[0][1] == expected


def test_train_on_inputs_trains_the_prompt_too(tiny_model_folder: Path, messages: str, tmp_path: Path) -> None:
    entry = {"path": messages, "type": "chat_template"}
    values = {"base_model": str(tiny_model_folder), "chat_template": "chatml", "datasets": [entry], **SHORT}
    ((text, (stretch,)), *_) = trained(save({**values, "train_on_inputs": True}, tmp_path), tmp_path / "cache")
    assert text.endswith(stretch)
    assert "Be short." in stretch


def test_a_user_defined_prompt_is_the_text_of_its_format(
    tiny_model_folder: Path, questions: str, tmp_path: Path
) -> None:
    kind = {
        "field_instruction": "instruction",
        "field_input": "input",
        "field_output": "output",
        "format": "[INST] {instruction} with {input} [/INST] ",
        "no_input_format": "[INST] {instruction} [/INST] ",
    }
    values = {"base_model": str(tiny_model_folder), "datasets": [{"path": questions, "type": kind}], **SHORT}
    found = trained(save(values, tmp_path), tmp_path / "cache")[:2]
    eos = load_tokenizer_for(config_from_words([str(tmp_path / "theirs.yaml")])).eos_token
    assert [text for text, _ in found] == [
        f"[INST] Add the numbers. with 2 and 3 [/INST] 5{eos}",
        f"[INST] Say hello. [/INST] Hello!{eos}",
    ]
    assert [stretches for _, stretches in found] == [[f"5{eos}"], [f"Hello!{eos}"]]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_masks_are_trls_own(tiny_model_folder: Path, messages: str, tmp_path: Path) -> None:
    """assistant_only_loss: the tokens are those that TRL trains."""
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig as TheirConfig
    from trl import SFTTrainer as TheirTrainer

    marked = CHATML.replace(
        "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}",
        "{{ '<|im_start|>' + message['role'] + '\n' }}{% if message['role'] == 'assistant' %}{% generation %}"
        "{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}{{ message['content'] + '<|im_end|>' }}"
        "{% endif %}{{ '\n' }}",
    )
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    tokenizer.chat_template = marked
    arguments = TheirConfig(
        output_dir=str(tmp_path / "trl"), assistant_only_loss=True, max_length=256, bf16=False, report_to="none"
    )
    theirs = TheirTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model_folder),
        args=arguments,
        train_dataset=load_dataset("json", data_files=messages, split="train"),
        processing_class=tokenizer,
    ).train_dataset
    values = {
        "model_name_or_path": str(tiny_model_folder),
        "dataset_name": messages,
        "chat_template": CHATML,
        "assistant_only_loss": True,
        "max_length": 256,
    }
    config = config_from_words([str(save(values, tmp_path)), "--cache_dir", str(tmp_path / "cache")])
    ours = prepare(config, load_tokenizer_for(config), quiet=True).train.examples
    assert len(ours) == len(theirs)
    for number, row in enumerate(theirs):
        masks = row["assistant_masks"] if "assistant_masks" in row else [int(x != -100) for x in row["labels"]]
        assert ours[number].input_ids.tolist() == row["input_ids"]
        assert torch.equal(torch.tensor(ours[number].loss_mask.tolist()), torch.tensor(masks))
