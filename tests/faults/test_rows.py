"""Ten thousand rows that are wrong in every way: none ends the program, each is found, and every token is counted."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from sft.config import SFTConfig
from sft.data.bad_rows import BAD_ROWS
from sft.data.conversations import read_conversations
from sft.data.prepare import PreparedPart, prepare
from sft.data.sources import parse_sources
from sft.errors import DataError

from .conftest import TRIALS, Case
from .fuzz import PlantedFile, spoiled_documents, write_all

SEED = 20
ROWS = 50 * TRIALS or 1_200
DOCUMENTS = 5 * TRIALS or 150


class Fuzzed:
    """The files, what the command said of them, and what was prepared."""

    def __init__(self, folder: Path, model: Path, overlong: str) -> None:
        self.files: list[PlantedFile] = write_all(folder / "data", SEED, ROWS)
        self.options: dict[str, Any] = {
            "model_name_or_path": str(model),
            "data_path": [file.name for file in self.files],
            "cache_dir": str(folder / "cache"),
            "output_dir": str(folder / "run"),
            "max_length": 256,
            "overlong": overlong,
            "max_bad_rows": 1_000_000,
        }
        (folder / "run.json").write_text(json.dumps(self.options))
        self.plan = subprocess.run(
            [sys.executable, "-m", "sft.cli.main", "plan", str(folder / "run.json"), "--json"],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=False,
        )

    def prepared(self) -> PreparedPart:
        """The same from the cache."""
        config = SFTConfig(**self.options)
        data = prepare(config, AutoTokenizer.from_pretrained(config.model_name_or_path), quiet=True)
        assert data.cache.hit
        return data.train


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Fuzzed:
    """What is too long is cut by whole exchanges; what cannot be cut is dropped."""
    return Fuzzed(tmp_path_factory.mktemp("fuzzed"), tiny_model_folder, "cut_start")


def test_every_bad_row_is_located_and_no_good_one_refused(fuzzed: Fuzzed, case: Callable[[str], Case]) -> None:
    assert fuzzed.plan.returncode == 0, fuzzed.plan.stderr[-3000:]
    assert "Traceback" not in fuzzed.plan.stderr
    part = fuzzed.prepared()
    taken = {(str(example.source.path), example.source.line) for example in part.examples}
    listed = [json.loads(line) for line in (part.examples.folder / BAD_ROWS).read_text().splitlines()]
    refused = {(row["file"], row["line"]): row for row in listed}
    assert len(refused) == len(listed) == part.report.rejected.total()
    assert all(row["reason"] for row in listed)
    found = {must: case(f"a row that is {must}") for must in ("good", "bad", "either", "long")}
    for file in fuzzed.files:
        for line, row in file.rows.items():
            place = (file.name, line)
            fates = {"good": place in taken, "bad": place in refused, "either": place in taken or place in refused}
            fates["long"] = place not in refused
            once = not (place in taken and place in refused)
            found[row.must].note(fates[row.must] and once, f"{place} {row.what}: {refused.get(place)}")


def test_rows_and_tokens_are_conserved(fuzzed: Fuzzed, case: Callable[[str], Case]) -> None:
    part, counts = fuzzed.prepared(), json.loads(fuzzed.plan.stdout)
    report, conserved = part.report, case("rows and tokens conserved")
    planted = sum(len(file.rows) for file in fuzzed.files)
    conserved.note(report.rows == planted == counts["rows"], f"{report.rows} of {planted} rows")
    assert not report.split
    rows = report.examples + report.rejected.total() + report.dropped.total()
    conserved.note(rows == report.rows, f"{rows} of {report.rows}: {report}")
    conserved.note(report.rendered == report.examples + report.dropped.total(), report.rendered)
    trained = sum(example.num_trained_tokens for example in part.examples)
    masked = sum(len(example) for example in part.examples) - trained
    tokens = trained + masked + report.cut_tokens + report.dropped_tokens.total()
    conserved.note(tokens == report.rendered_tokens == counts["rendered_tokens"], f"{tokens}: {report.rendered_tokens}")
    conserved.note(bool(report.dropped) and report.dropped_tokens.keys() == report.dropped.keys(), report.dropped)
    conserved.note(report.cut > 0 and report.cut_tokens > 0, report)


def test_good_rows_are_what_the_chat_template_writes(fuzzed: Fuzzed, case: Callable[[str], Case]) -> None:
    """transformers counts the same tokens, in all rows without texts of control tokens."""
    part, equal = fuzzed.prepared(), case("tokens of a good row as transformers has them")
    tokenizer = AutoTokenizer.from_pretrained(fuzzed.options["model_name_or_path"])
    lengths = {(example.source.path, example.source.line): example.input_ids.tolist() for example in part.examples}
    for line, row in fuzzed.files[0].rows.items():
        if row.what == "nothing" and b"<|" not in row.text:
            turns = json.loads(row.text)["messages"]
            ids = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)
            equal.note(lengths[fuzzed.files[0].name, line] == list(ids), f"line {line}")


def test_nothing_that_rows_say_is_said_again(fuzzed: Fuzzed) -> None:
    part = fuzzed.prepared()
    said = fuzzed.plan.stderr + fuzzed.plan.stdout + (part.examples.folder / BAD_ROWS).read_text()
    assert not re.search(r"capital of|poem about|obey|\x1b", said)


def test_documents_with_a_broken_structure_are_refused_with_their_place(
    case: Callable[[str], Case], tmp_path: Path
) -> None:
    broken = case("a document whose structure is broken")
    for path in spoiled_documents(tmp_path / "documents", SEED, DOCUMENTS):
        try:
            read_conversations(parse_sources([str(path)]), max_bad_rows=100)
        except DataError as error:
            broken.note(str(path) in str(error), error)
        except Exception:
            broken.note(False, f"{path}: {traceback.format_exc()[-1500:]}")
        else:
            broken.note(True)  # the change did no harm, or a row of it was refused
        path.unlink()


def test_too_many_bad_rows_are_listed_where_the_message_says(fuzzed: Fuzzed, tmp_path: Path) -> None:
    config = SFTConfig(**{**fuzzed.options, "max_bad_rows": 3, "output_dir": str(tmp_path)})
    tokenizer = AutoTokenizer.from_pretrained(config.model_name_or_path)
    with pytest.raises(DataError, match=rf"are listed in {tmp_path}/{BAD_ROWS}") as caught:
        prepare(config, tokenizer, quiet=True)
    assert len(str(caught.value)) < 5_000
    listed = (tmp_path / BAD_ROWS).read_text().splitlines()
    must = [row for file in fuzzed.files for row in file.rows.values() if row.must == "bad"]
    assert len(listed) >= 0.9 * len(must)  # rows that cannot be read; those that cannot be rendered come later
