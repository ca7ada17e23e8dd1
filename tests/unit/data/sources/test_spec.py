from __future__ import annotations

from pathlib import Path

import pytest

from sft.data.sources import SourceSpec, parse_sources
from sft.errors import ConfigError


def test_a_string_is_one_source_and_commas_make_several(tmp_path: Path):
    assert parse_sources("a.json") == [SourceSpec(path="a.json")]
    assert [spec.path for spec in parse_sources("a.json, b.json,")] == ["a.json", "b.json"]
    odd = tmp_path / "a,b.json"
    odd.write_text("[]")
    assert [spec.path for spec in parse_sources(str(odd))] == [str(odd)]
    assert [spec.path for spec in parse_sources(odd)] == [str(odd)]


def test_a_colon_names_a_subset_unless_a_file_has_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (spec,) = parse_sources("openai/gsm8k:main")
    assert (spec.path, spec.subset) == ("openai/gsm8k", "main")
    Path("odd:name.json").write_text("[]")
    assert parse_sources("odd:name.json")[0].path == "odd:name.json"
    assert parse_sources("C:/data.json")[0].path == "C:/data.json"


def test_an_entry_overrides_what_holds_for_all():
    general = {"split": "train", "revision": "v1", "format_type": "alpaca", "columns": {"prompt": "q", "response": "a"}}
    first, second = parse_sources(
        ["a.json", {"path": "b/c", "split": "dev", "format_type": "text", "columns": {"prompt": "p"}, "weight": "2e0"}],
        **general,
    )
    assert first == SourceSpec(path="a.json", **general)
    assert second == SourceSpec(
        path="b/c",
        split="dev",
        revision="v1",
        format_type="text",
        columns={"prompt": "p", "response": "a"},
        weight=2.0,
    )


def test_numbers_that_yaml_read_as_text_are_numbers():
    (spec,) = parse_sources([{"path": "a.json", "weight": "0.5", "limit": "1e3"}])
    assert (spec.weight, spec.limit) == (0.5, 1000)


@pytest.mark.parametrize(
    ("entry", "parts"),
    [
        ({"path": "a", "wieght": 2}, ["unknown key 'wieght'", "did you mean 'weight'"]),
        ({"weight": 2}, ["has no path"]),
        ({"path": "a", "weight": 0}, ["weight is 0", "above 0"]),
        ({"path": "a", "weight": float("inf")}, ["weight is inf"]),
        ({"path": "a", "weight": True}, ["weight is True"]),
        ({"path": "a", "limit": 0}, ["limit is 0", "from 1 on"]),
        ({"path": "a", "limit": 2.5}, ["limit is 2.5", "whole number"]),
        ({"path": "a", "sample": "few"}, ["sample is 'few'", "whole number"]),
        ({"path": "a", "sample": 3, "weight": 2}, ["sample and weight", "keep one"]),
        ({"path": "a", "only_columns": "yes"}, ["only_columns is 'yes'", "true or false"]),
        ({"path": "a", "role_names": ["bot"]}, ["role_names is ['bot']", "{bot: assistant}"]),
        ({"path": "a", "role_names": {"bot": "gpt"}}, ["'bot' cannot mean 'gpt'", "function_call"]),
        ({"path": "a", "role_key": 3}, ["role_key is 3", "text"]),
        ({"path": "a", "split": 3}, ["split is 3", "text"]),
        ({"path": "a", "format_type": "alpacca"}, ["did you mean 'alpaca'"]),
        ({"path": "a", "columns": ["q"]}, ["columns is ['q']", "{prompt: question}"]),
        ({"path": "a", "columns": {"promt": "q"}}, ["columns: unknown key 'promt'", "did you mean 'prompt'"]),
        ({"path": "a", "columns": {"prompt": 3}}, ["columns.prompt is 3"]),
        (7, ["is 7", "mapping with at least path"]),
    ],
)
def test_an_entry_that_cannot_be_meant_is_refused(entry: object, parts: list[str]):
    with pytest.raises(ConfigError) as caught:
        parse_sources([entry])
    assert str(caught.value).startswith("data_path")
    for part in parts:
        assert part in str(caught.value)


def test_all_wrong_entries_are_reported_together():
    with pytest.raises(ConfigError) as caught:
        parse_sources([{"path": "a", "weight": -1}, "fine.json", {"limit": 1}])
    assert len(caught.value.problems) == 2
    assert caught.value.problems[0].startswith("data_path[1].weight")
    assert caught.value.problems[1].startswith("data_path[3]")


@pytest.mark.parametrize("empty", ["", [], ","])
def test_no_source_at_all_is_refused(empty: object):
    with pytest.raises(ConfigError, match="data_path is empty"):
        parse_sources(empty)
