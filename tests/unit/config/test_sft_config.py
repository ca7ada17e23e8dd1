from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import pickle
from pathlib import Path

import pytest

from sft import SFTConfig
from sft.config.catalog import OPTIONS
from sft.config.values import RawValue
from sft.errors import ConfigError


def full() -> SFTConfig:
    return SFTConfig(
        data_path=["a.jsonl", {"path": "b.jsonl", "weight": 2}],
        use_lora=True,
        lora_r=16,
        target_modules=["q_proj"],
        columns={"prompt": "q"},
        warmup_ratio=0.1,
        adam_beta2=0.95,
        lr_scheduler_kwargs={"num_cycles": 1},
    )


def test_defaults_are_valid() -> None:
    config = SFTConfig()
    assert set(config.origins.values()) == {"default"}
    assert config.notes == ()
    assert config.training_arguments == {}
    for name, entry in OPTIONS.items():
        assert getattr(config, name) == entry.default


def test_defaults_are_not_shared() -> None:
    SFTConfig().columns["prompt"] = "q"
    assert SFTConfig().columns == {}


def test_unknown_name_is_our_error_and_a_value_error() -> None:
    with pytest.raises(ConfigError, match=r"lora_rr is no option. Did you mean lora_r\?"):
        SFTConfig(lora_rr=8)
    with pytest.raises(ValueError, match="lora_rr"):
        SFTConfig(lora_rr=8)


def test_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SFTConfig().lora_r = 9  # type: ignore[misc]


def test_other_training_arguments_pass_through() -> None:
    config = SFTConfig(adam_beta2="0.95", torch_compile=True, lr_scheduler_kwargs={"num_cycles": 1})
    assert config.training_arguments == {
        "adam_beta2": 0.95,
        "torch_compile": True,
        "lr_scheduler_kwargs": {"num_cycles": 1},
    }
    assert config.origins["adam_beta2"] == "python"
    assert SFTConfig(training_arguments={"adam_beta2": 0.95}).training_arguments == {"adam_beta2": 0.95}


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("remove_unused_columns", True, "batches hold"),
        ("label_smoothing_factor", 0.1, "loss is computed by sft"),
        ("auto_find_batch_size", True, "largest batch runs first"),
        ("include_for_metrics", ["inputs"], "never the logits"),
        ("train_sampling_strategy", "group_by_length", "random, sequential"),
        ("metric_for_best_model", "accuracy", "lowest eval loss"),
        ("hub_token", "hf_secret", "run.json"),
        ("parallelism_config", object(), "accelerate config"),
    ],
)
def test_what_sft_decides_is_refused_with_the_reason(name: str, value: object, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        SFTConfig(**{name: value})
    assert "hf_secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("remove_unused_columns", False),
        ("label_smoothing_factor", 0.0),
        ("metric_for_best_model", "loss"),
        ("local_rank", 3),
    ],
)
def test_what_is_so_anyway_is_dropped_with_a_note(name: str, value: object) -> None:
    config = SFTConfig(**{name: value})
    assert config.training_arguments == {}
    assert name in config.notes[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [("adam_beta1", 1.0), ("adam_epsilon", 0), ("ddp_timeout", 0), ("log_level", "loud"), ("hub_strategy", "x")],
)
def test_passed_values_have_ranges_too(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{name} = .* must be"):
        SFTConfig(**{name: value})


def test_origins() -> None:
    config = SFTConfig(lora_r=RawValue("16", "--lora_r"), use_lora=RawValue(True, "a.yaml:3"), seed=7)
    assert config.lora_r == 16
    assert (config.origins["lora_r"], config.origins["use_lora"]) == ("--lora_r", "a.yaml:3")
    assert (config.origins["seed"], config.origins["max_length"]) == ("python", "default")


def test_pickle_copy_and_equality() -> None:
    config = full()
    for again in (pickle.loads(pickle.dumps(config)), copy.deepcopy(config), copy.copy(config)):
        assert again == config
        assert (again.origins, again.notes) == (config.origins, config.notes)
    assert config != config.replace(adam_beta2=0.9)
    assert config != config.replace(seed=1)


def test_to_dict_is_plain_data_and_gives_an_equal_config() -> None:
    for config in (full(), SFTConfig(), SFTConfig(eval_data_path="e", load_best_model_at_end=True)):
        data = config.to_dict()
        assert SFTConfig(**json.loads(json.dumps(data))) == config
        assert SFTConfig(**data, origins=config.origins, notes=config.notes).origins == config.origins
    data["columns"]["prompt"] = "changed"
    assert config.columns == {}


def test_replace() -> None:
    config = full().replace(seed=1, max_seq_length=64)
    assert (config.seed, config.max_length, config.lora_r) == (1, 64, 16)
    assert config.training_arguments == full().training_arguments
    assert config.origins["seed"] == "python"
    assert config.origins["packing"] == "default"
    assert any("warmup_ratio" in note for note in config.notes)
    assert any("max_seq_length" in note for note in config.notes)


def test_replace_drops_notes_that_no_longer_hold() -> None:
    config = SFTConfig(max_steps=5, num_train_epochs=2, warmup_ratio=0.1)
    assert len(config.notes) == 2
    assert config.replace(max_steps=-1).notes == (
        "warmup_ratio is warmup_steps now; below 1 it is a share of all steps",
    )


def test_replace_is_checked_and_keeps_what_was_said() -> None:
    with pytest.raises(ConfigError, match="lora_r = 16 without use_lora"):
        full().replace(use_lora=False)
    with pytest.raises(ConfigError, match="sed is no option"):
        full().replace(sed=1)


def test_dataclasses_replace_works_too() -> None:
    changed = dataclasses.replace(full(), seed=1)
    assert changed == full().replace(seed=1)
    assert changed.origins["seed"] == "python"


def test_old_names_give_the_same_config() -> None:
    new = SFTConfig(warmup_steps=0.1, eval_strategy="epoch", eval_data_path="e", max_length=64, dtype="bfloat16")
    old = SFTConfig(
        warmup_ratio=0.1,
        evaluation_strategy="epoch",
        eval_data_path="e",
        max_seq_length=64,
        torch_dtype="torch.bfloat16",
    )
    assert old == new
    assert [note.split()[0] for note in old.notes] == [
        "warmup_ratio",
        "evaluation_strategy",
        "max_seq_length",
        "torch_dtype",
        "dtype:",
    ]


def test_a_torch_dtype_object_is_a_name() -> None:
    import torch

    assert SFTConfig(dtype=torch.bfloat16).dtype == "bfloat16"


def test_home_and_path_objects() -> None:
    config = SFTConfig(
        data_path=[Path("~/d.jsonl"), {"path": "~/e.jsonl"}], output_dir=Path("out"), system_prompt="~/ is home"
    )
    assert config.data_path == [str(Path.home() / "d.jsonl"), {"path": str(Path.home() / "e.jsonl")}]
    assert config.output_dir == "out"
    assert config.system_prompt == "~/ is home"


def test_an_empty_text_is_a_value_only_where_it_means_something() -> None:
    assert SFTConfig(system_prompt="").system_prompt == ""
    with pytest.raises(ConfigError, match="not empty"):
        SFTConfig(output_dir="")


def test_signature_shows_every_option() -> None:
    parameters = inspect.signature(SFTConfig).parameters
    assert set(OPTIONS) < set(parameters)
    assert parameters["lora_r"].default == 8
    assert parameters["training_arguments"].kind is inspect.Parameter.VAR_KEYWORD


def test_keywords_that_are_no_options_are_unknown_in_a_file() -> None:
    with pytest.raises(ConfigError, match="notes"):
        SFTConfig(notes=RawValue("x", "a.yaml:1"))


def test_without_transformers_a_name_cannot_be_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    import sft.config.resolve as resolve_module

    monkeypatch.setattr(resolve_module, "installed_fields", dict)
    with pytest.raises(ConfigError, match="transformers knows it cannot be seen"):
        SFTConfig(torch_compile=True)
