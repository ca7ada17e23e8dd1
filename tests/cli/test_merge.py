"""`sft merge` from the command line: what it prints, what it leaves, how it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from sft.cli.main import main
from sft.errors import EXIT_DONE, EXIT_USER


@pytest.fixture
def base(shared_data: Path) -> Path:
    return shared_data / "models" / "stories260K-hf"


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data += torch.randn_like(parameter) * 0.05
        adapted.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_the_result_is_printed_as_one_object(
    base: Path, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "merged"
    words = ["merge", "--base_model", str(base), "--adapter_path", str(adapter), "--output_path", str(output), "--json"]
    assert main(words) == EXIT_DONE
    result = json.loads(capsys.readouterr().out)
    assert result["max_logit_difference"] <= 1e-4
    assert result["top1_agreement"] == 1.0
    assert result["path"] == str(output)
    assert {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "README.md"} <= {
        entry.name for entry in output.iterdir()
    }


def test_a_check_by_layers_is_said_so(
    base: Path, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["merge", "--adapter_path", str(adapter), "--check", "layers", "--max_shard_size", "300KB"]
    assert main([*words, "--output_path", str(tmp_path / "one"), "--json"]) == EXIT_DONE
    result = json.loads(capsys.readouterr().out)
    assert result["max_logit_difference"] is None
    assert result["top1_agreement"] is None
    assert result["num_layers"] == 10
    assert result["max_layer_difference"] < 1e-5
    assert len(list((tmp_path / "one").glob("model-*.safetensors"))) == 4
    assert main([*words, "--output_path", str(tmp_path / "two")]) == EXIT_DONE
    said = capsys.readouterr().out
    assert "10 layers as written, on random inputs" in said
    assert "largest file" in said
    assert "logit" not in said


def test_the_base_model_may_be_left_out_and_people_get_sentences(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["merge", "--adapter_path", str(adapter), "--output_path", str(tmp_path / "merged")]) == EXIT_DONE
    said = capsys.readouterr().out
    assert "max logit difference" in said
    assert "top-1 agreement       100.00%" in said
    assert f"sft chat --model {tmp_path / 'merged'}" in said


def test_mistakes_are_one_message_and_exit_code_2(base: Path, adapter: Path, tmp_path: Path) -> None:
    """Through the real command, to see that no traceback comes."""
    output = str(tmp_path / "merged")
    asked = ["merge", "--base_model", str(base), "--adapter_path", str(tmp_path / "nothing"), "--output_path", output]
    done = subprocess.run([sys.executable, "-m", "sft.cli.main", *asked], capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_USER
    assert "There is no adapter folder" in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path(output).exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--adapter_path", "{adapter}"], "output_path"),
        (["--adapter_path", "{base}", "--output_path", "{output}"], "whole model"),
        (["--adapter_path", "{adapter}", "--output_path", "{adapter}"], "merged from"),
        (["--adapter_path", "{adapter}", "--output_path", "{output}", "--base_model", "{output}x"], "base model"),
        (["--adapter_path", "{adapter}", "--output_path", "{output}", "--push_to_hub"], "--hub_model_id"),
        (
            ["--adapter_path", "{adapter}", "--output_path", "{output}", "--push_to_hub", "--hub_model_id", "a/b/c"],
            "'a/b/c' is no name",
        ),
        (["--adapter_path", "{adapter}", "--output_path", "{output}", "--max_difference", "0"], "does not equal"),
        (["--adapter_path", "{adapter}", "--output_path", "{output}", "--dtype", "int4"], "dtype"),
        (["--adapter_path", "{adapter}", "--output_path", "{output}", "--adaptor", "x"], "--adaptor"),
    ],
)
def test_each_mistake_is_named(
    words: list[str], expected: str, base: Path, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "merged"
    assert main(["merge", *(word.format(adapter=adapter, base=base, output=output) for word in words)]) == EXIT_USER
    said = capsys.readouterr().err
    assert expected in said
    assert "Traceback" not in said
    assert not output.exists()
