"""`sft score` from the command line: files of both kinds, what is printed, and how mistakes are named."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from sft.cli.main import main
from sft.errors import EXIT_DONE, EXIT_USER


def write(file: Path, *rows: Mapping[str, Any]) -> str:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def official(pred: str, answers: Sequence[str], **values: Any) -> dict[str, Any]:
    return {"pred": pred, "answers": list(answers), "all_classes": None, "length": 100, **values}


def score(capsys: pytest.CaptureFixture[str], task: str, file: str, *words: str) -> dict[str, Any]:
    assert main(["score", "--task", task, "--predictions", file, "--json", *words]) == EXIT_DONE
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_official_format_through_the_real_command(tmp_path: Path) -> None:
    file = write(tmp_path / "hotpotqa.jsonl", official("Paris", ["paris", "x"]), official("a b c", ["b"]))
    words = ["score", "--task", "hotpotqa", "--predictions", file, "--json"]
    done = subprocess.run([sys.executable, "-m", "sft", *words], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["score"] == 83.33
    assert found["rows"] == [{"score": 1.0}, {"score": 2 / 3}]
    assert done.stderr == ""


def test_each_row_has_its_own_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = (
        official("Date\nFood", ["Date"], all_classes=["Date", "Food"]),
        official("Food", ["Food"], all_classes=["Food"]),
    )
    assert score(capsys, "trec", write(tmp_path / "f.jsonl", *rows))["score"] == 100.0


def test_a_file_of_several_subsets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = (
        official("x = 1", ["x = 1"], dataset="lcc"),
        official("Paragraph 2", ["Paragraph 3"], dataset="passage_retrieval_en"),
        official("x", ["y"], dataset="lcc"),
        official("x = 2", ["x = 2"], dataset="repobench-p"),
    )
    file = write(tmp_path / "all.jsonl", *rows)
    found = score(capsys, "longbench", file)
    assert [row["score"] for row in found["rows"]] == [1.0, 0.0, 0.0, 1.0]
    assert {name: result["score"] for name, result in found["results"].items()} == {
        "longbench/passage_retrieval_en": 0.0,
        "longbench/lcc": 50.0,
        "longbench/repobench-p": 100.0,
    }
    assert found["score"] == 50.0
    assert found["averages"]["english"]["categories"]["code"] == 75.0
    assert found["averages"]["english"]["average"] is None
    assert main(["score", "--task", "longbench", "--predictions", file]) == EXIT_DONE
    assert "longbench/lcc                       2 rows  score 50  (code_sim)" in capsys.readouterr().out


def test_longbench_e_says_the_score_of_each_length(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "f.jsonl", official("a b", ["b"], length=1), official("c", ["b"], length=9000))
    results = score(capsys, "longbench_e/qasper", file)["results"]["longbench_e/qasper"]
    assert results["lengths"] == {"0-4k": 100.0, "4-8k": None, "8k+": 0.0}


def test_qmsum_is_scored_as_its_file_was_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = write(
        tmp_path / "ours.jsonl", {"id": "q1", "prediction": "Meetings WERE held.", "reference": "meeting were held"}
    )
    found = score(capsys, "qmsum", ours)
    assert found["score"] == 1.0 == found["results"]["qmsum"]["rougeL"], "stemmed, without case"
    assert found["results"]["qmsum"]["per_sample_rougeL"] == [["q1", 1.0]]
    published = write(tmp_path / "official.jsonl", official("They met.", ["they met."]))
    assert score(capsys, "qmsum", published)["results"].keys() == {"longbench/qmsum"}


def test_truthfulqa_by_two_scorers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"prediction": "the earth is round", "correct_answers": ["the earth is round"], "incorrect_answers": ["no"]}
    file = write(tmp_path / "f.jsonl", row)
    for scorer in ("rougeL", "bleu"):
        found = score(capsys, "truthfulqa", file, "--truthfulqa_scorer", scorer)
        assert found["score"] == 1.0
        assert found["results"]["truthfulqa"]["scorer"] == scorer
        assert found["rows"][0]["max_score"] == pytest.approx(1.0)


def test_truthfulqa_rows_without_their_answers_are_looked_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "questions.csv"
    data.write_text("Question,Best Answer,Correct Answers,Incorrect Answers\nQ?,Yes,Yes; Sure,No\n", encoding="utf-8")
    file = write(tmp_path / "f.jsonl", {"question": "Q?", "prediction": "Sure"})
    assert score(capsys, "truthfulqa", file, "--truthfulqa_file", str(data))["score"] == 1.0


@pytest.mark.parametrize(
    ("task", "line", "expected"),
    [
        ("hotpotqq", "{}", "did you mean 'hotpotqa'"),
        ("hotpotqa", "", "the file holds no line"),
        ("hotpotqa", '{"pred": }', "f.jsonl:1: not valid JSON"),
        ("hotpotqa", '{"answers": ["a"]}', "f.jsonl:1: the row has no 'pred' or 'prediction'; it has 'answers'"),
        ("hotpotqa", '{"pred": "a"}', "f.jsonl:1: the row has no 'answers'"),
        ("hotpotqa", '{"pred": 1, "answers": ["a"]}', "'pred' is '1', but it must be text"),
        ("trec", '{"pred": "a", "answers": ["a"], "all_classes": null}', "no 'all_classes'"),
        (
            "passage_retrieval_en",
            '{"pred": "1", "answers": ["one"]}',
            "f.jsonl:1: the reference 'one' names no paragraph",
        ),
        ("lcc", '{"pred": "a", "answers": ["a"], "dataset": "trec"}', "the row is of 'trec', but lcc is asked for"),
        ("longbench", '{"pred": "a", "answers": ["a"]}', "does not say its subset as 'dataset'"),
        ("truthfulqa", '{"prediction": "a"}', "the row has no 'question'"),
    ],
)
def test_mistakes_are_one_message(
    task: str, line: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "f.jsonl"
    file.write_text(line + "\n", encoding="utf-8")
    assert main(["score", "--task", task, "--predictions", str(file)]) == EXIT_USER
    captured = capsys.readouterr()
    assert expected in captured.err
    assert captured.out == ""
    assert "Traceback" not in captured.err


def test_a_file_that_is_not_there_and_a_flag_that_is_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["score", "--task", "lcc", "--predictions", str(tmp_path / "none.jsonl")]) == EXIT_USER
    assert "there is no such file" in capsys.readouterr().err
    assert main(["score", "--task", "lcc"]) == EXIT_USER
    assert "--predictions" in capsys.readouterr().err


def test_scoring_loads_no_model_library(tmp_path: Path) -> None:
    file = write(tmp_path / "lcc.jsonl", official("x", ["x"]))
    code = (
        "import sys; from sft.cli.main import main; "
        f"code = main(['score', '--task', 'lcc', '--predictions', {file!r}]); "
        "sys.exit(code or sorted({'torch', 'transformers', 'jieba', 'huggingface_hub'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
