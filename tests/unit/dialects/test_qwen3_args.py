from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path

import pytest

from sft.config import SFTConfig, parse_cli
from sft.dialects import Translation, recognise, translate


@pytest.fixture(autouse=True)
def no_wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whether or not the machine has W&B, it is not installed and nobody is logged in."""
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    pretend(monkeypatch, installed=False)


def pretend(monkeypatch: pytest.MonkeyPatch, *, installed: bool) -> None:
    find_spec = importlib.util.find_spec

    def pretended(name: str, package: str | None = None) -> importlib.machinery.ModuleSpec | None:
        if name != "wandb":
            return find_spec(name, package)
        return importlib.machinery.ModuleSpec("wandb", None) if installed else None

    monkeypatch.setattr(importlib.util, "find_spec", pretended)


def read(*argv: str) -> Translation:
    file, options = parse_cli(argv)
    assert file is None
    return translate(options, "qwen3_args")


def as_config(*argv: str) -> SFTConfig:
    return SFTConfig(**read(*argv).accepted())


def reason(translation: Translation, key: str) -> str:
    (note,) = [note for note in translation.notes if note.key == key]
    return note.reason


def test_defaults_are_those_of_the_original() -> None:
    config = as_config("--data_path", "rows.json")
    assert (config.model_name_or_path, config.output_dir) == ("Qwen/Qwen2.5-1.5B", "./output")
    assert (config.max_length, config.num_train_epochs, config.seed) == (2048, 3, 42)
    assert (config.per_device_train_batch_size, config.per_device_eval_batch_size) == (4, 4)
    assert (config.gradient_accumulation_steps, config.learning_rate, config.weight_decay) == (4, 2e-5, 0)
    assert (config.warmup_steps, config.lr_scheduler_type, config.optim) == (0.03, "cosine", "adamw_torch_fused")
    assert (config.fp16, config.bf16, config.gradient_checkpointing, config.max_grad_norm) == (False, False, False, 1)
    assert (config.use_lora, config.lora_r, config.lora_alpha, config.lora_dropout) == (False, 8, 16, 0.05)
    assert (config.logging_steps, config.save_steps, config.eval_steps, config.save_total_limit) == (10, 500, 500, 3)
    assert (config.use_chat_template, config.do_eval, config.resume_from_checkpoint) == (True, True, "auto")
    assert config.model_dir == "."


EVERY_FLAG = """
--model_name_or_path m --data_path d.json --eval_data_path e.json --output_dir o --max_length 64
--num_train_epochs 2 --per_device_train_batch_size 3 --per_device_eval_batch_size 5
--gradient_accumulation_steps 6 --learning_rate 1e-4 --weight_decay 0.1 --warmup_ratio 0.2 --bf16
--gradient_checkpointing --format_type sharegpt --no_chat_template --use_lora --lora_r 4 --lora_alpha 9
--lora_dropout 0 --logging_steps 7 --save_steps 80 --eval_steps 40 --save_total_limit 1 --run_name r
--report_to tensorboard --seed 1 --resume_from_checkpoint c --no_eval
"""


def test_every_flag_of_the_original_is_understood_and_noted() -> None:
    argv = EVERY_FLAG.split()
    translation = read(*argv)
    flags = [word.removeprefix("--") for word in argv if word.startswith("--")]
    assert sorted(note.key for note in translation.notes if note.status != "defaulted") == sorted(flags)
    config = SFTConfig(**translation.accepted())
    assert (config.use_chat_template, config.do_eval, config.format_type) == (False, False, "sharegpt")
    assert (config.warmup_steps, config.learning_rate, config.lora_alpha) == (0.2, 1e-4, 9)
    assert config.origins["do_eval"] == "--no_eval"


def test_fp16() -> None:
    assert as_config("--data_path", "d", "--fp16").fp16 is True


@pytest.mark.parametrize(("words", "expected"), [([], False), (["True"], False), (["False"], True)])
def test_a_negative_switch_may_carry_its_value(words: list[str], expected: bool) -> None:
    assert as_config("--data_path", "d", "--no_eval", *words).do_eval is expected


def test_options_of_ours_work_too() -> None:
    config = as_config("--data_path", "d", "--packing", "--overlong", "cut_end", "--adam_beta2", "0.9")
    assert (config.packing, config.overlong, config.training_arguments) == (True, "cut_end", {"adam_beta2": 0.9})


def test_unknown_flags_are_refused_with_the_nearest_name() -> None:
    problems = read("--data_path", "d", "--no_chat_templat", "--lorar", "8").problems()
    assert len(problems) == 2
    assert problems[0].startswith("--no_chat_templat: ")
    assert "Did you mean no_chat_template?" in problems[0]
    assert "Did you mean lora_r?" in problems[1]


def test_best_checkpoint_is_kept_where_there_is_evaluation() -> None:
    assert as_config("--data_path", "d", "--eval_data_path", "e").load_best_model_at_end is True
    assert as_config("--data_path", "d", "--validation_size", "0.1").load_best_model_at_end is True
    assert as_config("--data_path", "d").load_best_model_at_end is False
    assert as_config("--data_path", "d", "--eval_data_path", "e", "--no_eval").load_best_model_at_end is False


@pytest.mark.parametrize(
    "argv", [["--eval_steps", "300"], ["--save_strategy", "epoch"], ["--save_steps", "0.5"], ["--eval_strategy", "no"]]
)
def test_best_checkpoint_is_not_asked_for_where_it_could_not_be_found(argv: list[str]) -> None:
    assert as_config("--data_path", "d", "--eval_data_path", "e", *argv).load_best_model_at_end is False


def test_wandb_is_the_default_only_where_it_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert as_config("--data_path", "d").report_to == "none"
    assert "not installed" in reason(read("--data_path", "d"), "report_to")
    pretend(monkeypatch, installed=True)
    assert as_config("--data_path", "d").report_to == "none"
    assert "wandb login" in reason(read("--data_path", "d"), "report_to")
    (tmp_path / "no-netrc").write_text("machine api.wandb.ai login user password 0123\n")
    assert as_config("--data_path", "d").report_to == "wandb"


@pytest.mark.parametrize(("name", "value"), [("WANDB_MODE", "offline"), ("WANDB_API_KEY", "0123")])
def test_wandb_set_up_by_environment(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    pretend(monkeypatch, installed=True)
    monkeypatch.setenv(name, value)
    assert as_config("--data_path", "d").report_to == "wandb"


def test_wandb_asked_for_in_vain_is_left_out_and_said() -> None:
    assert as_config("--data_path", "d", "--report_to", "wandb").report_to == "none"
    translation = read("--data_path", "d", "--report_to", "wandb", "tensorboard")
    assert SFTConfig(**translation.accepted()).report_to == ["tensorboard"]
    assert "without wandb" in reason(translation, "report_to")


def test_a_file_is_never_taken_for_a_command_line() -> None:
    assert recognise(parse_cli(["--data_path", "d", "--no_eval"])[1]) is None
