"""Runs under rounding, in 8-bit floats, with zeros kept, and with a gentle warm-up."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sft.config import SFTConfig
from sft.errors import ConfigError, ModelError
from sft.models.qat import round_layers, rounding_of
from sft.training import fewer_bits
from sft.training.run import run_training

pytest.importorskip("torchao", reason="the extra torchao is not installed")

QAT = {"qat_weight_dtype": "int4", "qat_activation_dtype": "int8", "qat_group_size": 16}


def test_a_rounded_run_learns_is_recorded_and_leaves_a_plain_model(train: Callable[..., Any]) -> None:
    plain, rounded = train("plain"), train("rounded", **QAT)
    assert rounded.losses[-1] < 0.8 * rounded.losses[0]
    assert rounded.losses[0] != plain.losses[0]
    record = json.loads((rounded.folder / "run.json").read_text(encoding="utf-8"))
    assert record["rounding"]["weights"] == "int4"
    assert record["rounding"]["group_size"] == 16
    assert "rounded to int4 in groups of 16, inputs to int8" in record["method"]
    saved = AutoModelForCausalLM.from_pretrained(rounded.folder / "final_model")
    assert getattr(saved.config, "quantization_config", None) is None
    assert {type(module) for module in saved.modules() if isinstance(module, torch.nn.Linear)} == {torch.nn.Linear}
    card = (rounded.folder / "final_model" / "README.md").read_text(encoding="utf-8")
    assert "qat_weight_dtype" in card


def test_the_saved_model_quantised_by_torchao_is_the_one_that_was_trained(train: Callable[..., Any]) -> None:
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, PerGroup, quantize_

    folder = train("rounded", **QAT).folder / "final_model"
    ids = AutoTokenizer.from_pretrained(folder)("Count to 5, please", return_tensors="pt").input_ids
    trained, quantised = (AutoModelForCausalLM.from_pretrained(folder) for _ in range(2))
    rounding = rounding_of(SFTConfig(**QAT))
    assert rounding is not None
    round_layers(trained, rounding)
    config = Int8DynamicActivationIntxWeightConfig(weight_dtype=torch.int4, weight_granularity=PerGroup(16))
    quantize_(quantised, config, filter_fn=lambda m, name: isinstance(m, torch.nn.Linear) and name != "lm_head")
    with torch.no_grad():
        assert torch.allclose(trained(ids).logits, quantised(ids).logits, atol=1e-4)


def test_a_resumed_run_rounds_from_the_same_step_on(train: Callable[..., Any], settings: dict[str, Any]) -> None:
    """Before that step the losses are those of a plain run, but for logits that a rounded head makes whole."""
    late = {**QAT, "qat_start_step": 3, "qat_embedding": True, "qat_output_head": True}
    straight, plain = train("straight", **late), train("plain")
    assert straight.losses[:3] == pytest.approx(plain.losses[:3], rel=1e-5)
    assert abs(straight.losses[3] - plain.losses[3]) > 1e-3
    for step in (2, 4):
        folder = straight.folder.parent / f"from-{step}"
        values = {**settings, **late, "output_dir": str(folder)}
        run_training(SFTConfig(**values, resume_from_checkpoint=str(straight.folder / f"checkpoint-{step}")))
        resumed = AutoModelForCausalLM.from_pretrained(folder / "final_model").state_dict()
        assert all(torch.equal(resumed[name], weight) for name, weight in straight.weights.items())


def test_groups_are_checked_before_data_is_read(settings: dict[str, Any], tmp_path: Path) -> None:
    asked = {**settings, **QAT, "qat_group_size": 48, "data_path": str(tmp_path / "absent.json")}
    with pytest.raises(ModelError, match=r"groups of 48 weights .*\.q_proj \(32\)"):
        run_training(SFTConfig(**asked, output_dir=str(tmp_path / "run")))


def test_zeros_stay_where_they_were(
    train: Callable[..., Any], settings: dict[str, Any], tiny_model_folder: Path, tmp_path: Path
) -> None:
    """Two of four weights in a row, as 2:4 sparse models have them."""
    sparse = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    zeros = {}
    with torch.no_grad():
        for name, module in sparse.model.named_modules():
            if isinstance(module, torch.nn.Linear):
                fours = module.weight.view(-1, 4)
                fours.scatter_(1, fours.abs().argsort(dim=1)[:, :2], 0.0)
                zeros[f"model.{name}.weight"] = module.weight == 0
    folder = tmp_path / "sparse"
    sparse.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model_folder).save_pretrained(folder)
    kept = train("kept", model_name_or_path=str(folder), keep_zeros=True, weight_decay=0.1)
    filled = train("filled", model_name_or_path=str(folder), weight_decay=0.1)
    assert kept.losses[-1] < 0.9 * kept.losses[0]
    for name, mask in zeros.items():
        assert torch.equal(kept.weights[name] == 0, mask), name
        assert not bool((filled.weights[name][mask] == 0).all())
    with pytest.raises(ModelError, match="this model is not sparse"):
        train("dense", keep_zeros=True)


def test_float8_is_refused_without_such_a_gpu(settings: dict[str, Any], tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match=r"compute capability 8\.9 .* there is no CUDA GPU"):
        run_training(SFTConfig(**settings, float8_training=True, output_dir=str(tmp_path / "run")))


def test_products_in_float8_are_near_those_in_full(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    """Emulated: rounded to 8 bits, multiplied in full."""
    multiply = fewer_bits.multiply_in_float8
    monkeypatch.setattr(fewer_bits, "require_float8", lambda: None)
    monkeypatch.setattr(fewer_bits, "multiply_in_float8", lambda model: multiply(model, emulate=True))
    full, eight = train("full", learning_rate=1e-3), train("eight", learning_rate=1e-3, float8_training=True)
    assert full.losses != eight.losses
    assert eight.losses == pytest.approx(full.losses, rel=0.02)
    assert sorted(eight.weights) == sorted(full.weights)
    record = json.loads((eight.folder / "run.json").read_text(encoding="utf-8"))
    assert "products in 8-bit floats" in record["method"]


def test_a_quadratic_warm_up_is_the_square_of_the_share_done(
    train: Callable[..., Any], settings: dict[str, Any]
) -> None:
    from sft.training.metrics_file import read_metrics

    asked = {"warmup_steps": 4, "warmup_shape": "quadratic", "lr_scheduler_type": "cosine", "max_steps": 6}
    straight = train("straight", **asked)

    def rates(folder: Path) -> list[float]:
        return [line["learning_rate"] for line in read_metrics(folder / "metrics.jsonl") if "loss" in line]

    assert rates(straight.folder) == pytest.approx([1e-2 * share for share in (0, 1 / 16, 4 / 16, 9 / 16, 1, 0.5)])
    folder = straight.folder.parent / "resumed"
    values = {**settings, **asked, "output_dir": str(folder)}
    run_training(SFTConfig(**values, resume_from_checkpoint=str(straight.folder / "checkpoint-2")))
    assert rates(folder) == pytest.approx([1e-2 * share for share in (4 / 16, 9 / 16, 1, 0.5)])


@pytest.fixture
def wider_model(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """Wide enough that torchao holds its optimizer's states in few bits: from 4096 weights on."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "head_dim": 16}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    model = Qwen3ForCausalLM(Qwen3Config(vocab_size=len(tokenizer), **shape, **heads, tie_word_embeddings=True))
    folder = tmp_path / "wider"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def uncompiled() -> Iterator[None]:
    """torchao compiles a step of its optimizers, which takes a CPU longer than the test."""
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.mark.parametrize("optim", ["adamw_torch_8bit", "adamw_torch_4bit"])
def test_optimizers_of_torchao_learn_and_go_on(
    optim: str,
    train: Callable[..., Any],
    settings: dict[str, Any],
    wider_model: Path,
    uncompiled: None,
) -> None:
    asked = {"model_name_or_path": str(wider_model), "optim": optim, "learning_rate": 3e-3, "max_steps": 4}
    straight = train("straight", **asked)
    full = train("full", **{**asked, "optim": "adamw_torch"})
    assert straight.losses[-1] < 0.9 * straight.losses[0]
    assert straight.losses != full.losses
    assert straight.losses == pytest.approx(full.losses, rel=0.02)
    folder = straight.folder.parent / "resumed"
    values = {**settings, **asked, "output_dir": str(folder)}
    run_training(SFTConfig(**values, resume_from_checkpoint=str(straight.folder / "checkpoint-2")))
    resumed = AutoModelForCausalLM.from_pretrained(folder / "final_model").state_dict()
    assert all(torch.equal(resumed[name], weight) for name, weight in straight.weights.items())
