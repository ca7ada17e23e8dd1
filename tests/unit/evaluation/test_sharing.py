from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft.evaluation.sharing import Ranks, share_out
from sft.generation.scripted import ScriptedEngine

WORKER = Path(__file__).with_name("sharing_worker.py")


@given(st.lists(st.integers(1, 5000), max_size=60), st.integers(1, 5))
def test_shares_hold_every_position_once_and_weigh_about_the_same(weights: list[int], size: int) -> None:
    shares = share_out(weights, size)
    assert len(shares) == size
    assert sorted(position for share in shares for position in share) == list(range(len(weights)))
    totals = [sum(weights[position] for position in share) for share in shares]
    assert max(totals) - min(totals) <= max(weights, default=0)
    assert all(share == sorted(share) for share in shares)


def test_one_process_needs_no_group_and_hears_its_own_exceptions() -> None:
    ranks = Ranks.current()
    assert (ranks.rank, ranks.size, ranks.is_first) == (0, 1, True)
    assert ranks.on_first(lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        ranks.gather(lambda: 1 // 0)


@pytest.fixture(scope="module")
def seen(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes saw."""
    folder = tmp_path_factory.mktemp("two")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(rank), str(folder), str(shared_data)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(said)
    return [json.loads((folder / f"seen{rank}.json").read_text()) for rank in range(2)]


def test_two_processes_share_the_rows_and_agree_with_one(
    seen: list[dict[str, Any]], shared_data: Path, tmp_path: Path
) -> None:
    evaluate = runpy.run_path(str(WORKER))["evaluate"]
    engine = ScriptedEngine(lambda prompt: f"It is {sum(map(ord, prompt)) % 89}.")
    alone = json.loads(json.dumps(evaluate(tmp_path, shared_data, engine)))
    first, second = (one["shared"] for one in seen)
    assert first["results"] == second["results"] == alone["results"]
    assert alone["asked"] == 14
    assert {first["asked"], second["asked"]} <= {6, 7, 8}
    assert first["asked"] + second["asked"] == 14


def test_only_the_first_writes_and_speaks(seen: list[dict[str, Any]]) -> None:
    first, second = (one["shared"] for one in seen)
    assert len(first["written"]) == 4
    assert second["written"] == []
    assert first["progress"] == [7, 7]
    assert second["progress"] is None
    assert [one["on_first"] for one in seen] == ["said by 0", "said by 0"]


def test_a_failure_on_one_process_is_a_failure_on_both(seen: list[dict[str, Any]]) -> None:
    first, second = (one["failures"] for one in seen)
    assert first == second
    assert first[:2] == [
        "GenerationError: process 1 of 2: RuntimeError: out of memory",
        "DataError: process 1 of 2: that is no prompt",
    ]
    assert first[2].startswith("GenerationError: process 0 of 2: FileExistsError")
