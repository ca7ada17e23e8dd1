"""Which rows the names in ``train_tasks`` mean."""

from __future__ import annotations

import pytest

from sft.config import SFTConfig
from sft.training.task_data import open_train_tasks


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
