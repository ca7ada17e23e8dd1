"""The hand-over to llama.cpp and Ollama: the converter is found, called, believed only when it wrote a GGUF file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sft.cli.main import main
from sft.errors import EXIT_DONE, EXIT_USER, ExportError
from sft.export.gguf import CONVERTER, find_converter, write_gguf

STAND_IN = """
import argparse, json, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("model", type=pathlib.Path)
parser.add_argument("--outfile", type=pathlib.Path)
parser.add_argument("--outtype", choices=["f32", "f16", "bf16", "q8_0", "auto"])
args = parser.parse_args()
kind = json.loads((args.model / "config.json").read_text())["model_type"]
assert (args.model / "tokenizer.json").exists() and list(args.model.glob("*.safetensors"))
args.outfile.write_bytes(MAGIC + f" of {kind} as {args.outtype}".encode())
"""
"""Takes the words that llama.cpp's converter takes."""


def converter_in(folder: Path, magic: bytes = b"GGUF") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / CONVERTER
    path.write_text(STAND_IN.replace("MAGIC", repr(magic)), encoding="utf-8")
    return path


def test_it_is_looked_for_where_the_variable_says_then_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLAMA_CPP_DIR", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(ExportError, match="LLAMA_CPP_DIR is not set"):
        find_converter()
    on_path, named = converter_in(tmp_path / "bin"), converter_in(tmp_path / "llama.cpp")
    assert find_converter() == on_path
    monkeypatch.setenv("LLAMA_CPP_DIR", str(named.parent))
    assert find_converter() == named
    monkeypatch.setenv("LLAMA_CPP_DIR", str(tmp_path))
    with pytest.raises(ExportError, match="holds none"):
        find_converter()


def test_what_is_no_gguf_is_not_left_behind(tiny_model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model").symlink_to(tiny_model_folder)
    with pytest.raises(ExportError, match="exit code 0"):
        write_gguf(tmp_path / "model", "f16", converter_in(tmp_path / "bin", b"HTML"))
    with pytest.raises(ExportError, match="invalid choice: 'tiny'"):
        write_gguf(tmp_path / "model", "tiny", converter_in(tmp_path / "bin"))
    assert not list(tiny_model_folder.glob("*.gguf"))


def test_export_writes_the_file_and_a_modelfile_that_names_it(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    request, output = tmp_path / "export.json", tmp_path / "output"
    request.write_text(json.dumps({"model_name_or_path": str(tiny_model_folder), "export_dir": str(output)}))
    monkeypatch.setenv("LLAMA_CPP_DIR", str(tmp_path / "nowhere"))
    assert main(["export", str(request), "--gguf", "q8_0"]) == EXIT_USER
    assert not output.exists(), "a missing converter is told before the work"
    monkeypatch.setenv("LLAMA_CPP_DIR", str(converter_in(tmp_path / "bin").parent))
    assert main(["export", str(request), "--gguf", "q8_0"]) == EXIT_DONE
    assert "for llama.cpp: " in capsys.readouterr().out
    assert (output / "model-q8_0.gguf").read_bytes() == b"GGUF of qwen3 as q8_0"
    assert "FROM ./model-q8_0.gguf" in (output / "Modelfile").read_text(encoding="utf-8").splitlines()


def test_merge_does_the_same(
    tiny_model_folder: Path,
    alpaca_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LLAMA_CPP_DIR", str(converter_in(tmp_path / "bin").parent))
    base = ["--model_name_or_path", str(tiny_model_folder), "--data_path", str(alpaca_file)]
    kept = ["--output_dir", str(tmp_path / "run"), "--cache_dir", str(tmp_path / "cache"), "--save_strategy", "no"]
    assert main(["train", *base, *kept, "--use_lora", "--max_steps", "1"]) == EXIT_DONE
    words = ["merge", "--base_model", str(tiny_model_folder), "--adapter_path", str(tmp_path / "run" / "final_model")]
    assert main([*words, "--output_path", str(tmp_path / "plain"), "--ollama"]) == EXIT_DONE
    assert "FROM ." in (tmp_path / "plain" / "Modelfile").read_text(encoding="utf-8").splitlines()
    assert main([*words, "--output_path", str(tmp_path / "gguf"), "--gguf", "f16"]) == EXIT_DONE
    assert (tmp_path / "gguf" / "model-f16.gguf").read_bytes().startswith(b"GGUF")
    assert "FROM ./model-f16.gguf" in (tmp_path / "gguf" / "Modelfile").read_text(encoding="utf-8").splitlines()
    capsys.readouterr()
