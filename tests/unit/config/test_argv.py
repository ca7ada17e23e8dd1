from __future__ import annotations

from pathlib import Path

import pytest

from sft.config import parse_cli
from sft.config.values import RawValue
from sft.errors import ConfigError


def values(*words: str) -> dict[str, object]:
    return {name: raw.value for name, raw in parse_cli(words)[1].items()}


def test_file_comes_first_or_where_nothing_else_can_be() -> None:
    assert parse_cli(["a.yaml", "--seed", "1"])[0] == Path("a.yaml")
    assert parse_cli(["--seed", "1", "a.yaml"])[0] == Path("a.yaml")
    assert parse_cli(["--packing", "a.yaml"]) == (Path("a.yaml"), {"packing": RawValue(True, "--packing")})
    assert parse_cli([])[0] is None


def test_key_and_value() -> None:
    assert parse_cli(["--lora_r", "8"])[1] == {"lora_r": RawValue("8", "--lora_r")}
    assert values("--lora_r=8", "--run-name=a=b", "--system_prompt=") == {
        "lora_r": "8",
        "run_name": "a=b",
        "system_prompt": "",
    }


def test_booleans() -> None:
    assert values("--bf16") == {"bf16": True}
    assert values("--bf16", "--packing", "False", "--fp16=false") == {"bf16": True, "packing": "False", "fp16": "false"}
    assert values("--torch_compile", "--tf32", "none") == {"torch_compile": True, "tf32": "none"}


def test_negative_numbers_and_dashes_are_values() -> None:
    assert values("--max_steps", "-1", "--learning_rate", "-1e-4", "--run_name", "-x") == {
        "max_steps": "-1",
        "learning_rate": "-1e-4",
        "run_name": "-x",
    }


def test_text_with_spaces_and_lines() -> None:
    assert values("--system_prompt", "-- be kind", "--run_name=a\nb") == {
        "system_prompt": "-- be kind",
        "run_name": "a\nb",
    }


def test_lists_take_all_words_up_to_the_next_flag() -> None:
    assert values("--target_modules", "q_proj", "v_proj", "--data_path", "a.json") == {
        "target_modules": ["q_proj", "v_proj"],
        "data_path": "a.json",
    }


def test_lists_of_transformers_too() -> None:
    assert values("--optim_target_modules", "a", "b") == {"optim_target_modules": ["a", "b"]}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--seed", "1", "--seed", "2"], "--seed is given twice: 1 and 2"),
        (["--lora-r", "1", "--lora_r", "2"], "--lora_r is given twice"),
        (["--target_modules", "a", "--target_modules", "b"], "several values follow one flag"),
        (["--seed"], "--seed needs a value"),
        (["--seed", "--bf16"], "--seed needs a value"),
        (["a.yaml", "b.yaml"], "unexpected word 'b.yaml'"),
        (["--seed", "1", "2", "3"], "unexpected word '3'"),
        (["lora_r=8"], "Options are written --lora_r 8"),
        (["-s", "1"], "two dashes"),
    ],
)
def test_is_refused(words: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_cli(words)
    assert says in str(caught.value)


def test_several_problems_together() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_cli(["x=1", "--seed", "--bf16", "--bf16"])
    assert len(caught.value.problems) == 3


def test_foreign_names_may_take_several_words() -> None:
    words = ["--lora_target_modules", "q_proj", "v_proj", "--use_peft"]
    _, options = parse_cli(words, lists=["lora_target_modules"])
    assert options["lora_target_modules"].value == ["q_proj", "v_proj"]
    assert parse_cli(words)[1]["lora_target_modules"].value == "q_proj", "one word, where nothing is known of the name"
