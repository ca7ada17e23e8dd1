"""What starting costs, by what it imports; and how the command itself answers, fails and stops."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import sft
from sft.cli.main import VERBS, main
from sft.errors import DataError, TrainingStopped

HEAVY = {"torch", "transformers", "tokenizers", "numpy", "datasets", "peft", "accelerate"}
ROOT = Path(__file__).resolve().parents[2]


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after a statement."""
    program = (
        f"import sys, json\n{statement}\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_sft_loads_nothing_heavy() -> None:
    assert not modules_after("import sft") & (HEAVY | {"yaml"})


def test_making_a_config_loads_nothing_heavy() -> None:
    statement = "from sft import SFTConfig; SFTConfig(use_lora=True, torch_compile=True, optim='adafactor')"
    assert not modules_after(statement) & (HEAVY | {"yaml"})


@pytest.mark.parametrize("words", [["--help"], ["--version"], *([verb, "--help"] for verb in VERBS)], ids=" ".join)
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    loaded = modules_after(f"from sft.cli.main import main; assert main({words!r}) == 0")
    assert not loaded & (HEAVY | {"yaml"})


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "sft", "--help"], capture_output=True, text=True, check=True)
    assert all(verb in done.stdout for verb in VERBS)
    assert done.stderr == ""


def test_public_names_are_the_real_ones() -> None:
    from sft.config import SFTConfig
    from sft.training.api import SFTTrainer
    from sft.training.dataset import SFTDataset

    assert (sft.SFTConfig, sft.SFTDataset, sft.SFTTrainer) == (SFTConfig, SFTDataset, SFTTrainer)
    assert all(getattr(sft, name) is not None for name in sft.__all__)
    assert dir(sft) == sorted(sft.__all__)
    with pytest.raises(AttributeError, match="no attribute 'SFTTrainr'"):
        _ = sft.SFTTrainr


def test_version_is_the_package_version(capsys: pytest.CaptureFixture[str]) -> None:
    declared = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert declared is not None
    assert sft.__version__ == declared[1]
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"sft-kit {declared[1]}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_keeps_the_convention(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    path, line = VERBS[verb]
    module = importlib.import_module(path)
    assert line == module.HELP
    assert main([verb, "--help"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"usage: sft {verb}")
    assert ("--lora_r" in told) == ("[FILE]" in told)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trian"], "Did you mean train?"),
        (["config.yaml"], "sft train config.yaml"),
        (["--lora_r", "8"], "the verb is missing"),
        (["schema", "--markdwon"], "Did you mean --markdown?"),
        (["doctor", "extra"], "does not take extra"),
    ],
)
def test_a_wrong_command_is_refused(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    told = capsys.readouterr()
    assert says in told.err
    assert told.out == ""


def verb_that(action: object) -> ModuleType:
    """A verb whose run() raises what it is given."""

    def run(args: argparse.Namespace) -> int:
        assert isinstance(action, BaseException)
        raise action

    module = ModuleType("verb")
    module.HELP, module.configure, module.run = "test", lambda parser: None, run  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (DataError("data/train.jsonl:12: no answer"), 2, "sft: error: data/train.jsonl:12: no answer\n"),
        (TrainingStopped("stopped at step 5, saved"), 75, "sft: stopped at step 5, saved\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 141, ""),
    ],
    ids=["user", "stopped", "interrupt", "pipe"],
)
def test_exit_codes(
    error: BaseException,
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "sft.cli.doctor", verb_that(error))
    assert main(["doctor"]) == code
    assert capsys.readouterr().err == says


def test_our_own_fault_is_shown_whole_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sft.cli.doctor", verb_that(RuntimeError("impossible")))
    assert main(["doctor"]) == 1
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "RuntimeError: impossible" in told
    assert "a fault of sft-kit" in told


def test_a_reader_that_leaves_early_is_no_error() -> None:
    program = f"{sys.executable} -m sft schema | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert done.stdout == "{\n"
    assert done.stderr == ""
    assert done.returncode in (0, 141)


def test_colour_only_on_a_terminal() -> None:
    os_pty = pytest.importorskip("pty")
    for environment, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        reader, writer = os_pty.openpty()
        settings = {name: value for name, value in os.environ.items() if name not in ("CI", "NO_COLOR")}
        settings["TERM"] = "xterm"
        subprocess.run([sys.executable, "-m", "sft", "nothing"], stderr=writer, env=settings | environment)
        os.close(writer)
        assert (b"\x1b[31m" in os.read(reader, 4096)) is coloured
        os.close(reader)


def test_doctor_as_an_object(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setenv("SFT_CACHE_DIR", str(tmp_path / "cache"))
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["packages"]["torch"] == torch.__version__
    assert found["devices"][-1]["name"].startswith("cpu")
    assert len(found["devices"]) == torch.cuda.device_count() + torch.backends.mps.is_available() + 1
    assert found["cache"]["path"] == str(tmp_path / "cache")
    assert "chatml" in found["templates"]
    assert found["problems"] == []
    assert main(["doctor"]) == 0
    assert "All that training needs is here." in capsys.readouterr().out


def test_schema_prints_the_schema_or_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["properties"]["lora_r"]["minimum"] == 1
    assert main(["schema", "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("# Options\n")
