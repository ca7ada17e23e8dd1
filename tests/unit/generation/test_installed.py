"""A server that is not installed is refused before anything is trained; what cannot be told is left to its start."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sft.config import SFTConfig
from sft.errors import ConfigError
from sft.generation import installed
from sft.training.preflight import require_eval_server

ABSENT = "sft_no_such_server"


def program(folder: Path, text: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A served engine that this interpreter does not have; sglang may be there where this test runs."""
    monkeypatch.setitem(installed.MODULES, ABSENT, "Served")


def test_a_server_that_is_not_installed_is_refused(absent: None) -> None:
    with pytest.raises(ConfigError, match=f"^engine = {ABSENT}: Served is not installed for {sys.executable}") as told:
        installed.require_server(ABSENT, None)
    assert "engine_python" in str(told.value)
    assert "engine in_process" in str(told.value)


def test_a_package_that_is_there_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(installed.MODULES, "json", "Served")
    installed.require_server("json", None)
    installed.require_server("json", sys.executable)


def test_an_interpreter_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"eval_engine_python = .*/bin/python: is no program"):
        installed.require_server("sglang", str(tmp_path / "bin" / "python"), prefix="eval_")


@pytest.mark.parametrize("text", ["exit 1", "echo starting; exit 0"])
def test_a_wrapper_that_says_nothing_of_it_is_left_to_its_start(text: str, absent: None, tmp_path: Path) -> None:
    installed.require_server(ABSENT, program(tmp_path, text))


def test_a_run_is_refused_before_its_data_are_read(tmp_path: Path) -> None:
    python = program(tmp_path, f"echo {installed.ABSENT}")
    asked = {"use_lora": True, "eval_engine": "sglang", "eval_engine_python": python}
    with pytest.raises(ConfigError, match=f"eval_engine = sglang: SGLang is not installed for {python}"):
        require_eval_server(SFTConfig(**asked, eval_tasks=["qmsum"], data_path="d"))
    require_eval_server(SFTConfig(use_lora=True, eval_tasks=["qmsum"], data_path="d"))
    running = {"use_lora": True, "eval_engine": "sglang", "eval_engine_url": "http://127.0.0.1:1"}
    require_eval_server(SFTConfig(**running, eval_tasks=["qmsum"], data_path="d"))
