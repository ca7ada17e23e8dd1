"""A folder where the commands of a page find what they speak of: a tiny model under each name, rows, a finished run."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sft.cli.main import main
from sft.config import SFTConfig

ROWS = [
    {
        "instruction": f"Count to {number}" + ", please" * (number % 3),
        "output": " ".join(map(str, range(1, number + 1))),
    }
    for number in range(1, 9)
] * 5
PAIRS = [{"instruction": "2 + 2?", "input": "", "chosen": "4", "rejected": "5"}] * 8
SMALL = ["--max_steps", "2"]
"""What is put behind a command that trains."""

STUBS = {
    "scontrol": 'printf "first\\nsecond\\n"',
    "torchrun": 'printf "%q " torchrun "$@" >> "$LAUNCHED"; echo >> "$LAUNCHED"',
    "srun": 'while [[ "$1" == -* ]]; do shift; done; exec "$@"',
    **dict.fromkeys(("module", "source", "conda"), "true"),
}
"""Programs of a cluster, as far as the scripts of the pages need them."""


class Workplace:
    """Runs what a page prints, in its order."""

    def __init__(self, folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch, says: pytest.CaptureFixture[str]):
        self.folder, self.model, self.monkeypatch, self.says = folder, model, monkeypatch, says
        monkeypatch.chdir(folder)
        self.base_model(SFTConfig.model_name_or_path)
        for name, value in {
            "SFT_CACHE_DIR": "cache",
            "HF_HUB_OFFLINE": "1",
            "SFT_QMSUM_DIR": "tasks",
            "SFT_TRUTHFULQA_FILE": "tasks/TruthfulQA.csv",
            "SLURM_JOB_NODELIST": "two-nodes",
            "SLURM_NNODES": "2",
            "SLURM_JOB_ID": "7",
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # read from the environment once
        write_tasks(folder / "tasks")

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def rows(self, name: str) -> None:
        """Rows under a name that a page uses, if it has not brought its own; a name of the hub becomes a folder."""
        if self.has(name):
            return
        rows = PAIRS if "pair" in name else ROWS
        lines = "".join(f"{json.dumps(row)}\n" for row in rows)
        if name.endswith(".csv"):
            self.write(name, table(["Frage", "Antwort"], [["2 + 2?", "4"]] * 8))
        elif name.endswith(".json"):
            self.write(name, json.dumps(rows))
        else:
            self.write(name if name.endswith(".jsonl") else f"{name}/train.jsonl", lines)

    def base_model(self, name: str) -> None:
        """The tiny model under the name of a real one."""
        self.base = name
        if not self.has(name):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).symlink_to(self.model, target_is_directory=True)

    def trained(self, name: str, *, lora: bool) -> None:
        """A run of two steps, where a page speaks of a finished one."""
        if self.has(name):
            return
        self.rows("my.jsonl")
        words = f"--data_path my.jsonl --model_name_or_path {self.base} --output_dir {name.partition('/')[0]}"
        self.sft(f"train {words} --use_lora {lora} --overwrite_output_dir")

    def sft(self, words: str, *more: str) -> None:
        """A command of ours, in this process."""
        argv = [word for word in shlex.split(words) if word != "..."]
        if argv[0] == "train":
            argv += SMALL
        self.monkeypatch.setattr(sys, "stdin", io.StringIO("Hello\n"))
        self.says.readouterr()
        code = main([*argv, *more])
        said = self.says.readouterr()
        assert code == 0, f"sft {' '.join(argv)}\n{said.out[-2000:]}\n{said.err[-2000:]}"

    def script(self, text: str) -> list[str]:
        """A script for a cluster, run with stand-ins of its programs; the launches it came to."""
        for name, does in STUBS.items():
            self.write(f"stubs/{name}", f"#!/bin/bash\n{does}\n")
            (self.folder / "stubs" / name).chmod(0o755)
        launched = self.folder / "launched"
        launched.write_text("")
        path = f"{self.folder / 'stubs'}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "LAUNCHED": str(launched)}
        done = subprocess.run(["bash", "-eu", "-c", text], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return launched.read_text().splitlines()


def write_tasks(folder: Path) -> None:
    """A meeting with a query as QMSum writes it, and two questions as TruthfulQA does."""
    folder.mkdir()
    meeting = {
        "meeting_transcripts": [{"speaker": "Ann", "content": "The sea is cold."}],
        "general_query_list": [],
        "specific_query_list": [{"query": "What is cold?", "answer": "The sea."}],
    }
    for split in ("train", "val", "test"):
        (folder / f"{split}.jsonl").write_text(f"{json.dumps(meeting)}\n", encoding="utf-8")
    header = ["Question", "Best Answer", "Correct Answers", "Incorrect Answers"]
    questions = [["Is it?", "Yes", "Yes; It is", "No; Never"], ["Was it?", "No", "No", "Yes"]]
    (folder / "TruthfulQA.csv").write_text(table(header, questions), encoding="utf-8")


def table(header: list[str], rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    return text.getvalue()


def names_in(text: str, keys: str) -> list[str]:
    """The values of some keys, whether YAML, JSON, Python or a command line writes them."""
    return re.findall(rf"\b(?:{keys})[\"']?\s*[:=(\s]\s*[\"']?(?=([\w.][\w./-]*\w))", text)
