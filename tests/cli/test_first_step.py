"""What stands between the command `sft train` and its first step: packages that the run does not use are not loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sft.config import SFTConfig
from sft.training.start_up import hidden, unneeded

PARTNERS = ("peft", "trl", "bitsandbytes", "deepspeed", "torchao", "datasets")
COMMAND = f"""
import json, sys
from sft.cli.main import main
code = main()
print(json.dumps([code, sorted(name for name in {PARTNERS!r} if sys.modules.get(name))]))
"""


def partners_of(*words: str) -> list[str]:
    """Packages that a process of its own holds when the command is done."""
    done = subprocess.run([sys.executable, "-c", COMMAND, *words], capture_output=True, text=True, check=True)
    code, found = json.loads(done.stdout.splitlines()[-1])
    assert code == 0, done.stderr
    return list(found)


def words_of(model: Path, data: Path, out: Path, *more: str) -> list[str]:
    given = {
        "model_name_or_path": model, "data_path": data, "output_dir": out, "cache_dir": out / "cache", "max_steps": 1,
        "max_length": 128, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 1,
    }  # fmt: skip
    return ["train", *(word for name, value in given.items() for word in (f"--{name}", str(value))), *more]


def test_full_fine_tuning_loads_no_partner(tiny_model_folder: Path, alpaca_file: Path, tmp_path: Path) -> None:
    """From the first import to the saved model."""
    assert partners_of(*words_of(tiny_model_folder, alpaca_file, tmp_path / "run")) == []
    assert (tmp_path / "run" / "final_model" / "model.safetensors").is_file()


def test_an_adapter_loads_peft_alone(tiny_model_folder: Path, alpaca_file: Path, tmp_path: Path) -> None:
    words = words_of(tiny_model_folder, alpaca_file, tmp_path / "run", "--use_lora", "true")
    assert partners_of(*words) == ["peft"]
    assert (tmp_path / "run" / "final_model" / "adapter_model.safetensors").is_file()


def test_a_plan_of_memory_loads_no_partner(tiny_model_folder: Path) -> None:
    assert partners_of("plan", "--memory_only", "--model_name_or_path", str(tiny_model_folder)) == []


@pytest.mark.parametrize(
    ("options", "used"),
    [
        ({}, set()),
        ({"use_lora": True}, {"peft"}),
        ({"use_lora": True, "load_in_4bit": True}, {"peft", "bitsandbytes", "torchao"}),
        ({"optim": "adamw_8bit"}, {"bitsandbytes", "torchao"}),
        ({"qat_weight_dtype": "int4"}, {"bitsandbytes", "torchao"}),
        ({"deepspeed": "zero.json"}, {"deepspeed"}),
        ({"model_name_or_path": "somebody/some-model"}, {"peft", "bitsandbytes", "torchao"}),
        ({"stage": "dpo"}, {"peft", "bitsandbytes", "torchao", "deepspeed", "datasets"}),
    ],
    ids=lambda value: "-".join(value) or "plain" if isinstance(value, dict) else "",
)
def test_what_may_be_used_is_not_hidden(
    options: dict[str, Any], used: set[str], tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    config = SFTConfig(**{"model_name_or_path": str(tiny_model_folder)} | options)
    hidden_now = set(unneeded(config))
    assert hidden_now == {"peft", "bitsandbytes", "torchao", "deepspeed", "datasets", "sklearn"} - used - (
        {"sklearn"} if options.get("stage") == "dpo" else set()
    )


def test_a_quantised_model_or_an_adapters_folder_shows_its_partner(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"quantization_config": {"quant_method": "torchao"}}')
    assert not {"torchao", "bitsandbytes"} & set(unneeded(SFTConfig(model_name_or_path=str(tmp_path))))
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "peft" not in unneeded(SFTConfig(model_name_or_path=str(tmp_path)))


def test_a_launched_process_may_use_deepspeed(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert "deepspeed" not in unneeded(SFTConfig(model_name_or_path=str(tiny_model_folder)))


def test_what_is_hidden_while_importing_can_be_imported_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("datasets", "deepspeed", "this_is_here"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "this_is_here", pytest)
    with hidden(("datasets", "deepspeed", "this_is_here")):
        with pytest.raises(ImportError, match="datasets"):
            __import__("datasets")
        assert sys.modules["this_is_here"] is pytest  # somebody uses it: it stays
    assert "datasets" not in sys.modules
    assert sys.modules["deepspeed"] is None  # accelerate looks for it at every turn
