from __future__ import annotations

import re
from pathlib import Path

import pytest

from sft.cli.options import config_from_words
from sft.config import SFTConfig, parse_cli
from sft.dialects import Note, Translation, recognise, translate
from sft.errors import ConfigError

NAME = "longbench_args"
README = Path(__file__).resolve().parents[3] / "recipes" / "longbench" / "README.md"


@pytest.fixture(autouse=True)
def no_deepspeed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPSPEED_CONFIG", raising=False)


def read(*argv: str) -> Translation:
    file, options = parse_cli(argv)
    assert file is None
    return translate(options, "longbench_args")


def as_config(*argv: str) -> SFTConfig:
    return SFTConfig(**read("--model_name", "m", *argv).accepted())


def note(key: str, *argv: str) -> Note:
    (found,) = [note for note in read("--model_name", "m", *argv).notes if note.key == key]
    return found


def test_defaults_are_those_of_the_original() -> None:
    config = as_config()
    assert (config.model_name_or_path, config.output_dir, config.seed) == ("m", "./training_output", 42)
    assert (config.learning_rate, config.num_train_epochs, config.max_steps) == (5e-6, 3, -1)
    assert (config.per_device_train_batch_size, config.gradient_accumulation_steps) == (4, 8)
    assert (config.max_length, config.warmup_steps, config.weight_decay) == (4096, 0.1, 0.01)
    assert (config.bf16, config.fp16) == (True, False)
    assert (config.lora_r, config.lora_alpha, config.lora_dropout) == (16, 32, 0.05)
    assert (config.eval_steps, config.save_steps, config.logging_steps) == (500, 500, 10)
    assert (config.train_tasks, config.max_train_samples) == (["all"], None)


def test_what_the_original_fixes() -> None:
    config = as_config()
    assert (config.use_lora, config.gradient_checkpointing, config.report_to) == (True, True, "none")
    assert (config.save_total_limit, config.lr_scheduler_type, config.optim) == (3, "cosine", "adamw_torch")
    assert (config.max_grad_norm, config.model_dir) == (1.0, "final_model")
    assert config.eval_tasks == ["qmsum", "truthfulqa"]


EVERY_FLAG = """
--model_name m --gpu 0,1 --learning_rate 1e-4 --num_epochs 2 --max_steps 7 --batch_size 3
--gradient_accumulation_steps 6 --max_length 64 --warmup_ratio 0.2 --weight_decay 0.1 --bf16 --seed 1
--lora_r 4 --lora_alpha 9 --lora_dropout 0 --eval_steps 40 --save_steps 80 --logging_steps 5
--train_datasets qmsum,narrativeqa --max_train_samples 100 --output_dir o --resume_from_checkpoint c
"""


def test_every_flag_of_the_original_is_understood_and_noted() -> None:
    argv = EVERY_FLAG.split()
    translation = read(*argv)
    flags = [word.removeprefix("--") for word in argv if word.startswith("--")]
    assert sorted(note.key for note in translation.notes if note.status != "defaulted") == sorted(flags)
    config = SFTConfig(**translation.accepted())
    assert (config.learning_rate, config.num_train_epochs, config.max_steps) == (1e-4, 2, 7)
    assert (config.per_device_train_batch_size, config.gradient_accumulation_steps) == (3, 6)
    assert (config.max_length, config.warmup_steps, config.weight_decay, config.seed) == (64, 0.2, 0.1, 1)
    assert (config.lora_r, config.lora_alpha, config.lora_dropout) == (4, 9, 0)
    assert (config.eval_steps, config.save_steps, config.logging_steps) == (40, 80, 5)
    assert (config.train_tasks, config.max_train_samples) == (["qmsum", "narrativeqa"], 100)
    assert (config.output_dir, config.resume_from_checkpoint) == ("o", "c")
    assert config.origins["num_train_epochs"] == "--num_epochs"


def test_every_argument_of_the_readme_is_understood() -> None:
    """Those of the tables, and none of them by being close to another."""
    names = re.findall(r"^\| `--(\w+)` \|", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(names) >= 24
    unknown = [name for name in names if any("no such key" in problem for problem in read(f"--{name}", "1").problems())]
    assert unknown == []


@pytest.mark.parametrize(
    ("words", "precision"),
    [
        ([], (True, False)),
        (["--bf16"], (True, False)),
        (["--bf16", "True"], (True, False)),
        (["--bf16", "False"], (False, False)),
        (["--fp16"], (False, True)),
        (["--fp16", "False"], (True, False)),
        (["--fp16", "--bf16", "False"], (False, True)),
    ],
)
def test_precision(words: list[str], precision: tuple[bool, bool]) -> None:
    config = as_config(*words)
    assert (config.bf16, config.fp16) == precision


def test_both_precisions_are_refused() -> None:
    with pytest.raises(ConfigError, match="only one of the two"):
        as_config("--bf16", "--fp16")


@pytest.mark.parametrize(
    ("words", "tasks"),
    [
        ("all", ["all"]),
        ("qmsum", ["qmsum"]),
        ("qmsum,trivia_qa", ["qmsum", "triviaqa"]),
        ("trivia_qa,triviaqa", ["triviaqa"]),
        ("qmsum, narrativeqa,", ["qmsum", "narrativeqa"]),
    ],
)
def test_subsets(words: str, tasks: list[str]) -> None:
    assert as_config("--train_datasets", words).train_tasks == tasks


def test_a_renamed_subset_is_said() -> None:
    assert note("train_datasets", "--train_datasets", "qmsum,trivia_qa").reason == "trivia_qa is triviaqa"
    assert note("train_datasets", "--train_datasets", "qmsum,triviaqa").reason == ""


def test_rows_of_ones_own_take_the_place_of_all_subsets() -> None:
    assert as_config("--data_path", "rows.jsonl").train_tasks == []
    assert as_config("--data_path", "rows.jsonl", "--train_datasets", "qmsum").train_tasks == ["qmsum"]


def test_model_name_is_required() -> None:
    (problem,) = read("--max_steps", "1").problems()
    assert problem.startswith("--model_name: is missing")
    assert read("--model_name_or_path", "m").problems() == []


def test_gpus_are_no_option() -> None:
    gpus = note("gpu", "--gpu", "0,1")
    assert gpus.status == "ignored"
    assert "CUDA_VISIBLE_DEVICES" in gpus.reason


def test_options_of_ours_work_too() -> None:
    config = as_config(
        *["--eval_samples", "5", "--longbench_dir", "l", "--qmsum_dir", "q", "--truthfulqa_file", "t"],
        *["--eval_engine", "sglang", "--eval_engine_python", "p", "--eval_tasks", "qmsum,longbench/trec"],
        *["--dtype", "float32", "--adam_beta2", "0.9"],
    )
    assert (config.eval_samples, config.longbench_dir, config.qmsum_dir, config.truthfulqa_file) == (5, "l", "q", "t")
    assert (config.eval_engine, config.eval_engine_python) == ("sglang", "p")
    assert config.eval_tasks == ["qmsum", "longbench/trec"]
    assert (config.dtype, config.training_arguments) == ("float32", {"adam_beta2": 0.9})


def test_unknown_flags_are_refused_with_the_nearest_name() -> None:
    problems = read("--model_name", "m", "--num_epoch", "3", "--train_dataset", "all", "--eval_sample", "2").problems()
    assert len(problems) == 3
    assert problems[0].startswith("--num_epoch: ")
    assert "Did you mean num_epochs?" in problems[0]
    assert "Did you mean train_datasets?" in problems[1]
    assert "Did you mean eval_samples?" in problems[2]


def test_one_option_under_two_names_is_refused() -> None:
    (problem,) = read("--model_name", "m", "--num_epochs", "1", "--num_train_epochs", "2").problems()
    assert "--num_epochs" in problem
    assert "keep one" in problem


def test_every_weight_can_be_trained() -> None:
    config = as_config("--use_lora", "False")
    assert (config.use_lora, config.lora_r) == (False, 8)


def test_layers_are_those_of_the_model() -> None:
    """Unset means the original's seven where the model has them, so that models of other shapes work too."""
    assert as_config().target_modules is None
    assert "seven" in note("target_modules").reason
    assert as_config("--target_modules", "q_proj,v_proj").target_modules == ["q_proj", "v_proj"]


def test_scorer() -> None:
    assert as_config().truthfulqa_scorer == "rougeL"
    assert as_config("--bleurt_checkpoint", "b").truthfulqa_scorer == "bleurt"
    assert as_config("--bleurt_checkpoint", "b", "--truthfulqa_scorer", "bleu").truthfulqa_scorer == "bleu"


def test_deepspeed_by_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "ds.json"
    path.write_text("{}")
    monkeypatch.setenv("DEEPSPEED_CONFIG", str(path))
    assert as_config().training_arguments == {"deepspeed": str(path)}
    assert "DEEPSPEED_CONFIG" in note("deepspeed").reason
    assert as_config("--deepspeed", "other.json").training_arguments == {"deepspeed": "other.json"}


def test_a_deepspeed_file_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSPEED_CONFIG", "nowhere.json")
    (problem,) = read("--model_name", "m").problems()
    assert "DEEPSPEED_CONFIG: 'nowhere.json' is no file" in problem


@pytest.mark.parametrize(
    ("key", "word"),
    [
        ("train_on", "mask"),
        ("overlong", "cut rows from the left"),
        ("max_length", "lose their middle"),
        ("eval_tasks", "another form and stopped at 128 tokens"),
        ("eval_tasks", "untrained model first"),
        ("eval_engine", "merged a copy"),
        ("train_tasks", "14"),
        ("truthfulqa_scorer", "BLEURT"),
        ("bf16", "--bf16 False"),
    ],
)
def test_what_is_mended_is_said(key: str, word: str) -> None:
    assert note(key).status == "defaulted"
    assert word in note(key).reason


def test_a_file_is_never_taken_for_a_command_line() -> None:
    assert recognise(parse_cli(["--model_name", "m", "--gpu", "0"])[1]) is None


@pytest.mark.parametrize(
    ("words", "default"),
    [("--learning_rate 5e-6x", "5e-06"), ("--lora_r -1", "16"), ("--num_epochs x", "3"), ("--save_steps no", "500")],
)
def test_the_default_that_a_message_names_is_that_of_train_py(words: str, default: str) -> None:
    with pytest.raises(ConfigError, match=rf"The default is {re.escape(default)}\."):
        config_from_words(["--model_name", "m", *words.split()], "longbench_args")


@pytest.mark.parametrize("value", ["", " , "])
def test_subsets_that_are_none_are_refused_in_the_words_of_train_py(value: str) -> None:
    """What was said was that data_path is missing, which is no word of its users."""
    with pytest.raises(ConfigError, match=r"^--train_datasets: names no subset; write all, or names"):
        config_from_words(["--model_name", "m", "--train_datasets", value], "longbench_args")


@pytest.mark.parametrize(
    ("flag", "wanted"),
    [("--model_name", "text"), ("--num_epochs", "a number"), ("--batch_size", "a whole number")],
)
def test_a_flag_without_its_value_is_said_to_have_none(flag: str, wanted: str) -> None:
    """What was said was that model_name_or_path = true must be text, and how to quote it."""
    with pytest.raises(ConfigError) as caught:
        config_from_words([flag, "--seed", "1", *([] if flag == "--model_name" else ["--model_name", "m"])], NAME)
    assert caught.value.problems[0].startswith(f"{flag} needs a value after it: {wanted}.")


def test_no_subset_is_called_true() -> None:
    with pytest.raises(ConfigError, match=r"^--train_datasets: names no subset; write all, or names"):
        config_from_words(["--model_name", "m", "--train_datasets"], NAME)


@pytest.mark.parametrize("name", ["flan_v2", "squad_v2", "no_hallucination", "boolq"])
def test_sets_that_only_the_original_knew_are_said_to_be_rows_of_ones_own(name: str) -> None:
    """What was said was that there is no such task, with all that are."""
    with pytest.raises(ConfigError, match=rf"^--train_datasets: {name} is no subset of LongBench: .* --data_path"):
        config_from_words(["--model_name", "m", "--train_datasets", f"qmsum,{name}"], NAME)
    config = config_from_words(["--model_name", "m", "--train_datasets", "qmsum", "--data_path", "rows.jsonl"], NAME)
    assert (config.train_tasks, config.data_path) == (["qmsum"], "rows.jsonl")
