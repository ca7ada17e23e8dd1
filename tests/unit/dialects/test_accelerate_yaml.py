from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sft.config import RawValue, SFTConfig, read_file
from sft.dialects import Translation, recognise, translate
from sft.errors import ConfigError

RECIPE = Path(__file__).resolve().parents[3] / "recipes" / "accelerate"

SHORT = """\
model:
  path: some/model
dataset:
  name: rows.jsonl
training:
  learning_rate: "2e-4"
"""


def read(folder: Path, text: str, **overrides: object) -> Translation:
    path = folder / "train.yaml"
    path.write_text(text, encoding="utf-8")
    values = read_file(path)
    dialect = recognise(values)
    assert dialect == "accelerate_yaml"
    return translate(values, dialect, {name: RawValue(value, f"--{name}") for name, value in overrides.items()})


def as_config(translation: Translation) -> SFTConfig:
    return SFTConfig(**translation.accepted())


def statuses(translation: Translation) -> dict[str, str]:
    return {note.key: note.status for note in translation.notes}


def leaves(mapping: dict, prefix: str = "") -> list[str]:
    nested = [(f"{prefix}{key}", value) for key, value in mapping.items()]
    return [leaf for key, value in nested for leaf in (leaves(value, f"{key}.") if isinstance(value, dict) else [key])]


@pytest.mark.parametrize("name", ["default_train_config.yaml", "lora_train_config.yaml"])
def test_every_key_of_the_recipes_gets_exactly_one_note(name: str) -> None:
    values = read_file(RECIPE / name)
    translation = translate(values, "accelerate_yaml")
    written = leaves(yaml.safe_load((RECIPE / name).read_text(encoding="utf-8")))
    noted = [note.key for note in translation.notes if note.status != "defaulted"]
    assert sorted(noted) == sorted(written)
    assert translation.problems() == []


def test_full_recipe_has_the_values_of_the_original() -> None:
    config = as_config(translate(read_file(RECIPE / "default_train_config.yaml"), "accelerate_yaml"))
    assert (config.max_length, config.use_lora, config.load_in_4bit, config.dtype) == (128, False, False, None)
    assert (config.data_path, config.data_split) == ("openai/gsm8k:main", "train")
    assert config.columns == {"prompt": "question", "response": "answer"}
    assert (config.num_train_epochs, config.max_steps, config.warmup_steps, config.seed) == (1, 2000, 5, 3407)
    assert (config.gradient_accumulation_steps, config.per_device_train_batch_size) == (1, 1)
    assert (config.learning_rate, config.weight_decay, config.lr_scheduler_type) == (2e-4, 0.01, "linear")
    assert (config.logging_steps, config.report_to, config.gen_every_n_steps) == (1, "none", 20)
    assert (config.output_dir, config.model_dir, config.merged_dir) == ("outputs", ".", None)


def test_lora_recipe_has_the_values_of_the_original() -> None:
    config = as_config(translate(read_file(RECIPE / "lora_train_config.yaml"), "accelerate_yaml"))
    assert (config.max_length, config.use_lora, config.learning_rate) == (256, True, 5e-5)
    assert (config.lora_r, config.lora_alpha, config.lora_dropout, config.lora_bias) == (16, 32, 0.1, "none")
    assert config.target_modules == ["q_proj", "v_proj", "k_proj", "o_proj"]
    assert (config.output_dir, config.model_dir, config.merged_dir) == ("outputs_lora", "lora_weights", ".")


def test_silence_gives_the_defaults_of_the_original_and_says_so(tmp_path: Path) -> None:
    translation = read(tmp_path, SHORT)
    config = as_config(translation)
    assert (config.lr_scheduler_type, config.warmup_steps, config.weight_decay) == ("linear", 5, 0.01)
    assert (config.num_train_epochs, config.seed, config.output_dir) == (1, 3407, "outputs")
    assert config.max_steps == -1, "2000 steps would be more than the epochs asked for"
    assert statuses(translation)["lr_scheduler_type"] == "defaulted"
    assert config.origins["lr_scheduler_type"] == "default of accelerate_yaml"


def test_silence_about_columns_leaves_them_to_the_rows(tmp_path: Path) -> None:
    config = as_config(read(tmp_path, SHORT))
    assert config.columns == {}
    assert config.format_type is None


def test_one_named_column_leaves_the_other_its_usual_name(tmp_path: Path) -> None:
    config = as_config(read(tmp_path, SHORT.replace("rows.jsonl", "rows.jsonl\n  answer_column: solution")))
    assert config.columns == {"prompt": "question", "response": "solution"}
    assert config.format_type == "custom"


def test_values_know_file_line_and_foreign_key(tmp_path: Path) -> None:
    config = as_config(read(tmp_path, SHORT))
    assert config.origins["model_name_or_path"] == f"{tmp_path / 'train.yaml'}:2 (model.path)"
    assert config.origins["learning_rate"] == f"{tmp_path / 'train.yaml'}:6 (training.learning_rate)"


def test_numbers_written_as_text_are_numbers(tmp_path: Path) -> None:
    assert as_config(read(tmp_path, SHORT)).learning_rate == 2e-4


@pytest.mark.parametrize(
    ("written", "meant"),
    [("bfloat16", "bfloat16"), ("torch.bfloat16", "bfloat16"), ("fp32", "float32"), ("null", None)],
)
def test_dtype_is_honoured(tmp_path: Path, written: str, meant: str | None) -> None:
    text = SHORT.replace("some/model", f"some/model\n  dtype: {written}")
    assert as_config(read(tmp_path, text)).dtype == meant


def test_4bit_is_honoured(tmp_path: Path) -> None:
    text = SHORT.replace("some/model", "some/model\n  use_lora: true\n  load_in_4bit: true")
    assert as_config(read(tmp_path, text)).load_in_4bit is True


def test_lora_defaults_of_the_original(tmp_path: Path) -> None:
    config = as_config(read(tmp_path, SHORT.replace("some/model", "some/model\n  use_lora: true")))
    assert (config.lora_r, config.lora_alpha, config.lora_dropout) == (16, 32, 0.1)
    assert config.target_modules == ["q_proj", "v_proj"]


def test_lora_settings_beside_full_training_are_ignored_with_the_reason(tmp_path: Path) -> None:
    text = SHORT.replace("some/model", "some/model\n  use_lora: false\n  lora_config:\n    r: 64")
    translation = read(tmp_path, text)
    (note,) = [note for note in translation.notes if note.key == "model.lora_config.r"]
    assert note.status == "ignored"
    assert "use_lora" in note.reason
    assert as_config(translation).lora_r == 8


def test_use_lora_on_the_command_line_decides_where_things_are_saved(tmp_path: Path) -> None:
    text = SHORT.replace("some/model", "some/model\n  use_lora: false\n  lora_config:\n    r: 64")
    translation = read(tmp_path, text, use_lora="True")
    config = SFTConfig(**translation.accepted() | {"use_lora": True})
    assert (config.lora_r, config.model_dir, config.merged_dir) == (64, "lora_weights", ".")


@pytest.mark.parametrize("epochs", ["epochs", "num_train_epochs"])
def test_other_training_keys_pass_under_the_trainers_names(tmp_path: Path, epochs: str) -> None:
    text = f"{SHORT}  {epochs}: 2\n  max_grad_norm: 0.5\n  adam_beta2: 0.95\n  warmup_ratio: 0.1\n  packing: true\n"
    translation = read(tmp_path, text)
    config = as_config(translation)
    assert (config.num_train_epochs, config.max_grad_norm, config.packing) == (2, 0.5, True)
    assert config.training_arguments == {"adam_beta2": 0.95}
    assert config.warmup_steps == 0.1, "the default of 5 steps does not stand against a ratio that is given"
    assert statuses(translation)["training.adam_beta2"] == "kept"


@pytest.mark.parametrize(
    ("old", "new", "key", "hint"),
    [
        ("path:", "pth: x\n  path:", "model.pth", "Did you mean path?"),
        ("name:", "nam: x\n  name:", "dataset.nam", "Did you mean name?"),
        ("learning_rate:", "learnin_rate: 1\n  learning_rate:", "training.learnin_rate", "Did you mean learning_rate?"),
        ("training:", "trainin:\n  x: 1\ntraining:", "trainin", "model, dataset, training"),
        (
            "some/model",
            "some/model\n  lora_config:\n    alpha: 3",
            "model.lora_config.alpha",
            "Did you mean lora_alpha?",
        ),
    ],
)
def test_unknown_keys_are_refused_with_line_and_nearest_name(
    tmp_path: Path, old: str, new: str, key: str, hint: str
) -> None:
    translation = read(tmp_path, SHORT.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        translation.accepted()
    (problem,) = caught.value.problems
    line = (tmp_path / "train.yaml").read_text().splitlines()
    number = next(i for i, text in enumerate(line, 1) if text.strip().startswith(key.rpartition(".")[2] + ":"))
    assert problem.startswith(f"{key} ({tmp_path / 'train.yaml'}:{number}): ")
    assert hint in problem


def test_all_refusals_are_reported_together(tmp_path: Path) -> None:
    text = "model:\n  pathh: a\ndataset: rows.jsonl\ntraining:\n  epoch: 1\n"
    problems = "\n".join(read(tmp_path, text).problems())
    assert all(
        key in problems for key in ("model.pathh", "model.path:", "dataset (", "dataset.name:", "training.epoch")
    )


@pytest.mark.parametrize("task_type", ["SEQ_2_SEQ_LM", "seq_cls"])
def test_other_task_types_are_refused(tmp_path: Path, task_type: str) -> None:
    text = SHORT.replace("some/model", f"some/model\n  use_lora: true\n  lora_config:\n    task_type: {task_type}")
    assert task_type in read(tmp_path, text).problems()[0]


def test_one_option_given_twice_is_refused(tmp_path: Path) -> None:
    translation = read(tmp_path, f"{SHORT}  epochs: 1\n  num_train_epochs: 2\n")
    (problem,) = translation.problems()
    assert problem.startswith(f"training.num_train_epochs ({tmp_path / 'train.yaml'}:8): ")
    assert "train.yaml:7 (training.epochs)" in problem


def test_what_the_command_line_gives_may_be_absent_from_the_file(tmp_path: Path) -> None:
    text = "model:\n  max_seq_length: 64\ntraining:\n  epochs: 1\n"
    assert len(read(tmp_path, text).problems()) == 2
    assert read(tmp_path, text, model_name_or_path="m", data_path="d.jsonl").problems() == []


@pytest.mark.parametrize(
    "text", ["model: some/model\ntraining: 3\n", "model_name_or_path: m\nlora_r: 8\n", "model:\n  path: m\n"]
)
def test_other_files_are_not_taken_for_this_dialect(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.yaml").write_text(text)
    assert recognise(read_file(tmp_path / "other.yaml")) is None
