"""The commands of recipes/llama_factory, run as its README prints them, and the folders it draws.

What is changed: the model is a tiny local one, steps are few and examples short, and one process on the CPU stands for
four GPUs. ``llamafactory-cli`` runs in this process, ``sft_train.sh`` in those that torchrun starts.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import runpy
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sft.cli.main import main as sft

# PEFT still asks for a name that transformers is giving up.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "llama_factory"
README = (RECIPE / "README.md").read_text(encoding="utf-8")
BASE = Path("xxxx/Qwen3-8B")

NOT_RUN = {
    "conda env create -f environment.yml": "needs a package index; the file is looked at in a test of its own",
    "conda activate review": "needs conda",
    "pip install -r requirements.txt": "needs a package index; the file is looked at in a test of its own",
    'export PATH="$PWD:$PATH"': "the program is called by its path",
}
SMALL = {"--max_steps": "2", "--cutoff_len": "256", "--logging_steps": "1", "--dataloader_num_workers": "0"}

PARAMETERS = {
    "trust_remote_code": True, "stage": "sft", "use_lora": True, "lora_r": 64, "lora_alpha": 128, "lora_dropout": 0.05,
    "target_modules": "all-linear", "chat_template": "qwen", "overwrite_cache": True, "save_steps": 100,
    "overwrite_output_dir": True, "save_only_model": False, "report_to": "tensorboard",
    "per_device_train_batch_size": 2, "gradient_accumulation_steps": 8, "learning_rate": 5e-5, "num_train_epochs": 3.0,
    "lr_scheduler_type": "cosine", "warmup_steps": 0.1, "max_grad_norm": 1.0, "bf16": True, "fp16": False,
    "gradient_checkpointing": True, "torch_compile": False, "model_dir": ".",
}  # fmt: skip
"""What LLaMA-Factory's user asks for with this script, in our words."""


def blocks(language: str) -> list[str]:
    """The code blocks of the README."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def commands(program: str) -> list[str]:
    lines = "".join(blocks("bash")).splitlines()
    return [line for line in lines if program in shlex.split(line) and line not in NOT_RUN]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def recipe(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe where it may write, with a model at the place that the README names."""
    folder = Path(shutil.copytree(RECIPE, tmp_path_factory.mktemp("recipe") / "llama_factory"))
    shutil.copytree(tiny_model_folder, folder / BASE)
    return folder


@pytest.fixture(scope="module")
def adapter(recipe: Path) -> Path:
    """What `bash sft_train.sh` leaves behind, without DeepSpeed."""
    first, _ = commands("sft_train.sh")
    run_script(f"{first} --deepspeed none", recipe)
    return recipe / f"{BASE}-lora"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def run_script(command: str, folder: Path) -> str:
    """Run sft_train.sh with this interpreter; words of the command itself stay, the small ones come behind."""
    given = set(shlex.split(command))
    small = [word for name, value in SMALL.items() if name not in given for word in (name, value)]
    done = subprocess.run(
        ["bash", "-c", f"{command} {shlex.join(small)}"],
        cwd=folder,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(("SFT_", "WANDB_"))},
            "PYTHON": sys.executable,
            "MASTER_PORT": str(free_port()),
            "NPROC_PER_NODE": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "HF_HUB_OFFLINE": "1",
            "SFT_CACHE_DIR": str(folder / "cache"),
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def run_cli(command: str, recipe: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    """Run a line that begins with llamafactory-cli in this process."""
    monkeypatch.chdir(recipe)
    monkeypatch.setenv("SFT_CACHE_DIR", str(recipe / "cache"))
    monkeypatch.setenv("NPROC_PER_NODE", "1")
    monkeypatch.setattr(sys, "argv", [*shlex.split(command), *more])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(recipe / "llamafactory-cli"), run_name="__main__")
    return int(left.value.code or 0)


def test_every_command_is_run_here() -> None:
    lines = {line for line in "".join(blocks("bash")).splitlines() if line.strip()}
    run = {*commands("sft_train.sh"), *commands("llamafactory-cli"), *commands("sft")}
    assert lines == run | NOT_RUN.keys()
    assert len(run) == 8


def test_training_script(recipe: Path, adapter: Path) -> None:
    from safetensors.torch import load_file

    record = read_json(adapter / "run.json")
    asked = {name: record["config"][name]["value"] for name in PARAMETERS}
    assert asked == PARAMETERS
    assert record["config"]["data_path"]["value"][0]["path"] == "data/qwen3_alpaca.json"
    assert record["plan"]["steps"] == 2
    names = {path.name for path in adapter.iterdir()}
    drawn = {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "README.md", "checkpoint-2", "runs",
             "trainer_log.jsonl", "train_results.json", "all_results.json", "training_loss.png", "trainer_state.json",
             "run.json"}  # fmt: skip
    assert drawn <= names
    assert all(name in README for name in drawn - {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json",
                                                   "checkpoint-2"})  # fmt: skip
    assert read_json(adapter / "adapter_config.json")["r"] == 64
    weights = load_file(adapter / "adapter_model.safetensors")
    assert any(weight.abs().sum() > 0 for name, weight in weights.items() if "lora_B" in name), "nothing was trained"


@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed")
def test_training_script_with_deepspeed_and_values_from_outside(recipe: Path) -> None:
    _, second = commands("sft_train.sh")
    output = run_script(f"OUTPUT_DIR=with-deepspeed {second} --plot_loss False", recipe)
    record = read_json(recipe / "with-deepspeed" / "run.json")
    assert "ZeRO-3" in output
    assert record["config"]["deepspeed"]["value"] == "ds_z3_config.json"
    assert [record["config"][name]["value"] for name in ("lora_r", "lora_alpha", "chat_template")] == [16, 32, "qwen3"]
    assert (recipe / "with-deepspeed" / "adapter_model.safetensors").is_file()
    assert not (recipe / "with-deepspeed" / "training_loss.png").exists()


@pytest.mark.parametrize("command", [line for line in commands("llamafactory-cli") if " export " in line])
def test_export(
    command: str, recipe: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert run_cli(command, recipe, monkeypatch) == 0
    folder = next((word.split("=")[1] for word in shlex.split(command) if "export_dir=" in word), f"{BASE}-merged")
    assert f"saved: {(recipe / folder).resolve()}  (bfloat16)" in capsys.readouterr().out
    assert (recipe / folder / "Modelfile").is_file()
    merged = AutoModelForCausalLM.from_pretrained(recipe / folder, dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(recipe / BASE, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, adapter)
    ids = AutoTokenizer.from_pretrained(recipe / folder)("Name the capital", return_tensors="pt").input_ids
    with torch.no_grad():
        expected, found = adapted(ids).logits, merged(ids).logits
    assert (found - expected).abs().max() < 0.02 * expected.abs().max(), "further than bfloat16 rounds"


def test_train_a_file_with_a_key_replaced(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (command,) = [line for line in commands("llamafactory-cli") if " train " in line]
    (recipe / "train_lora.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    small = ["max_steps=1", "cutoff_len=256", "logging_steps=1", "gradient_accumulation_steps=1"]
    assert run_cli(command, recipe, monkeypatch, *small) == 0
    output = recipe / "saves" / "qwen3-8b" / "lora" / "sft"
    config = read_json(output / "run.json")["config"]
    assert config["num_train_epochs"] == {"value": 1, "origin": "num_train_epochs=1"}
    assert (config["lora_r"]["value"], config["lora_alpha"]["value"]) == (8, 16)
    assert (output / "training_loss.png").is_file()


def test_chat_and_version(
    recipe: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chat, version = [line for line in commands("llamafactory-cli") if line.split()[1] in ("chat", "version")]
    monkeypatch.setattr(sys, "stdin", io.StringIO("Name a river\n"))
    assert run_cli(chat, recipe, monkeypatch, "--max_new_tokens", "4", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["prompt"] == "Name a river"
    assert run_cli(version, recipe, monkeypatch) == 0
    assert capsys.readouterr().out.startswith("sft-kit ")
    assert run_cli("llamafactory-cli webui", recipe, monkeypatch) == 2
    assert "webui is not among" in capsys.readouterr().err


def test_translate(recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (command,) = commands("sft")
    monkeypatch.chdir(recipe)
    assert sft(shlex.split(command)[1:]) == 0
    notes, _, config = capsys.readouterr().out.partition("\n\n")
    assert all(note.startswith("# ") for note in notes.splitlines())
    assert yaml.safe_load(config)["lora_alpha"] == 16


def test_several_processes_are_started_by_torchrun(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    def execv(program: str, words: list[str]) -> None:
        started.append(words)
        raise SystemExit(0)

    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setenv("FORCE_TORCHRUN", "1")
    for name, value in {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    assert run_cli("llamafactory-cli train x.yaml lora_rank=4", recipe, monkeypatch) == 0
    assert started[0][1:] == [
        "-m", "sft.cli.launcher", "--nnodes=2", "--node_rank=1", "--master_addr=10.0.0.1", "--master_port=29500",
        "--nproc_per_node=1", "-m", "sft", "train", "x.yaml", "lora_rank=4",
    ]  # fmt: skip


def test_installation_files() -> None:
    ((path, extras),) = re.findall(r"^-e (.+)\[(.+)\]$", (RECIPE / "requirements.txt").read_text(), re.MULTILINE)
    project = (RECIPE / path / "pyproject.toml").read_text(encoding="utf-8")
    assert all(f"\n{extra} = [" in project for extra in extras.split(","))
    environment = yaml.safe_load((RECIPE / "environment.yml").read_text())
    assert environment["name"] == "review"
    assert {"pip": ["-r requirements.txt"]} in environment["dependencies"]


def test_data_and_files_shown_are_those_that_are_there() -> None:
    (shown,) = map(json.loads, blocks("json"))
    assert shown == read_json(RECIPE / "data" / "dataset_info.json")
    rows = read_json(RECIPE / "data" / "qwen3_alpaca.json")
    assert all(set(row) == {"instruction", "input", "output"} and row["output"] for row in rows)
    drawn = re.findall(r"^[├└]── ([\w.-]+)", README[README.index("## Files") :], re.MULTILINE)
    assert {path.name for path in RECIPE.iterdir()} == set(drawn)
