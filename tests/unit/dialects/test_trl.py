from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sft.cli.options import config_from_words
from sft.config import RawValue, SFTConfig
from sft.dialects import Translation, recognise, translate
from sft.errors import ConfigError

SHORT: dict[str, Any] = {"model_name_or_path": "some/model", "dataset_name": "some/data"}


def read(**values: Any) -> Translation:
    raw = {key: RawValue(value, "train.yaml:1") for key, value in {**SHORT, **values}.items()}
    assert recognise(raw) == "trl"
    return translate(raw, "trl")


def as_config(**values: Any) -> SFTConfig:
    return SFTConfig(**read(**values).accepted())


def note(translation: Translation, key: str) -> tuple[str, str]:
    (found,) = [note for note in translation.notes if note.key == key]
    return found.status, found.reason


def test_silence_gives_trls_defaults_and_says_so() -> None:
    config = as_config()
    assert (config.max_length, config.learning_rate, config.num_train_epochs) == (1024, 2e-5, 3)
    assert (config.per_device_train_batch_size, config.gradient_accumulation_steps) == (8, 1)
    assert (config.gradient_checkpointing, config.bf16, config.lr_scheduler_type) == (True, True, "linear")
    assert (config.warmup_steps, config.eval_strategy, config.output_dir) == (0, "no", "trainer_output")
    assert (config.model_dir, config.save_total_limit, config.overlong) == (".", None, "cut_end")
    assert config.origins["max_length"] == "default of trl"


def test_activations_are_moved_to_the_cpu_where_trl_moves_them() -> None:
    assert as_config(activation_offloading=True).offload_activations is True


@pytest.mark.slow
def test_defaults_are_those_of_the_installed_trl() -> None:
    from trl import ModelConfig
    from trl import SFTConfig as TheirConfig

    theirs = {field.name: field.default for kind in (TheirConfig, ModelConfig) for field in _fields(kind)}
    config = as_config(use_peft=True)
    for name in (
        "max_length", "learning_rate", "num_train_epochs", "per_device_train_batch_size", "logging_steps", "seed",
        "per_device_eval_batch_size", "gradient_accumulation_steps", "gradient_checkpointing", "lr_scheduler_type",
        "warmup_steps", "save_total_limit", "max_grad_norm", "weight_decay", "save_steps", "lora_r", "lora_alpha",
        "lora_dropout", "dtype", "packing", "use_rslora", "use_dora",
    ):  # fmt: skip
        assert getattr(config, name) == theirs[name], name


def _fields(kind: type) -> tuple[Any, ...]:
    import dataclasses

    return dataclasses.fields(kind)


def test_adapter_defaults_are_trls() -> None:
    config = as_config(use_peft=True, lora_r=4)
    assert (config.use_lora, config.lora_r, config.lora_alpha, config.lora_dropout) == (True, 4, 32, 0.05)
    assert config.dtype == "float32"
    quantised = as_config(use_peft=True, load_in_4bit=True)
    assert (quantised.dtype, quantised.bnb_4bit_use_double_quant) == (None, False)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({}, "answers"),
        ({"assistant_only_loss": True}, "answers"),
        ({"completion_only_loss": True}, "answers"),
        ({"assistant_only_loss": False}, "everything"),
        ({"completion_only_loss": False}, "everything"),
        ({"completion_only_loss": False, "assistant_only_loss": True}, "answers"),
        ({"assistant_only_loss": False, "completion_only_loss": True}, "answers"),
    ],
)
def test_which_tokens_are_trained(given: dict[str, bool], meant: str) -> None:
    assert as_config(**given).train_on == meant


def test_silence_about_the_mask_is_not_passed_over() -> None:
    status, reason = note(read(), "train_on")
    assert status == "defaulted"
    assert "TRL trains whole conversations unless" in reason


def test_one_data_set_with_its_configuration_and_splits() -> None:
    config = as_config(
        dataset_config="all", dataset_train_split="a", dataset_test_split="b", eval_strategy="steps", eval_steps=5
    )
    assert config.data_path == [{"path": "some/data", "subset": "all"}]
    assert config.data_split == "a"
    assert config.eval_data_path == [{"path": "some/data", "subset": "all", "split": "b"}]


def test_evaluation_takes_the_split_test_unasked_and_none_without_a_strategy() -> None:
    assert as_config(evaluation_strategy="epoch").eval_data_path == [{"path": "some/data", "split": "test"}]
    assert as_config(eval_strategy="no", dataset_test_split="dev").eval_data_path is None


def test_a_list_of_data_sets_takes_the_place_of_one(tmp_path: Path) -> None:
    listed = [
        {"path": "a/b", "name": "c", "split": "train[:10%]"},
        {"path": "json", "data_files": ["x.jsonl", "y.jsonl"]},
        {"path": str(tmp_path), "data_dir": "inside"},
    ]
    translation = read(datasets=listed, test_split_size=0.1, eval_strategy="epoch")
    config = SFTConfig(**translation.accepted())
    assert config.data_path == [
        {"path": "a/b", "subset": "c", "split": "train[:10%]"},
        {"path": "x.jsonl"},
        {"path": "y.jsonl"},
        {"path": str(tmp_path / "inside")},
    ]
    assert config.validation_size == 0.1
    assert note(translation, "dataset_name") == ("ignored", "the list of data sets takes its place, as in TRL")


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        ({"path": "a", "fraction": 0.5}, "datasets[1].fraction"),
        ({"path": "a", "colums": ["messages"]}, "datasets[1].colums"),
        ({"path": "a/b", "data_files": "x.jsonl"}, "datasets[1].data_files"),
    ],
)
def test_what_a_source_cannot_say_is_refused_by_its_own_key(entry: dict[str, Any], key: str) -> None:
    assert note(read(datasets=[entry]), key)[0] == "refused"


def test_the_old_mixer_trains_and_holds_out_by_the_names_of_splits() -> None:
    mixer = {"a/b": 0.5, "c/d": 1.0}
    raw = {
        "model_name_or_path": RawValue("m", "f:1"),
        "dataset_mixer": RawValue(mixer, "f:2"),
        "dataset_splits": RawValue(["train_sft", "test_sft"], "f:3"),
        "eval_strategy": RawValue("epoch", "f:4"),
    }
    config = SFTConfig(**translate(raw, "trl").accepted())
    assert config.data_path == [
        {"path": "a/b", "weight": 0.5, "split": "train_sft"},
        {"path": "c/d", "weight": 1.0, "split": "train_sft"},
    ]
    assert config.eval_data_path == [{"path": "a/b", "split": "test_sft"}, {"path": "c/d", "split": "test_sft"}]


def test_end_token_text_column_and_truncation() -> None:
    config = as_config(eos_token="<|im_end|>", dataset_text_field="body", truncation_mode="keep_end")
    assert config.special_tokens == {"eos_token": "<|im_end|>"}
    assert config.columns == {"text": "body"}
    assert config.overlong == "cut_start"


def test_a_template_by_path(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    assert as_config(chat_template_path="x.jinja").chat_template == "x.jinja"
    assert as_config(chat_template_path=str(tmp_path)).chat_template == str(tmp_path / "chat_template.jinja")
    assert note(read(chat_template_path="HuggingFaceTB/SmolLM3-3B"), "chat_template_path")[0] == "refused"


def test_model_arguments_are_ours_one_by_one() -> None:
    config = as_config(model_init_kwargs={"torch_dtype": "bfloat16", "attn_implementation": "sdpa", "use_cache": False})
    assert (config.dtype, config.attn_implementation) == ("bfloat16", "sdpa")
    translation = read(model_init_kwargs={"device_map": "auto"})
    assert note(translation, "model_init_kwargs.device_map")[0] == "refused"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("loss_type", "dft"),
        ("dataset_streaming", True),
        ("accelerate_config", "zero3"),
        ("num_processes", 8),
        ("env", {"A": "b"}),
        ("router_aux_loss_coef", 0.01),
        ("lora_task_type", "SEQ_CLS"),
        ("learning_rte", 1e-5),
    ],
)
def test_what_we_have_not_is_refused_by_name(key: str, value: Any) -> None:
    translation = read(**{key: value})
    assert note(translation, key)[0] == "refused"
    with pytest.raises(ConfigError, match=key):
        translation.accepted()


def test_missing_keys_are_named() -> None:
    problems = translate({"dataset_name": RawValue("d", "f:1")}, "trl").problems()
    assert problems == ["model_name_or_path: is missing; write it, or give --model_name_or_path"]


def test_a_command_line_of_trl() -> None:
    words = ["--model_name_or_path", "m", "--dataset_name", "d", "--use_peft"]
    words += ["--lora_target_modules", "q_proj", "v_proj", "--packing"]
    config = config_from_words([*words, "--eos_token", "<|im_end|>", "--learning_rate", "2.0e-4"], "trl")
    assert (config.use_lora, config.packing, config.learning_rate) == (True, True, 2e-4)
    assert config.target_modules == ["q_proj", "v_proj"]
    assert config.special_tokens == {"eos_token": "<|im_end|>"}
    single = config_from_words([*words[:5], "--lora_target_modules", "all-linear"], "trl")
    assert single.target_modules == "all-linear"


def test_our_options_behind_the_file_win(tmp_path: Path) -> None:
    path = tmp_path / "trl.yaml"
    path.write_text("model_name_or_path: m\ndataset_name: d\nlora_r: 4\n")
    assert config_from_words([str(path)]).use_lora is False
    config = config_from_words([str(path), "--use_lora", "True", "--max_length", "64"])
    assert (config.use_lora, config.lora_r, config.lora_alpha, config.max_length) == (True, 4, 32, 64)
