"""What a person sees: recorded on terminals of several widths, in pipes, without colour, in CI, and after Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sft.cli import chat
from sft.cli.main import main

pytest.importorskip("pty", reason="terminals are recorded with pty")

HERE = Path(__file__).parent
STEPS = 8
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f]")
PLAIN_STEP = re.compile(
    r"step (\d)/8: loss \d\.\d{4}, [\d,]+ tokens/s, [\d,]+ of them trained, \d\d:\d\d left, RAM [\d.]+ MB"
)
"""A logged step where nothing changes in place."""


@dataclass(frozen=True)
class Recorded:
    """What a command wrote."""

    code: int
    text: str
    """On its terminal, or on standard error."""
    results: str
    """On standard output, where that was a pipe."""
    columns: int | None

    def lines(self) -> list[str]:
        """What stands on the terminal in the end; of a pipe, its lines."""
        return self.text.split("\n") if self.columns is None else [now for now, _ in screen(self.text)]

    def history(self) -> list[str]:
        """All that ever stood in a line of the terminal."""
        return [seen for _, line in screen(self.text) for seen in line]


def screen(text: str) -> list[tuple[str, list[str]]]:
    """Lines as a terminal shows them, with all that stood there before; knows colours, \\r and \\n and nothing else."""
    text = re.sub("\x1b\\[[0-9;]*m", "", text)
    shown = []
    for line in text.replace("\r\n", "\n").split("\n"):
        now, seen = "", []
        for written in line.split("\r"):
            now = written + now[len(written) :]
            seen.append(now.rstrip())
        shown.append((now.rstrip(), seen))
    return shown


Run = Callable[..., Recorded]


@pytest.fixture(scope="module")
def terminal() -> Iterator[Run]:
    """Runs a command: (words, folder, columns of its terminal or None, interrupt_at=text, **environment)."""
    nursery = subprocess.Popen(
        [sys.executable, str(HERE / "terminals.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )

    def run(
        words: list[Any], folder: Path, columns: int | None, *, interrupt_at: str | None = None, **environment: str
    ) -> Recorded:
        order = {
            "words": [str(word) for word in words],
            "folder": str(folder),
            "columns": columns,
            "interrupt_at": interrupt_at,
            "environment": environment,
        }
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        nursery.stdin.write(json.dumps(order) + "\n")
        nursery.stdin.flush()
        answer = json.loads(nursery.stdout.readline())
        return Recorded(answer["code"], answer["recorded"], answer["results"], columns)

    yield run
    nursery.communicate(timeout=60)
    assert nursery.returncode == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands are run: with data.json in it."""
    folder = tmp_path_factory.mktemp("terminal")
    rows = [{"instruction": f"Add {n} and {n}.", "output": f"{2 * n}"} for n in range(40)]
    (folder / "data.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder


def train(model: Path, run: str, **more: Any) -> list[Any]:
    """`sft train` with eight steps, two evaluations beside that of step 0, and two checkpoints."""
    given = {
        "model_name_or_path": model, "data_path": "data.json", "output_dir": run, "cache_dir": "cache",
        "max_steps": STEPS, "max_length": 128, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 1,
        "logging_steps": 2, "save_steps": 4, "validation_size": 8, "eval_strategy": "steps", "eval_steps": 4,
        "learning_rate": 1e-3, **more,
    }  # fmt: skip
    return ["train", *(word for name, value in given.items() for word in (f"--{name}", value))]


def too_wide(seen: Recorded) -> list[str]:
    """Lines that are wider than the terminal and need not be: a path is never cut, so that it can be copied."""
    assert seen.columns is not None
    return [line for line in seen.history() if len(line) > seen.columns and len(line.split()) > 1]


@pytest.mark.parametrize("columns", [80, 200])
def test_one_calm_line_while_it_trains(terminal: Run, tiny_model_folder: Path, folder: Path, columns: int) -> None:
    run = f"run-{columns}"
    seen = terminal(train(tiny_model_folder, run), folder, columns)
    assert seen.code == 0, seen.text
    assert "\x1b" not in seen.text
    assert too_wide(seen) == []
    left = seen.lines()
    assert [line for line in left if re.match(r"step \d+/|saving|preparing", line)] == []  # it is gone in the end
    drawn = [line for line in seen.history() if line.startswith("step ") and "/8" in line]
    assert drawn[0].startswith("step 0/8")
    assert any(re.match(r"step 4/8: evaluating, 1 of 2 batches", line) for line in drawn)
    assert "saving checkpoint-4" in seen.history()
    assert "saving the trained model" in seen.history()
    last = drawn[-1]
    assert re.match(r"step 8/8  ", last)
    assert re.search(r"  loss \d\.\d{4}  ", last)
    assert re.search(r"  \d\d:\d\d left", last)
    assert "━" in last
    assert re.search(r"  [\d,]+ trained tok/s  ", last)
    assert re.search(r"  RAM [\d.]+ MB", last)
    assert bool(re.search(r"  [\d,]+ tok/s in all", last)) == (columns > 80)
    whole = " ".join(" ".join(left).split())
    assert "plan data 40 rows -> 32 examples" in whole
    assert "held out 8 conversations for the evaluation loss (validation_size)" in whole
    assert f"saved: {run}/final_model" in whole
    assert "next:" in left
    assert f"  sft chat --model {run}/final_model" in left
    require_true_figures(folder / run, last, whole)


def require_true_figures(run: Path, last: str, whole: str) -> None:
    """What was shown is what the run's own files say."""
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    newest = [line for line in logged if "loss" in line][-1]
    assert f"  loss {newest['loss']:.4f}" in last
    if "trained" in last:
        assert f"  {newest['trained_tokens_per_second']:,.0f} trained tok/s" in last
    if "in all" in last:
        assert f"  {newest['tokens_per_second']:,.0f} tok/s in all" in last
    losses = [line["eval_loss"] for line in logged if "eval_loss" in line]
    assert len(losses) == 3
    assert f"better: yes. The evaluation loss fell from {losses[0]:.4f} to {losses[-1]:.4f} per trained token" in whole
    tokens = next(line["eval_trained_tokens"] for line in logged if "eval_trained_tokens" in line)
    assert f"evaluation loss is taken over {tokens:,.0f} trained tokens" in whole
    of_them = f"per trained token ({tokens:,.0f} of them), {losses[0]:.4f} untrained"
    assert f"step 8: evaluation loss {losses[-1]:.4f} {of_them}" in whole


@pytest.mark.parametrize(("columns", "environment"), [(None, {}), (160, {"CI": "true"})], ids=["pipe", "CI"])
def test_plain_lines(
    terminal: Run, tiny_model_folder: Path, folder: Path, columns: int | None, environment: dict[str, str]
) -> None:
    run = f"plain-{columns}"
    seen = terminal(train(tiny_model_folder, run, also_write="log"), folder, columns, **environment)
    assert seen.code == 0, seen.text
    text = seen.text.replace("\r\n", "\n")
    log = (folder / run / "train.log").read_text(encoding="utf-8")
    for written in (text, log, seen.results):
        assert not CONTROL.search(written)
    steps = [PLAIN_STEP.fullmatch(line) for line in text.split("\n") if re.match(r"step \d+/", line)]
    assert [step and step[1] for step in steps] == ["2", "4", "6", "8"]
    assert text.count("\nplan\n") == text.count("\nmodel\n") == 1
    assert "step 8/8: loss" in log
    assert "better: yes" in (seen.results if columns is None else text)
    assert ("better: yes" in text) == (columns is not None)  # results go to standard output alone


def test_quiet_says_where_the_result_is(terminal: Run, tiny_model_folder: Path, folder: Path) -> None:
    seen = terminal([*train(tiny_model_folder, "quiet"), "--quiet"], folder, None)
    assert (seen.code, seen.text, seen.results) == (0, "", "saved: quiet/final_model\n")
    wrong = terminal([*train(tiny_model_folder, "quiet"), "--quiet", "--lora_r", "0"], folder, None)
    assert (wrong.code, wrong.results) == (2, "")
    assert wrong.text.startswith("sft: error: ")


def test_ctrl_c_says_what_is_saved_and_how_to_go_on(terminal: Run, tiny_model_folder: Path, folder: Path) -> None:
    words = train(tiny_model_folder, "stopped", max_steps=2000)
    seen = terminal(words, folder, 80, interrupt_at="  loss ", NO_COLOR="1")
    assert seen.code == 75, seen.text
    assert "\x1b" not in seen.text
    assert too_wide(seen) == []
    whole = " ".join(" ".join(seen.lines()).split())
    assert "Ctrl-C: this step is finished, then all is saved as a checkpoint in stopped. The same command goes" in whole
    ended = re.search(r"sft: stopped by SIGINT after step (\d+) of 2000\. Everything is saved in (\S+)\. ", whole)
    assert ended is not None
    assert ended[2] == f"stopped/checkpoint-{ended[1]}"
    assert (folder / ended[2]).is_dir()
    assert whole.endswith("The same command goes on from there.")
    assert "^C" in seen.text
    assert "^C" not in "".join(seen.lines())  # what the terminal wrote for the key is gone


def test_ctrl_c_before_the_first_step(
    tiny_model_folder: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(config: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(folder)
    monkeypatch.setattr("sft.training.run.run_training", interrupted)
    assert main([str(word) for word in train(tiny_model_folder, "never")]) == 130
    said = "sft: interrupted. There is no checkpoint in never: the same command begins anew, with what is prepared.\n"
    assert capsys.readouterr().err == said


ACTS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What acts on a terminal, a tab included; line breaks are ours."""
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\u2066\r\x08"


@pytest.fixture
def hostile(folder: Path, tiny_tokenizer_folder: Path) -> list[str]:
    """Words that name data whose file name, roles and texts hold what acts on a terminal, and a line of a megabyte."""
    file = folder / "evil\x1b[31m\u202enosj.json"
    rows = [
        {"instruction": f"<script>alert(1)</script>{HOSTILE}", "output": f"fine\n{HOSTILE}\t"},
        {"instruction": "long", "output": "x" * 1_000_000},
        {"instruction": {HOSTILE: "x" * 1_000_000}, "output": "no text"},
    ]
    file.write_text(json.dumps(rows), encoding="utf-8")
    return [
        "--data_path",
        str(file),
        "--model_name_or_path",
        str(tiny_tokenizer_folder),
        "--cache_dir",
        str(folder / "cache"),
    ]


@pytest.mark.parametrize("more", [[], ["--json"], ["--search", "owned"]], ids=["text", "json", "search"])
def test_inspect_lets_no_text_act(
    hostile: list[str], more: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["inspect", *hostile, "--max_bad_rows", "1", "--num_examples", "1", *more]) == 0
    told = capsys.readouterr()
    assert not ACTS.search(told.out + told.err)
    if more == ["--json"]:
        text = json.loads(told.out)["text"]
        assert HOSTILE in text
        assert "<script>alert(1)</script>" in text
    else:
        assert "\\x1b[2J\\x9b31m\\u202egnp.exe\\u2066\\r\\x08" in told.out.replace("\n  ", "").replace("⟫", "")
        assert max(map(len, told.out.split("\n"))) <= 80 + len("⟦⟧⟪⟫")
    if "--search" in more:
        assert "⟪owned⟫" in told.out
        assert "1 of 1 examples that were looked at hold 'owned'" in told.err


def test_a_search_filters_what_programs_get(folder: Path, tiny_tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch,
                                            capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.chdir(folder)
    words = ["inspect", "--data_path", "data.json", "--model_name_or_path", str(tiny_tokenizer_folder), "--json"]
    assert main([*words, "--search", "ADD 1"]) == 0
    told = capsys.readouterr()
    found = [json.loads(line)["text"] for line in told.out.splitlines()]
    expected = [n for n in range(40) if str(n).startswith("1")][:5]
    assert [re.findall(r"Add (\d+)", text) for text in found] == [[str(n)] for n in expected]
    assert "5 of 14 examples that were looked at hold 'ADD 1'" in told.err
    assert main([*words, "--search", "nowhere", "--num_examples", "0"]) == 0
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "0 of 40 examples that were looked at hold 'nowhere'\n")
    assert main([*words, "--search", ""]) == 2


def test_errors_and_plans_let_no_text_act(hostile: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *hostile, "--max_length", "64", f"--stage={HOSTILE}{'x' * 1_000_000}"]) == 2
    refused = capsys.readouterr().err
    assert not ACTS.search(refused)
    assert "characters left out" in refused
    assert len(refused) < 20_000
    assert main(["plan", *hostile, "--max_length", "64"]) == 2
    told = capsys.readouterr()
    assert "evil\\x1b[31m\\u202enosj.json" in told.err
    assert not ACTS.search(told.out + told.err)
    assert main(["plan", *hostile, "--config_only"]) == 0
    told = capsys.readouterr()
    assert "evil" in told.out
    assert not ACTS.search(told.out + told.err)


def test_an_answer_of_a_model_cannot_act(capsys: pytest.CaptureFixture[str]) -> None:
    class Session:
        def ask(self, question: str, on_piece: Callable[[str], None]) -> Any:
            for piece in (*HOSTILE, "\nnext line\t", "日本"):
                on_piece(piece)
            return SimpleNamespace(text=HOSTILE, num_tokens=9, finished="stop")

    chat._answer_in_text(Session(), "?")  # type: ignore[arg-type]
    told = capsys.readouterr().out
    assert told.endswith("\\r\\x08\nnext line\t日本\n")
    assert not ACTS.search(told.replace("\t", ""))
    chat._answer_in_json(Session(), "?")  # type: ignore[arg-type]
    told = capsys.readouterr().out
    assert json.loads(told)["answer"] == HOSTILE
    assert not ACTS.search(told)
