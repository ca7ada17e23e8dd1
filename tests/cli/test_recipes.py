"""Every command printed in the READMEs of the recipes, run from the recipe's folder as a user would run it.

The commands are taken from the READMEs' own code blocks. What is changed: the model is a tiny local one, steps are
few, four processes are two, and data sets of the hub are folders of the same name. What each README promises of the
result is looked at afterwards.

Most commands run in this process, which has imported torch already; one of each launcher starts for itself.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

# PEFT still asks for a name that transformers is giving up.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

RECIPES = Path(__file__).resolve().parents[2] / "recipes"

PROGRAMS = {
    "python": [],
    "torchrun": ["-m", "torch.distributed.run"],
    "accelerate": ["-m", "accelerate.commands.accelerate_cli"],
}

NOT_RUN = {
    "pip install -r requirements.txt": "needs a package index; the file is looked at in a test of its own",
    "pip install peft": "needs a package index; a dependency of this package anyway",
    "accelerate config": "asks questions",
}


def blocks(recipe: str, language: str) -> list[str]:
    """The code blocks of a README."""
    text = (RECIPES / recipe / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(recipe: str) -> list[str]:
    """Every command of a README on one line, those that are not run left out."""
    lines = "".join(blocks(recipe, "bash")).replace("\\\n", " ").splitlines()
    printed = [" ".join(line.split()) for line in lines if line.strip()]
    return [line for line in printed if line not in NOT_RUN]


def environment(folder: Path) -> dict[str, str]:
    """What a command finds: nothing of the user's own choices, and places of its own."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "SFT_", "ACCELERATE_"))},
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "hf-home"),
        "SFT_CACHE_DIR": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def run(command: str, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run a command line of a README in a folder, with this interpreter's programs."""
    program, *words = shlex.split(command)
    done = subprocess.run(
        [sys.executable, *PROGRAMS[program], *words, *more],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


Here = Callable[..., str]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Here:
    """Run ``python SCRIPT WORDS ...`` of a README in this process; returns what it said."""

    def run_here(command: str, folder: Path, *more: str, told: Mapping[str, str] | None = None) -> str:
        _, script, *words = shlex.split(command)
        given = {**environment(folder), **(told or {})}
        for name in os.environ.keys() - given.keys():
            monkeypatch.delenv(name)
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", [script, *words, *more])
        monkeypatch.setattr(sys, "path", [*sys.path])  # a script may change it
        code = None
        try:
            runpy.run_path(str(folder / script), run_name="__main__")
        except SystemExit as end:
            code = end.code
        said = "".join(capfd.readouterr())
        assert not code, f"{command}\n{said}"
        return said

    return run_here


def copied(recipe: str, folder: Path) -> Path:
    """The recipe where it may write."""
    return Path(shutil.copytree(RECIPES / recipe, folder / recipe, ignore=shutil.ignore_patterns("output*", "cache")))


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def load(folder: Path) -> Any:
    """Model and tokenizer, as a README says."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert AutoTokenizer.from_pretrained(folder).chat_template
    return AutoModelForCausalLM.from_pretrained(folder)


def rows_per_step(output: Path) -> int:
    """Rows of all processes together, as recorded."""
    return int(json.loads((output / "run.json").read_text(encoding="utf-8"))["plan"]["rows_per_step"])


def weights(model: Any) -> Any:
    import torch

    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


# ---- qwen3 ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def qwen3(tmp_path: Path) -> Path:
    """The recipe with the data its README speaks of."""
    folder = copied("qwen3", tmp_path)
    rows = json.loads((folder / "examples" / "sample_alpaca.json").read_text(encoding="utf-8"))
    write_json(folder / "data" / "alpaca.json", rows)
    write_json(folder / "data" / "train.json", rows[:24])
    write_json(folder / "data" / "eval.json", rows[24:])
    write_json(folder / "yahma" / "alpaca-cleaned" / "alpaca_data_cleaned.json", rows)
    return folder


@pytest.mark.parametrize("command", [line for line in commands("qwen3") if "--help" not in line])
def test_qwen3_command(command: str, qwen3: Path, tiny_model_folder: Path, here: Here) -> None:
    words = shlex.split(command)
    command = command.replace("--nproc_per_node=4", "--nproc_per_node=2").replace("checkpoint-1000", "checkpoint-1")
    small = ["--model_name_or_path", str(tiny_model_folder), "--logging_steps", "1", "--save_steps", "1"]
    if "--eval_data_path" in words:
        small += ["--eval_steps", "1"]
    if "--resume_from_checkpoint" in words:
        first, _ = command.split("--resume_from_checkpoint")
        here(first, qwen3, *small, "--max_steps", "1")
    if words[0] == "torchrun" or "--resume_from_checkpoint" in words:
        done = run(command, qwen3, *small, "--max_steps", "2")
        said = done.stdout + done.stderr
    else:
        said = here(command, qwen3, *small, "--max_steps", "2")

    output = qwen3 / words[words.index("--output_dir") + 1]
    if "--use_lora" in words:
        from safetensors.torch import load_file

        saved = json.loads((output / "adapter_config.json").read_text())
        assert saved["r"] == int(words[words.index("--lora_r") + 1])
        assert (output / "tokenizer.json").is_file()
        adapter = load_file(output / "adapter_model.safetensors")
        assert any(tensor.abs().sum() > 0 for name, tensor in adapter.items() if "lora_B" in name), (
            "nothing was trained"
        )
    else:
        assert not weights(load(output)).equal(weights(load(tiny_model_folder))), "nothing was trained"
    if "--resume_from_checkpoint" in words:
        assert "resuming from" in said
    if "wandb" in words and not _has_wandb():
        assert "wandb is not installed" in said
    if words[0] == "torchrun":
        assert rows_per_step(output) == 2 * 4 * 4, "processes, batch, accumulation"


def _has_wandb() -> bool:
    import importlib.util

    return importlib.util.find_spec("wandb") is not None


def test_qwen3_help(tmp_path: Path) -> None:
    (command,) = [line for line in commands("qwen3") if "--help" in line]
    printed = run(command, copied("qwen3", tmp_path)).stdout
    options = re.findall(r"--\w+", (RECIPES / "qwen3" / "README.md").read_text(encoding="utf-8"))
    assert {word for word in options if word not in ("--nproc_per_node", "--help")} <= set(
        re.findall(r"--\w+", printed)
    )


def test_qwen3_python_blocks(qwen3: Path, tiny_model_folder: Path, here: Here) -> None:
    script = "\n".join(blocks("qwen3", "python")).replace("Qwen/Qwen2.5-1.5B", str(tiny_model_folder))
    (qwen3 / "api.py").write_text(script.replace("lora_r=8,", "lora_r=8,\n    max_steps=1,"), encoding="utf-8")
    said = here("python api.py", qwen3)
    assert all(name in said for name in ("input_ids", "attention_mask", "labels"))
    assert list((qwen3 / "output").rglob("adapter_model.safetensors"))


# ---- accelerate -----------------------------------------------------------------------------------------------------


@pytest.fixture
def accelerate(tmp_path: Path, tiny_model_folder: Path) -> Path:
    """The recipe with a tiny model in its two files, the data set in a folder of its name, and questions."""
    folder = copied("accelerate", tmp_path)
    for path in folder.glob("*.yaml"):
        text = path.read_text(encoding="utf-8").replace("Qwen/Qwen2.5-0.5B-Instruct", str(tiny_model_folder))
        path.write_text(text, encoding="utf-8")
    rows = [{"question": f"What is {n} + {n}?", "answer": f"It is {2 * n}."} for n in range(24)]
    write_json(folder / "openai" / "gsm8k" / "main" / "train.json", rows)
    (folder / "questions.txt").write_text("What is 1 + 1?\nWhat is the capital of France?\n", encoding="utf-8")
    return folder


ON_TWO_PROCESSES = "accelerate launch sft.py --config lora_train_config.yaml"
ON_ONE_PROCESS = "accelerate launch sft.py"
"""These two are launched. The others differ in the words of the script alone, which runs here, told what a launcher
tells it."""

TWO_PROCESSES = {
    "compute_environment": "LOCAL_MACHINE",
    "distributed_type": "MULTI_GPU",
    "gpu_ids": "all",
    "mixed_precision": "no",
    "num_machines": 1,
    "num_processes": 2,
    "machine_rank": 0,
    "main_process_port": 0,
    "use_cpu": False,
}
"""What `accelerate config` writes for two GPUs. Where there is none, the two processes are on the CPU. (Its choice for
several CPUs starts one process only, unless under MPI.) Port 0 is any free one."""


def faster(words: list[str]) -> list[str]:
    """Two steps under warm-up would leave the model nearly as it was."""
    return [] if "--learning_rate" in words else ["--learning_rate", "0.02", "--warmup_steps", "0"]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the launcher tells a process that it starts, by name of the variable."""
    folder = tmp_path_factory.mktemp("launched")
    (folder / "show.py").write_text("import json, os; print(json.dumps(dict(os.environ)))", encoding="utf-8")
    *_, last = run("accelerate launch show.py", folder).stdout.splitlines()
    found: dict[str, str] = json.loads(last)
    changed = {name: value for name, value in found.items() if environment(folder).get(name) != value}
    assert changed["ACCELERATE_MIXED_PRECISION"] == "no"
    return changed


@pytest.mark.parametrize("command", commands("accelerate"))
def test_accelerate_command(
    command: str, accelerate: Path, tiny_model_folder: Path, here: Here, request: pytest.FixtureRequest
) -> None:
    words = shlex.split(command)
    if command == ON_TWO_PROCESSES:
        path = accelerate / "hf-home" / "accelerate" / "default_config.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(yaml.safe_dump(TWO_PROCESSES), encoding="utf-8")
    small = ["--max_steps", "2", "--gen_every_n_steps", "1", "--gen_max_new_tokens", "8"]
    if command in (ON_ONE_PROCESS, ON_TWO_PROCESSES):
        run(command, accelerate, *small, *faster(words))
    else:
        script = command.removeprefix("accelerate launch ")
        here(f"python {script}", accelerate, *small, *faster(words), told=request.getfixturevalue("told"))
    assert rows_per_step(accelerate / ("outputs_lora" if "lora_train_config.yaml" in words else "outputs")) == (
        2 if command == ON_TWO_PROCESSES else 1
    )
    if "lora_train_config.yaml" in words:
        _check_adapter_and_merged_model(accelerate / "outputs_lora", tiny_model_folder)
    else:
        output = accelerate / "outputs"
        assert not weights(load(output)).equal(weights(load(tiny_model_folder))), "nothing was trained"
        assert not (output / "lora_weights").exists()
    if "--gen_questions_file" in words:
        for step in (1, 2):
            answers = json.loads((accelerate / "outputs_lora" / "gen_results" / f"gen_step_{step}.json").read_text())
            assert [set(answer) for answer in answers] == [{"question", "output"}] * 2
            assert answers[1]["question"] == "What is the capital of France?"


def _check_adapter_and_merged_model(output: Path, base: Path) -> None:
    """The two ways to load of the README, word for word but for the paths, give one model."""
    import torch

    merged_block, adapter_block = blocks("accelerate", "python")
    merged, adapter = ({}, {})
    exec(merged_block.replace("path/to/output_dir", str(output)), merged)
    exec(adapter_block.replace("path/to/output_dir", str(output)).replace("path/to/base_model", str(base)), adapter)
    ids = merged["tokenizer"]("What is 3 + 3?", return_tensors="pt").input_ids
    assert ids.equal(adapter["tokenizer"]("What is 3 + 3?", return_tensors="pt").input_ids)
    with torch.no_grad():
        one, other, untrained = (part["model"].eval()(ids).logits for part in (merged, adapter, {"model": load(base)}))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    assert (one - untrained).abs().max() > 1e-4, "nothing was trained"


def test_accelerate_yaml_block_is_understood(tmp_path: Path) -> None:
    from sft.config import SFTConfig, read_file
    from sft.dialects import recognise, translate

    (block,) = blocks("accelerate", "yaml")
    (tmp_path / "train.yaml").write_text(block, encoding="utf-8")
    values = read_file(tmp_path / "train.yaml")
    config = SFTConfig(**translate(values, str(recognise(values))).accepted())
    assert config.data_path == "your/dataset:your_subset"
    assert config.gradient_accumulation_steps == 8


# ---- both -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["qwen3", "accelerate"])
def test_requirements_are_this_checkout(recipe: str) -> None:
    text = (RECIPES / recipe / "requirements.txt").read_text(encoding="utf-8")
    ((path, extras),) = re.findall(r"^-e (.+)\[(.+)\]$", text, re.MULTILINE)
    project = (RECIPES / recipe / path / "pyproject.toml").read_text(encoding="utf-8")
    assert 'name = "sft-kit"' in project
    assert all(f"\n{extra} = [" in project for extra in extras.split(","))


@pytest.mark.parametrize("recipe", ["qwen3", "accelerate"])
def test_data_and_configs_shown_are_valid(recipe: str) -> None:
    for block in blocks(recipe, "json"):
        assert isinstance(json.loads(block), list)
    for path in (RECIPES / recipe).glob("*.yaml"):
        assert set(yaml.safe_load(path.read_text(encoding="utf-8"))) == {"model", "dataset", "training"}


def test_sample_rows_are_complete() -> None:
    rows = json.loads((RECIPES / "qwen3" / "examples" / "sample_alpaca.json").read_text(encoding="utf-8"))
    assert len(rows) >= 25
    assert all(row["instruction"].strip() and row["output"].strip() and isinstance(row["input"], str) for row in rows)
    assert len({(row["instruction"], row["input"]) for row in rows}) == len(rows)
