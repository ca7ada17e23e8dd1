"""A source that cannot be had is told under the option, the line and the key where it was named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sft.cli.options import config_from_words
from sft.config import SFTConfig, load_config
from sft.data.fingerprints import fingerprints
from sft.data.readings import open_readings, specs_of
from sft.data.sources import fingerprint_source
from sft.errors import DataError


@pytest.fixture
def tokenizer(tiny_tokenizer_folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_tokenizer_folder)


def test_held_out_data_are_not_called_training_data(tmp_path: Path, tokenizer: Any, alpaca_file: Path) -> None:
    config = SFTConfig(data_path=str(alpaca_file), eval_data_path=str(tmp_path / "evall.json"))
    with pytest.raises(DataError, match=r"^eval_data_path '.*evall\.json': no such file\."):
        fingerprints(config, tokenizer)
    with pytest.raises(DataError, match=r"^eval_data_path '.*evall\.json': no such file\."):
        next(iter(open_readings(config)["eval"].lanes))


def test_the_line_of_a_file_is_told(tmp_path: Path, tokenizer: Any) -> None:
    (tmp_path / "run.yaml").write_text(f"use_lora: true\ndata_path: {tmp_path}/trian.jsonl\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"^data_path \(.*run\.yaml:2\) '.*trian\.jsonl': no such file"):
        fingerprints(load_config(tmp_path / "run.yaml"), tokenizer)


def test_the_key_of_another_program_is_told(tmp_path: Path, tokenizer: Any) -> None:
    values = {"output_dir": "o", "model_name_or_path": "m", "max_seq_length": 8, "train_mode": "full"}
    path = tmp_path / "args.json"
    path.write_text(json.dumps({**values, "train_file": f"{tmp_path}/trian.jsonl"}, indent=1), encoding="utf-8")
    with pytest.raises(DataError, match=r"^data_path \(.*args\.json:6 \(train_file\)\) '.*trian\.jsonl': no such file"):
        fingerprints(config_from_words([str(path)], "firefly_args"), tokenizer)


def test_where_it_was_named_changes_nothing_of_the_data(tmp_path: Path, alpaca_file: Path) -> None:
    """Else prepared data would be prepared again for the same file named elsewhere."""
    (tmp_path / "run.yaml").write_text(f"data_path: {alpaca_file}\n", encoding="utf-8")
    here, there = SFTConfig(data_path=str(alpaca_file)), load_config(tmp_path / "run.yaml")
    one, other = (specs_of(config, config.data_path)[0] for config in (here, there))
    assert (one.option, other.option) == ("data_path", f"data_path ({tmp_path / 'run.yaml'}:1)")
    assert fingerprint_source(one) == fingerprint_source(other)
