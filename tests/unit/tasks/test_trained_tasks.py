"""Which rows the names in ``train_tasks`` mean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sft.config import SFTConfig
from sft.data.prepare import prepare
from sft.errors import DataError
from sft.models.tokenizer import load_tokenizer
from sft.training.task_data import open_train_tasks, task_rows


@pytest.fixture(autouse=True)
def no_places(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SFT_LONGBENCH_DIR", "SFT_QMSUM_DIR", "SFT_TRUTHFULQA_FILE"):
        monkeypatch.delenv(name, raising=False)


def names(**options: object) -> list[str]:
    return [task.name for task in open_train_tasks(SFTConfig(**options))]


def test_all_are_longbenchs_subsets_and_qmsums_own_rows_where_they_are_at_hand() -> None:
    """As the recipe's README says: LongBench's qmsum is asked, and would only be left out."""
    plain = names(train_tasks=["all"])
    assert len(plain) == len(set(plain)) == 21
    own = names(train_tasks=["all"], qmsum_dir="/meetings")
    (taken,), (given,) = set(plain) - set(own), set(own) - set(plain)
    assert "qmsum" in taken
    assert given == names(train_tasks=["qmsum"], qmsum_dir="/meetings")[0]
    assert len(own) == 21
    assert names(train_tasks=["all", "qmsum"], qmsum_dir="/meetings") == own


def test_without_its_folder_qmsum_is_that_of_longbench() -> None:
    assert names(train_tasks=["qmsum"]) != names(train_tasks=["qmsum"], qmsum_dir="/meetings")


def test_qmsum_that_is_asked_names_the_folder_of_its_training_rows(tiny_tokenizer_folder: Path, tmp_path: Path) -> None:
    """What was said was to train on other rows; that QMSum has some of its own, only the README said."""
    tokenizer = load_tokenizer(str(tiny_tokenizer_folder))
    row = {"_id": "1", "context": "A: we meet.", "input": "What is said?", "answers": ["They meet."]}
    (tmp_path / "qmsum.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    config = SFTConfig(
        longbench_dir=str(tmp_path), train_tasks=["qmsum"], eval_tasks=["qmsum"], cache_dir=str(tmp_path / "cache")
    )
    with pytest.raises(DataError, match=r"1 of 1 rows hold what eval_tasks will ask.*own training rows.*--qmsum_dir"):
        prepare(config, tokenizer, more=task_rows(config, tokenizer), quiet=True)
