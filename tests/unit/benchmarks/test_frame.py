"""The frame of the benchmarks: turns, environments, results and the page made of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import page
import peers
import preparation
import pytest
import rounds
import sections
import training_step


def part(**measured: list[dict[str, Any]]) -> dict[str, Any]:
    where = {"date": "2026-01-01", "machine": "2 cores of a CPU", "about": {}}
    return where | {"measured": measured, "skipped": {}, "rounds": 1, "load_before_each": [0.1], "disagree": {}}


def test_turns_go_forth_and_back() -> None:
    seen: list[str] = []

    def measure(one: rounds.Contestant) -> dict[str, Any]:
        seen.append(one.name)
        return {"seconds": len(seen)}

    result = rounds.take_turns([rounds.Contestant(name) for name in "abc"], measure, rounds=2)
    assert "".join(seen) == "abccba"
    assert result["measured"]["a"] == [{"seconds": 1}, {"seconds": 6}]
    assert len(result["load_before_each"]) == 6


def test_one_that_fails_or_is_not_there_is_left_out_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = peers.Peer("no-such-environment", "X", ("x",))
    monkeypatch.setitem(peers.PEERS, "gone", gone)
    tried: list[str] = []

    def measure(one: rounds.Contestant) -> dict[str, Any]:
        tried.append(one.name)
        if one.name == "bad":
            raise rounds.ContestantError("exit code 1: no such thing")
        return {"seconds": 1.0}

    contestants = [rounds.Contestant("ours"), rounds.Contestant("bad"), rounds.Contestant("missing", "gone")]
    result = rounds.take_turns(contestants, measure, rounds=3)
    assert tried == ["ours", "bad", "ours", "ours"]
    assert list(result["measured"]) == ["ours"]
    assert result["skipped"]["bad"] == "exit code 1: no such thing"
    assert "python benchmarks/peers.py make no-such-environment" in result["skipped"]["missing"]


def test_a_measurement_is_the_last_line_of_a_process_of_its_own(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import json, os, sys\nprint('noise')\n"
        "print(json.dumps({'words': sys.argv[1:], 'offline': os.environ['HF_HUB_OFFLINE']}))\n"
    )
    found = rounds.run_alone(rounds.Contestant("one"), str(script), ["--steps", "2"])
    assert found == {"words": ["--measure", "one", "--steps", "2"], "offline": "1"}
    script.write_text("import sys\nsys.exit('the reason')\n")
    with pytest.raises(rounds.ContestantError, match=r"exit code 1: the reason"):
        rounds.run_alone(rounds.Contestant("one"), str(script), [])


def test_results_are_written_whole_and_name_no_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "RESULTS", tmp_path)
    new = {"measured": {"ours": [{"seconds": 1.0}]}, "skipped": {}, "rounds": 1, "load_before_each": []}
    rounds.publish("thing", about={"rows": 1}, parts={"A": new})
    rounds.publish("thing", about={"rows": 2}, parts={"B": new})
    found = rounds.read_result("thing")
    assert found is not None
    assert found["parts"]["A"]["measured"]["ours"] == [{"seconds": 1.0}]
    assert re.fullmatch(r"\d+ cores of an? .+, no GPU, Python [\d.]+", found["parts"]["A"]["machine"])
    assert {title: one["about"]["rows"] for title, one in found["parts"].items()} == {"A": 1, "B": 2}
    assert [file.name for file in tmp_path.iterdir()] == ["thing.json"]
    assert rounds.read_result("nothing") is None


@pytest.mark.parametrize("key", peers.PEERS)
def test_every_package_of_an_environment_is_pinned(key: str) -> None:
    lines = [line for line in peers.PEERS[key].listed.read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.!-]+", line) for line in lines)
    pinned = dict(line.lower().replace("_", "-").split("==") for line in lines)
    assert pinned["torch"] == "2.13.0"  # all contestants compute with the same
    assert peers.PEERS[key].packages[0] in pinned


def test_an_environment_made_from_another_list_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "ROOT", tmp_path)
    peer = peers.PEERS["llama-factory"]
    assert "no environment" in str(peer.problem())
    packages = peer.folder / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    peer.python.parent.mkdir()
    peer.python.touch()
    assert "not the one listed" in str(peer.problem())
    peer.finish()
    assert peer.problem() is None
    assert (packages / "torchaudio.py").read_text() == peers.TORCHAUDIO_STUB


def test_other_tokens_are_told() -> None:
    result = part(
        ours=[{"tokens": 100, "trained": 50}],
        TRL=[{"tokens": 100, "trained": 51}],
        **{"LLaMA-Factory": [{"tokens": 100, "trained": 60}]},  # ten rows, a line break each
    )
    assert preparation.disagreements(result, rows=10) == {"TRL": "100 tokens, 51 trained; ours 100 and 50"}


def test_another_first_loss_is_told() -> None:
    result = part(ours=[{"losses": [10.0]}], TRL=[{"losses": [10.05]}], axolotl=[{"losses": [9.0]}])
    assert training_step.first_losses(result) == {"axolotl": "first loss 9.000, ours 10.000"}


SECTION = sections.Section(
    "thing",
    "Thing",
    "Text.",
    "python benchmarks/thing.py",
    (sections.Column("rate", "rate", "{:.0f}"), sections.Column("gb", "GB", "{:.1f}")),
    more_is_better=True,
    goals=(
        sections.Goal("twice TRL", 2, sections.faster_than("A", ["TRL"], "rate")),
        sections.Goal("thrice TRL and X", 3, sections.faster_than("A", ["TRL", "X"], "rate")),
    ),
)


def test_a_table_has_medians_spread_and_ratios() -> None:
    one = part(
        ours=[{"rate": 40.0, "gb": 1.0}, {"rate": 60.0, "gb": 1.0}, {"rate": 50.0, "gb": 1.0}],
        TRL=[{"rate": 20.0, "gb": None}],
    )
    assert page.table(SECTION, one)[2:] == ["| ours | 50 (40 to 60) | 1.0 |  |", "| TRL | 20 | not measured | 2.5 |"]
    assert page.goals(SECTION, {"A": one})[2:4] == [
        "| twice TRL | 2.50 | yes |",
        "| thrice TRL and X | not measured |  |",
    ]


def test_a_result_tells_who_was_left_out_who_differs_and_how_busy_the_machine_was() -> None:
    one = part(ours=[{"rate": 1.0, "gb": 1.0, "versions": {"torch": "2.13"}}])
    one |= {"skipped": {"X": "no environment"}, "disagree": {"TRL": "other tokens"}, "load_before_each": [0.2, 7.0]}
    text = page.render_result(SECTION, {"parts": {"A": one}})
    assert "- X: left out, no environment" in text
    assert "- TRL: **computed something else**: other tokens" in text
    assert "Other work ran beside it" in text
    assert "ours: torch 2.13" in text


def test_the_page_is_what_the_results_say() -> None:
    """`python benchmarks/page.py` makes it; whoever commits a result commits the page."""
    assert page.PAGE.read_text(encoding="utf-8") == page.render_page().rstrip() + "\n"


def test_every_result_has_a_place_on_the_page() -> None:
    known = {section.name for section in sections.SECTIONS}
    for file in rounds.RESULTS.glob("*.json"):
        assert file.stem in known
        json.loads(file.read_text(encoding="utf-8"))
