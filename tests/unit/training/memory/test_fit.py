"""Runs that cannot fit are refused before their model is loaded, with the smallest change that fits."""

from __future__ import annotations

import json
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from transformers.integrations import deepspeed as deepspeed_integration

import sft.training.memory.check as check
import sft.training.run as training
from sft.cli.main import main
from sft.cli.plan import read_size
from sft.config import SFTConfig
from sft.errors import ConfigError
from sft.export.memory import resident_memory
from sft.training.cpu_memory import is_glibc
from sft.training.memory.check import find_fit
from sft.training.memory.estimate import Unknown
from sft.training.memory.fit import Fit
from sft.training.memory.measured import REUSED, Before, MemoryWatch, describe_first_step, size_of_weights
from sft.training.memory.place import Place
from sft.training.memory.proposals import describe_proposals
from sft.training.record import read_record
from sft.training.strategy import AskedStrategy

ALONE = AskedStrategy("one process", 1)


def place(free: int, kind: str = "cpu") -> Place:
    return Place(kind, "a machine of the test", free, free)


def run_config(model: Path, data: Path, folder: Path, **more: Any) -> SFTConfig:
    return SFTConfig(
        model_name_or_path=str(model),
        data_path=str(data),
        output_dir=str(folder / "out"),
        cache_dir=str(folder / "cache"),
        max_length=128,
        max_steps=2,
        save_strategy="no",
        **more,
    )


def test_a_run_that_cannot_fit_is_refused_before_its_model_is_loaded(
    tiny_model_folder: Path, alpaca_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_args: object, **_more: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(check, "find_place", lambda: place(1_000_000))
    monkeypatch.setattr(training, "build_model", loaded)
    with pytest.raises(ConfigError) as caught:
        training.run_training(run_config(tiny_model_folder, alpaca_file, tmp_path))
    said = str(caught.value)
    assert "1.0 MB free" in said
    assert "--gradient_checkpointing true" in said
    assert "--memory_check warn" in said


def test_it_is_begun_all_the_same_where_that_is_asked_for(
    tiny_model_folder: Path,
    alpaca_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(check, "find_place", lambda: place(1_000_000))
    result = training.run_training(run_config(tiny_model_folder, alpaca_file, tmp_path, memory_check="warn"))
    assert "it is begun all the same" in capsys.readouterr().err
    memory = json.loads((result.output_dir / "run.json").read_text())["memory"]
    assert memory["fits"] is False
    assert memory["estimate"]["peak_bytes"] > 1_000_000
    assert {"first_step_measured_bytes", "run_measured_bytes"} <= set(memory)


def test_no_estimate_is_made_where_none_is_asked_for(
    tiny_model_folder: Path, alpaca_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "find_place", lambda: place(1))
    result = training.run_training(run_config(tiny_model_folder, alpaca_file, tmp_path, memory_check="off"))
    assert json.loads((result.output_dir / "run.json").read_text())["memory"] is None


def test_the_smallest_change_that_fits_comes_last_and_first_in_words(tiny_model_folder: Path) -> None:
    sizes = {"max_length": 256, "per_device_train_batch_size": 2, "keep_cpu_memory": False}
    config = SFTConfig(model_name_or_path=str(tiny_model_folder), **sizes)
    fit, none = find_fit(config, ALONE, place(10**12))
    assert (fit.fits, none) == (True, [])
    peak = fit.estimate.training_peak.total
    fit, found = find_fit(config, ALONE, place(peak - 1))
    assert [one.change for one in found] == [{"gradient_checkpointing": True}]
    assert found[-1].fits
    fit, found = find_fit(config, ALONE, place(found[-1].estimate.training_peak.total - 1))
    assert not found[0].fits
    assert found[-1].fits
    assert found[-1].change["gradient_accumulation_steps"] * found[-1].change["per_device_train_batch_size"] == 2 * 4
    assert describe_proposals(found).startswith(f"The smallest change that fits: {found[-1].describe()}")
    fit, found = find_fit(config, ALONE, place(10_000))
    assert not any(one.fits for one in found)
    assert describe_proposals(found).startswith("None of these is enough")


def test_weights_are_shared_out_where_nothing_else_fits_on_gpus(tiny_model_folder: Path) -> None:
    config = SFTConfig(model_name_or_path=str(tiny_model_folder), max_length=8, per_device_train_batch_size=1)
    _, found = find_fit(config, ALONE, place(10_000, "cuda"))
    assert [one.devices for one in found if one.devices] == [2, 4, 8, 16, 32, 64]


def test_doubt_is_left_before_a_run_is_refused(tiny_model_folder: Path) -> None:
    config = SFTConfig(model_name_or_path=str(tiny_model_folder), max_length=64)
    fit, _ = find_fit(config, ALONE, place(10**12))
    peak = fit.estimate.training_peak.total
    close = replace(fit, place=place(int(peak * 0.9)))
    assert (close.fits, close.is_impossible) == (False, False)
    assert replace(fit, place=place(int(peak * 0.8))).is_impossible
    assert replace(fit, place=Place("mps", "no figure", None, None)).fits


def test_fact_and_estimate_in_one_line(tiny_model_folder: Path) -> None:
    config = SFTConfig(model_name_or_path=str(tiny_model_folder), max_length=64, keep_cpu_memory=False)
    fit: Fit = find_fit(config, ALONE, place(10**12))[0]
    near = describe_first_step(fit.estimate.first_step, fit)
    assert "further off" not in near
    assert "From the second step on" in near
    assert "further off" in describe_first_step(2 * fit.estimate.first_step, fit)


def test_less_than_the_weights_is_no_measurement(tiny_model_folder: Path, tmp_path: Path) -> None:
    """A second run in one process fills what the first had freed: the process hardly grows."""
    config = SFTConfig(model_name_or_path=str(tiny_model_folder), max_length=64)
    said: list[str] = []
    watch = MemoryWatch(find_fit(config, ALONE, place(10**12))[0], Before.now(), tmp_path, said.append)
    model = torch.nn.Linear(1 << 12, 1 << 12)
    watch.gauge.read = lambda: size_of_weights(model) - 1  # type: ignore[method-assign]
    watch.on_step_end(None, None, None, model=model)  # type: ignore[arg-type]
    watch.on_train_end(None, None, None, model=model)  # type: ignore[arg-type]
    assert said == [REUSED]
    assert read_record(tmp_path) is None
    assert size_of_weights(model) == 4 * ((1 << 24) + (1 << 12))


def test_what_cannot_be_followed_is_unknown(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    quantised = {"quant_method": "gptq", "bits": 4}
    config = {"model_type": "llama", "num_hidden_layers": 1, "quantization_config": quantised}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(Unknown, match="saved by gptq"):
        find_fit(SFTConfig(model_name_or_path=str(folder), use_lora=True), ALONE, place(1))


def test_zero_3_is_estimated_where_every_process_builds_its_model_in_pieces(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers has the model of an estimate parted, too, once it knows of ZeRO-3: nothing was known then."""

    class Known:
        config: ClassVar = {"zero_optimization": {"stage": 3}}

        def is_zero3(self) -> bool:
            return True

    config = SFTConfig(model_name_or_path=str(tiny_model_folder), max_length=64, keep_cpu_memory=False)
    alone = find_fit(config, ALONE, place(10**12))[0].estimate.peak
    known = Known()
    monkeypatch.setattr(deepspeed_integration, "_hf_deepspeed_config_weak_ref", weakref.ref(known))
    strategy = AskedStrategy("ZeRO-3", 2)
    peak = find_fit(config, strategy, place(10**12))[0].estimate.peak
    assert deepspeed_integration._hf_deepspeed_config_weak_ref() is known
    assert peak.parts["weights"] == alone.parts["weights"] // 2
    assert peak.parts["sharing"] > alone.parts["weights"]


@pytest.mark.skipif(not is_glibc(), reason="another C library keeps what is freed in its own way")
def test_what_was_freed_before_a_model_is_loaded_is_not_held_against_it() -> None:
    """It was, and what came next used it again: a step seemed to take less than it did."""
    size, blocks = 100_000, []
    for _ in range(1000):
        blocks.append(np.ones(size, np.uint8))
    blocks = blocks[::20]  # the rest stays with the process, in holes between these
    held = resident_memory()
    assert held is not None
    assert held - Before.now().resident > 40_000_000


def test_plan_needs_no_data_and_no_weights(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_bytes((tiny_model_folder / "config.json").read_bytes())
    words = ["plan", "--memory_only", "--model_name_or_path", str(tmp_path), "--max_length", "64"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "4 rows of 64 tokens" in said
    assert "optimizer" in said
    assert main([*words, "--json", "--gpu_memory", "60MB"]) == 0
    memory = json.loads(capsys.readouterr().out)["memory"]
    assert memory["device"] == "cuda"
    assert set(memory["estimate"]["moments"]) == {"forward and backward", "the optimizer's step"}
    assert memory["fits"]


@pytest.mark.parametrize(("text", "size"), [("80GiB", 80 * 2**30), ("24 gb", 24 * 10**9), ("1.5MB", 1_500_000)])
def test_sizes(text: str, size: int) -> None:
    assert read_size(text) == size
    with pytest.raises(ConfigError, match="80GiB"):
        read_size("much")
