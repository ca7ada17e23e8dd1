from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sft.cli.options import config_from_words
from sft.config import SFTConfig, parse_cli, read_file
from sft.config.renamed import apply_renames
from sft.data.templates import template_names
from sft.dialects import Note, Translation, recognise, translate
from sft.errors import ConfigError
from sft.training.also_write import write_arguments

RECIPE = Path(__file__).resolve().parents[3] / "recipes" / "firefly"
SMALLEST = {"model_name_or_path": "m", "train_file": "d.jsonl", "max_seq_length": 1024, "output_dir": "o"}
QLORA = {**SMALLEST, "template_name": "qwen", "train_mode": "qlora", "task_type": "sft"}


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """Values and words of a command line -> translation."""

    def reader(values: dict[str, Any], *words: str) -> Translation:
        path = tmp_path / "args.json"
        path.write_text(json.dumps(values, indent=1), encoding="utf-8")
        return translate(read_file(path), "firefly_args", apply_renames(parse_cli(words)[1]).values)

    return reader


@pytest.fixture
def configured(tmp_path: Path) -> Any:
    """The same, as the configuration that a run gets."""

    def configure(values: dict[str, Any], *words: str) -> SFTConfig:
        path = tmp_path / "args.json"
        path.write_text(json.dumps(values, indent=1), encoding="utf-8")
        return config_from_words([str(path), *words], "firefly_args")

    return configure


def note_of(translation: Translation, key: str) -> Note:
    (found,) = [note for note in translation.notes if note.key == key]
    return found


@pytest.mark.parametrize(
    ("keys", "dialect"),
    [
        (["train_file", "template_name"], "firefly_args"),
        (["train_file", "train_mode"], "firefly_args"),
        (["train_file", "task_type", "max_seq_length"], "firefly_args"),
        (["train_file", "max_seq_length"], None),
        (["data_path", "max_length"], None),
        (["template_name", "max_seq_length"], None),
    ],
)
def test_recognised_by_its_own_keys(keys: list[str], dialect: str | None, tmp_path: Path) -> None:
    path = tmp_path / "args.json"
    path.write_text(json.dumps(dict.fromkeys(keys, "x")), encoding="utf-8")
    assert recognise(read_file(path)) == dialect


def test_defaults_are_those_of_firefly(configured: Any) -> None:
    config = configured(SMALLEST)
    assert (config.stage, config.use_lora, config.load_in_4bit) == ("sft", True, True)
    assert (config.lora_r, config.lora_alpha, config.lora_dropout) == (64, 16, 0.05)
    assert (config.target_modules, config.model_dir) == ("all-linear", ".")


def test_the_other_defaults_are_those_of_transformers(configured: Any) -> None:
    """Read off the installed library; warm-up, batch size and all that ours differ in."""
    from transformers import TrainingArguments

    config, theirs = configured(SMALLEST), TrainingArguments("o", report_to="none", use_cpu=True)
    for name in (
        "num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate",
        "weight_decay", "lr_scheduler_type", "warmup_steps", "max_grad_norm", "logging_steps", "save_steps",
        "save_total_limit", "seed", "fp16", "bf16", "gradient_checkpointing", "dataloader_num_workers",
    ):  # fmt: skip
        assert getattr(config, name) == getattr(theirs, name), name


@pytest.mark.parametrize(
    ("mode", "adapter"),
    [("full", (False, False)), ("lora", (True, False)), ("qlora", (True, True)), ("QLoRA", (True, True))],
)
def test_modes(mode: str, adapter: tuple[bool, bool], configured: Any) -> None:
    config = configured({**QLORA, "train_mode": mode})
    assert (config.use_lora, config.load_in_4bit) == adapter


def test_without_an_adapter_its_shape_is_not_used(read: Any) -> None:
    translation = read({**QLORA, "train_mode": "full", "lora_rank": 8, "lora_alpha": 9, "lora_dropout": 0.1})
    assert not {"lora_r", "lora_alpha", "lora_dropout", "target_modules", "load_in_4bit"} & set(translation.values)
    assert {note_of(translation, key).status for key in ("lora_rank", "lora_alpha", "lora_dropout")} == {"ignored"}


@pytest.mark.parametrize(
    ("words", "adapter"),
    [
        (["--use_lora", "False"], (False, False)),
        (["--load_in_4bit", "False"], (True, False)),
        (["--fp16", "False"], (True, True)),
    ],
)
@pytest.mark.parametrize("values", [SMALLEST, {**QLORA, "lora_rank": 8}], ids=["unsaid", "said"])
def test_the_command_line_wins_over_the_mode(
    words: list[str], adapter: tuple[bool, bool], values: dict[str, Any], configured: Any
) -> None:
    config = configured({**values, "fp16": True}, *words)
    assert (config.use_lora, config.load_in_4bit) == adapter
    assert config.fp16 == ("--fp16" not in words)


def test_an_adapter_over_a_file_of_full_training(configured: Any) -> None:
    config = configured({**QLORA, "train_mode": "full"}, "--use_lora", "True", "--lora_r", "4")
    assert (config.use_lora, config.load_in_4bit, config.lora_r, config.lora_alpha) == (True, False, 4, 16)


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [("train_mode", "adalora", "full, lora, qlora"), ("task_type", "rm", "sft, pretrain, dpo")],
)
def test_what_it_does_not_know_is_refused(key: str, value: str, wanted: str, read: Any) -> None:
    (problem,) = read({**QLORA, key: value}).problems()
    assert f"{value!r} is none of {wanted}" in problem
    assert problem.startswith(f"{key} (")
    assert "args.json:" in problem


@pytest.mark.parametrize("missing", SMALLEST)
def test_what_is_missing_is_said(missing: str, read: Any) -> None:
    values = {key: value for key, value in QLORA.items() if key != missing}
    (problem,) = read(values).problems()
    assert problem.startswith(f"{missing}: is missing; give ")


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("train_file", ["--data_path", "d"]),
        ("max_seq_length", ["--max_seq_length", "64"]),
        ("max_seq_length", ["--max_length", "64"]),
        ("output_dir", ["--output_dir", "o"]),
    ],
)
def test_what_the_command_line_gives_is_not_missing(missing: str, words: list[str], configured: Any) -> None:
    config = configured({key: value for key, value in QLORA.items() if key != missing}, *words)
    assert str(getattr(config, words[0].removeprefix("--").replace("max_seq", "max"))) == words[1]


def test_unknown_keys_are_refused_with_the_nearest_name(read: Any) -> None:
    (problem,) = read({**QLORA, "lora_ranks": 8}).problems()
    assert "lora_ranks" in problem
    assert "Did you mean lora_rank?" in problem


# ---- templates ------------------------------------------------------------------------------------------------------


def test_firefly_s_own_text_is_taken_where_it_differs(read: Any, configured: Any) -> None:
    assert configured({**QLORA, "template_name": "llama2"}).chat_template == "firefly_llama2"
    reason = note_of(read({**QLORA, "template_name": "llama2"}), "template_name").reason
    assert "Firefly's own text" in reason
    assert "--chat_template llama2" in reason
    assert configured({**QLORA, "template_name": "llama2"}, "--chat_template", "llama2").chat_template == "llama2"


def test_a_template_of_the_same_text_keeps_its_name(configured: Any) -> None:
    assert "firefly_xverse" not in template_names()
    assert configured({**QLORA, "template_name": "xverse"}).chat_template == "xverse"


def test_the_end_of_mamba_s_answers_is_said(read: Any) -> None:
    note = note_of(read({**QLORA, "template_name": "mamba"}), "template_name")
    assert note.status == "renamed"
    assert "never learned to stop" in note.reason


def test_mamba_s_adapter_is_where_it_can_learn(read: Any, configured: Any) -> None:
    assert configured({**QLORA, "template_name": "mamba"}).target_modules == ["in_proj", "embeddings"]
    assert "out_proj" in note_of(read({**QLORA, "template_name": "mamba"}), "target_modules").reason
    assert configured({**QLORA, "template_name": "mamba"}, "--target_modules", "x_proj,in_proj").target_modules == [
        "x_proj",
        "in_proj",
    ]


@pytest.mark.parametrize("empty", ["", None])
def test_no_template_is_the_tokenizer_s_own(empty: str | None, read: Any, configured: Any) -> None:
    assert configured({**QLORA, "template_name": empty}).chat_template is None
    assert "tokenizer's own" in note_of(read({**QLORA, "template_name": empty}), "template_name").reason


def test_a_template_file_of_one_s_own_is_handed_on(configured: Any) -> None:
    assert configured({**QLORA, "template_name": "mine.jinja"}).chat_template == "mine.jinja"


# ---- stages ---------------------------------------------------------------------------------------------------------


def test_sft_has_no_use_for_the_options_of_dpo(read: Any, configured: Any) -> None:
    values = {**QLORA, "beta": 0.2, "max_prompt_length": 100}
    assert {note_of(read(values), key).status for key in ("beta", "max_prompt_length")} == {"ignored"}
    assert (configured(values).dpo_beta, configured(values).max_prompt_length) == (0.1, None)
    assert configured(values).overlong == "cut_end"


def test_dpo(configured: Any) -> None:
    config = configured({**QLORA, "task_type": "dpo"})
    assert (config.stage, config.dpo_beta, config.max_prompt_length) == ("dpo", 0.1, 512)
    config = configured({**QLORA, "task_type": "dpo", "beta": 0.3, "max_prompt_length": 300})
    assert (config.dpo_beta, config.max_prompt_length, config.overlong) == (0.3, 300, "cut_start")


def test_the_usual_longest_prompt_leaves_room_for_an_answer(configured: Any) -> None:
    """Firefly's default alone must not make short rows impossible."""
    assert configured({**QLORA, "task_type": "dpo", "max_seq_length": 256}).max_prompt_length is None
    assert configured({**QLORA, "task_type": "dpo"}, "--max_length", "256").max_prompt_length is None


def test_pretraining(read: Any, configured: Any) -> None:
    values = {**QLORA, "task_type": "pretrain", "train_file": "data/pretrain", "tokenize_num_workers": 10}
    config = configured(values)
    assert (config.stage, config.data_path, config.chat_template) == ("pretrain", "data/pretrain", None)
    assert note_of(read(values), "template_name").reason == "texts are not rendered by a template"
    assert note_of(read(values), "tokenize_num_workers").status == "ignored"


def test_the_stage_can_be_changed_on_the_command_line(configured: Any) -> None:
    config = configured({**QLORA, "beta": 0.4}, "--stage", "dpo")
    assert (config.stage, config.dpo_beta, config.overlong) == ("dpo", 0.4, "cut_start")


# ---- the rest -------------------------------------------------------------------------------------------------------


def test_held_out_rows_are_looked_at(read: Any, configured: Any) -> None:
    values = {**QLORA, "eval_file": "held_out.jsonl"}
    assert configured(values).eval_data_path == "held_out.jsonl"
    assert "never looked at it" in note_of(read(values), "eval_file").reason
    assert configured({**QLORA, "eval_file": ""}).eval_data_path is None


@pytest.mark.parametrize(
    ("key", "value", "option", "meant"),
    [
        ("optim", "adamw_hf", "optim", "adamw_torch"),
        ("optim", "paged_adamw_32bit", "optim", "paged_adamw_32bit"),
        ("warmup_ratio", 0.01, "warmup_steps", 0.01),
        ("evaluation_strategy", "no", "eval_strategy", "no"),
        ("learning_rate", "2e-4", "learning_rate", 2e-4),
        ("save_total_limit", 1, "save_total_limit", 1),
        ("packing", True, "packing", True),
    ],
)
def test_training_arguments_of_its_day_and_options_of_ours(
    key: str, value: Any, option: str, meant: Any, configured: Any
) -> None:
    assert getattr(configured({**QLORA, key: value}), option) == meant


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("disable_tqdm", False),
        ("local_rank", -1),
        ("tokenize_num_workers", 10),
        ("use_unsloth", True),
        ("deepspeed", ""),
        ("eval_file", None),
    ],
)
def test_keys_that_change_nothing_are_explained(key: str, value: Any, read: Any) -> None:
    note = note_of(read({**QLORA, key: value}), key)
    assert note.status == "ignored"
    assert note.reason


def test_words_in_firefly_s_names_take_the_place_of_the_file_s(configured: Any) -> None:
    config = configured(QLORA, "train_mode=lora", "lora_rank=4", "--seed", "7")
    assert (config.load_in_4bit, config.use_lora, config.lora_r, config.seed) == (False, True, 4, 7)


def test_neither_half_precision_is_allowed_and_both_are_not(configured: Any) -> None:
    assert (configured(QLORA).fp16, configured(QLORA).bf16) == (False, False)
    with pytest.raises(ConfigError, match="only one of the two"):
        configured({**QLORA, "fp16": True, "bf16": True})


@pytest.mark.parametrize(
    ("model", "balanced"),
    [
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", True),
        ("Qwen/Qwen1.5-MoE-A2.7B-Chat", True),
        ("deepseek-ai/deepseek-moe-16b-chat", False),
        ("Qwen/Qwen1.5-7B-Chat", False),
    ],
)
def test_experts_are_balanced_as_in_the_original(model: str, balanced: bool, configured: Any) -> None:
    assert configured({**QLORA, "model_name_or_path": model}).router_aux_loss is balanced


@pytest.mark.parametrize("mode", ["full", "lora", "qlora"])
def test_what_a_run_was_told_can_be_read_again(mode: str, configured: Any, tmp_path: Path) -> None:
    """train_args.json of a run holds our options; it trains the same by this door and by sft train."""
    changes = {"train_mode": mode, "template_name": "llama2", "eval_file": "e.jsonl", "output_dir": str(tmp_path / "o")}
    first = configured({**QLORA, **changes})
    write_arguments(first)
    path = str(tmp_path / "o" / "train_args.json")
    assert config_from_words([path], "firefly_args") == first
    assert config_from_words([path]) == first


def test_launchers_may_add_a_rank(configured: Any) -> None:
    assert configured(QLORA, "--local_rank", "1").data_path == "d.jsonl"
    assert configured(QLORA, "--local_rank=1").data_path == "d.jsonl"
    assert configured(QLORA, "--local-rank=0").data_path == "d.jsonl"


# ---- the recipe -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(RECIPE.glob("train_args/*-*-*.json")), ids=lambda path: path.stem)
def test_files_of_the_recipe(path: Path) -> None:
    values = read_file(path)
    assert recognise(values) == "firefly_args"
    translation = translate(values, "firefly_args")
    config = SFTConfig(**translation.accepted())
    family, stage, mode = re.fullmatch(r"(.+)-(sft|pretrain|dpo)-(full|lora|qlora)", path.stem).groups()
    assert (config.stage, config.use_lora, config.load_in_4bit) == (stage, mode != "full", mode == "qlora")
    assert family.replace("-", "") in config.model_name_or_path.lower().replace("-", "")
    assert config.output_dir == f"output/{path.stem}"
    deepspeed = config.training_arguments.get("deepspeed")
    assert deepspeed is None or (RECIPE / deepspeed).is_file()


def test_the_recipe_has_the_files_that_its_users_look_for() -> None:
    for name in (
        "llama2-7b-sft-qlora", "llama2-7b-sft-lora", "llama2-7b-sft-full", "gemma-2b-sft-qlora", "mamba-1.4b-sft-qlora",
        "mamba-2.8b-sft-qlora", "bloom-1b1-sft-full", "bloom-1b1-pretrain-full", "gemma-2b-dpo-qlora",
    ):  # fmt: skip
        assert (RECIPE / "train_args" / f"{name}.json").is_file(), name


def test_every_argument_of_the_readme_is_understood(read: Any) -> None:
    text = (RECIPE / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", text, re.MULTILINE)
    assert len(rows) >= 28
    unknown = [name for name, _ in rows if any("no such key" in one for one in read({**QLORA, name: "x"}).problems())]
    assert unknown == []


def test_defaults_of_the_readme_are_true(configured: Any) -> None:
    names = {"lora_rank": "lora_r", "beta": "dpo_beta", "task_type": "stage"}
    rows = re.findall(
        r"^\| `(\w+)` \| `?([\w.-]+)`? \|", (RECIPE / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    skipped = {"required", "none", "all", "the", "qlora"}
    compared = {name: value for name, value in rows if value not in skipped}
    assert {"lora_rank", "lora_dropout", "beta", "max_prompt_length", "learning_rate", "optim", "fp16"} <= set(compared)
    config = configured({**SMALLEST, "task_type": "dpo"})
    sft = configured(SMALLEST)
    for name, value in compared.items():
        found = getattr(sft if name == "task_type" else config, names.get(name, name))
        assert found == (json.loads(value) if re.fullmatch(r"[\d.e-]+|true|false", value) else value), name


def test_words_over_the_file_are_told_the_default_of_firefly(tmp_path: Path) -> None:
    path = tmp_path / "args.json"
    path.write_text(json.dumps({"output_dir": "o", "model_name_or_path": "m", "train_file": "d", "max_seq_length": 8}))
    with pytest.raises(ConfigError, match=r"lora_r = x \(--lora_r\) must be a whole number\. The default is 64\."):
        config_from_words([str(path), "--lora_r", "x"], "firefly_args")
