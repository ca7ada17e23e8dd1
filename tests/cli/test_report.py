"""`sft report`: where the page goes, and what is said where there is none to write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sft.cli.main import main


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"config": {}, "result": None}), encoding="utf-8")
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5}\n', encoding="utf-8")
    return folder


def test_the_page_goes_into_the_run_folder(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run_folder)]) == 0
    assert capsys.readouterr().out == f"report: {run_folder / 'report.html'}\n"
    assert "Did the model get better?" in (run_folder / "report.html").read_text(encoding="utf-8")


def test_several_runs_have_a_page_of_their_own(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", "out", "out"]) == 0
    assert (tmp_path / "report.html").is_file()
    assert main(["report", "out", "--output", "pages/one.html"]) == 0
    assert (tmp_path / "pages" / "one.html").is_file()


def test_what_is_no_run_is_refused(tmp_path: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["report", str(tmp_path / "empty")]) == 2
    assert "holds neither run.json nor metrics.jsonl" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "nothing")]) == 2
    assert "there is no such folder" in capsys.readouterr().err
    assert main(["report", str(run_folder), "--output", str(tmp_path)]) == 2
    assert "it is a folder" in capsys.readouterr().err
    assert main(["report"]) == 2
