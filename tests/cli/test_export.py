"""sft export: an adapter merged or a model written anew as a file of LLaMA-Factory says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from sft.cli.main import main
from sft.config import read_file
from sft.dialects.llama_factory_export import ExportRequest, read_export
from sft.errors import EXIT_DONE, EXIT_USER, ConfigError


def request(folder: Path, **values: Any) -> ExportRequest:
    path = folder / "export.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return read_export(read_file(path))


def test_every_key_of_the_examples_that_ship_with_llama_factory(tmp_path: Path) -> None:
    """examples/merge_lora/qwen3_lora_sft.yaml at ff6d4d12."""
    found = request(
        tmp_path,
        model_name_or_path="Qwen/Qwen3-4B-Instruct-2507",
        adapter_name_or_path="saves/qwen3-4b/lora/sft",
        template="qwen3_nothink",
        trust_remote_code=True,
        export_dir="saves/qwen3_sft_merged",
        export_size=5,
        export_device="cpu",
        export_legacy_format=False,
    )
    assert found == ExportRequest(
        model="Qwen/Qwen3-4B-Instruct-2507",
        adapter="saves/qwen3-4b/lora/sft",
        template="qwen3_nothink",
        trust_remote_code=True,
        output="saves/qwen3_sft_merged",
        max_shard_size="5GB",
    )


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"model_name_or_path": "m"}, "export_dir is missing"),
        ({"export_dir": "o"}, "model_name_or_path is missing"),
        ({"export_legacy_format": True}, "safetensors only"),
        ({"export_quantization_bit": 4}, "not quantised here"),
        ({"quantization_bit": 4}, "full precision"),
        ({"adapter_name_or_path": "a,b"}, "several adapters"),
        ({"export_size": "big"}, "a number of gigabytes"),
        ({"infer_dtype": "int8"}, "known are auto"),
        ({"export_sise": 5}, "Did you mean export_size"),
    ],
)
def test_what_cannot_be_honoured(tmp_path: Path, values: dict[str, Any], says: str) -> None:
    whole = values if "missing" in says else {"model_name_or_path": "m", "export_dir": "o", **values}
    with pytest.raises(ConfigError, match=says) as caught:
        request(tmp_path, **whole)
    assert len(caught.value.problems) == 1


def test_keys_without_a_use_are_said(tmp_path: Path) -> None:
    found = request(
        tmp_path, model_name_or_path="m", export_dir="o", export_device="auto", infer_backend="vllm", stage="sft"
    )
    assert [note.split(" ")[0] for note in found.notes] == ["export_device", "infer_backend"]


def test_a_model_is_written_anew_and_gets_a_template(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / "source", tmp_path / "output"
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    tokenizer.chat_template = None
    model.save_pretrained(source)
    tokenizer.save_pretrained(source)
    path = tmp_path / "export.json"
    values = {"model_name_or_path": str(source), "export_dir": str(output), "template": "qwen", "export_size": 0.00002}
    path.write_text(json.dumps(values), encoding="utf-8")
    assert main(["export", str(path), "--json"]) == EXIT_DONE

    told = json.loads(capsys.readouterr().out)
    assert (told["path"], told["dtype"], told["notes"]) == (str(output.resolve()), "bfloat16", [])
    files = sorted(output.glob("*.safetensors"))
    assert len(files) > 1, "files of 20 KB"
    written = {name: tensor for file in files for name, tensor in load_file(file).items()}
    original = load_file(source / "model.safetensors")
    assert written.keys() == original.keys()
    for name, tensor in written.items():
        assert torch.equal(tensor, original[name].to(torch.bfloat16)), name
    again = AutoTokenizer.from_pretrained(output)
    assert "You are Qwen" in again.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    assert 'SYSTEM """You are Qwen' in (output / "Modelfile").read_text(encoding="utf-8")

    assert main(["export", str(path)]) == EXIT_USER
    assert "is not empty" in capsys.readouterr().err


def test_a_template_that_ollama_cannot_say_leaves_a_note(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    AutoModelForCausalLM.from_pretrained(tiny_model_folder).save_pretrained(source)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content | upper }}{% endfor %}"
    tokenizer.save_pretrained(source)
    path = tmp_path / "export.yaml"
    path.write_text(f"model_name_or_path: {source}\nexport_dir: {tmp_path / 'output'}\n", encoding="utf-8")
    words = ["export", str(path), "infer_dtype=float32", "template=qwen"]
    assert main(words) == EXIT_DONE
    out = capsys.readouterr().out
    assert "(float32)" in out
    assert "template qwen: the model's chat template is another" in out
    assert "no Modelfile for Ollama" in out
    assert not (tmp_path / "output" / "Modelfile").exists()


def test_the_hub_gets_the_finished_folder(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pushed: list[tuple[set[str], str]] = []

    def push(folder: Path, name: str) -> str:
        pushed.append(({path.name for path in folder.iterdir()}, name))
        return f"hub/{name}"

    monkeypatch.setattr("sft.export.hub.push_folder", push)
    path = tmp_path / "export.yaml"
    path.write_text(f"model_name_or_path: {tiny_model_folder}\nexport_dir: {tmp_path / 'output'}\n", encoding="utf-8")
    assert main(["export", str(path), "export_hub_model_id=not a name"]) == EXIT_USER
    assert not (tmp_path / "output").exists(), "a wrong name is said before the work"
    assert main(["export", str(path), "export_hub_model_id=me/mine"]) == EXIT_DONE
    ((names, name),) = pushed
    assert name == "me/mine"
    assert {"model.safetensors", "tokenizer.json", "Modelfile", "generation_config.json"} <= names
    assert "uploaded: hub/me/mine" in capsys.readouterr().out


def test_a_word_that_is_no_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "export.yaml").write_text("export_dir: o\n", encoding="utf-8")
    assert main(["export", str(tmp_path / "export.yaml"), "more"]) == EXIT_USER
    assert "written key=value" in capsys.readouterr().err
