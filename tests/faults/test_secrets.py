"""Tokens of eight shapes in the environment, in a file and on a command line: no file, log or tracker has them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import Case, settings

BODY = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7cF0hJ3kM6"
SECRETS = {
    "HF_TOKEN": f"hf_{BODY}",
    "WANDB_API_KEY": f"wandb_v1_{BODY[::-1]}",
    "OPENAI_API_KEY": f"sk-proj-{BODY}",
    "GITHUB_TOKEN": f"ghp_{BODY}",
    "GITLAB_TOKEN": f"glpat-{BODY[:20]}",
    "AWS_ACCESS_KEY_ID": "AKIAQWERTYUIOPASDFGH",
    "SLACK_BOT_TOKEN": "xoxb-9876543210-abcdefghij",
    "DATABASE_URL": f"postgres://me:{BODY[5:25]}@db.example.org/data",
}

RUN = """
import json, pickle, sys
from pathlib import Path
from transformers import TrainerCallback
from sft.config import load_config
from sft.training.run import run_training

class Tracker(TrainerCallback):
    def on_train_begin(self, args, state, control, **kwargs):  # what trackers are sent when a run begins
        self.sent = [args.to_json_string(), repr(args), json.dumps(args.to_sanitized_dict(), default=str)]
        self.sent += [repr(pickle.dumps(args)), repr(vars(args)), repr(state), kwargs["model"].config.to_json_string()]
    def on_log(self, args, state, control, logs=None, **kwargs):
        self.sent.append(repr(logs))

tracker = Tracker()
run_training(load_config(sys.argv[1]), callbacks=[tracker])
Path(sys.argv[2]).write_text("\\n".join(tracker.sent))
"""


def written(*folders: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                yield path, path.read_bytes()


def shapes_of(secret: str) -> list[bytes]:
    """A secret as text, and as pickles and wide texts would have it."""
    return [secret.encode(), secret.encode("utf-16-le"), json.dumps(secret).encode()[1:-1]]


@pytest.mark.slow
def test_none_of_the_environment_is_written_or_sent(
    case: Callable[[str], Case], fault_rows: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    config = {
        **settings(fault_rows, tiny_model_folder, tmp_path / "cache"),
        "output_dir": str(tmp_path / "run"),
        "report_to": "tensorboard",
        "also_write": ["log", "arguments"],
        "max_steps": 3,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    home = tmp_path / "home"
    home.mkdir()
    ran = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path / "config.json"), str(tmp_path / "sent.txt")],
        capture_output=True,
        text=True,
        env={**os.environ, **SECRETS, "HOME": str(home), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    files = dict(written(tmp_path))
    names = {path.name for path in files}
    assert {"train.log", "run.json", "metrics.jsonl", "manifest.json", "sent.txt"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    planted = case("a secret of the environment, in files, logs and trackers")
    for name, secret in SECRETS.items():
        holders = [path for path, data in files.items() if any(shape in data for shape in shapes_of(secret))]
        planted.note(not holders and secret not in ran.stdout + ran.stderr, f"{name}: {holders}")


def test_in_a_config_or_on_the_command_line_they_are_refused_and_not_repeated(
    case: Callable[[str], Case], tmp_path: Path
) -> None:
    refused = case("a secret in a config or on the command line")
    for number, secret in enumerate(SECRETS.values()):
        run, config = tmp_path / f"run {number}", tmp_path / f"{number}.yaml"
        config.write_text(f"model_name_or_path: m\ndata_path: d.json\nrun_name: {secret!r}\n")
        words = [str(config)] if number % 2 else ["--run_name", secret]
        ended = subprocess.run(
            [sys.executable, "-m", "sft.cli.main", "train", *words, "--output_dir", str(run)],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        said = ended.stdout + ended.stderr
        refused.note(
            ended.returncode == 2 and "run_name" in said and secret not in said and not run.exists(), said[-500:]
        )
