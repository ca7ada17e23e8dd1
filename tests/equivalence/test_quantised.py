"""A frozen base in 4 or 8 bits: trains, resumes, keeps its gradients, and how far a merge is from what was trained."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from sft.cli.loaded_model import load_for_use
from sft.cli.main import main
from sft.config import SFTConfig
from sft.errors import ExportError, ModelError
from sft.export.adapter import read_adapter
from sft.export.merge import merge_adapter
from sft.export.merge_result import MergeResult
from sft.export.prompts import BUILT_IN_PROMPTS
from sft.export.quantised import as_quantised, load_over_quantised, round_linear_layers
from sft.export.verify import compare_logits, compute_logits, encode_prompts
from sft.models.load import load_model
from sft.models.quantization import Quantization, quantization_of, read_quantization
from sft.training.record import read_record
from sft.training.run import assemble, run_training, train

QLORA: dict[str, Any] = {"use_lora": True, "lora_r": 4, "lora_alpha": 8, "load_in_4bit": True}
REENTRANT = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}}
# bitsandbytes says so once where there is no GPU, and goes on with the same arithmetic
pytestmark = pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU:UserWarning")


def quantised_weights(model: nn.Module) -> dict[str, Tensor]:
    few = (torch.uint8, torch.int8)
    return {name: value.data.clone() for name, value in model.named_parameters() if value.dtype in few}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="nf4"),
        pytest.param({"bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": False, "bf16": True}, id="fp4-bf16"),
        pytest.param({"load_in_4bit": False, "load_in_8bit": True, "optim": "paged_adamw_32bit"}, id="8bit-paged"),
        pytest.param(
            {"use_dora": True, **REENTRANT},
            id="dora-checkpointed",
        ),
    ],
)
def test_trains_only_the_adapter_and_resumes_bit_for_bit(
    changes: dict[str, Any], settings: dict[str, Any], tmp_path: Path, read_run: Callable[..., Any]
) -> None:
    config = SFTConfig(**{**settings, **QLORA, "max_steps": 4, "output_dir": str(tmp_path / "run"), **changes})
    run = assemble(config)
    before = quantised_weights(run.model)
    assert len(before) == 14, "seven linear layers in each of two decoder layers"
    result = train(run)
    after = quantised_weights(run.model)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    straight = read_run(tmp_path / "run")
    assert all(value.abs().max() > 0 for name, value in straight.weights.items() if "lora_B" in name)
    for folder in (result.saved.model, tmp_path / "run" / "checkpoint-2"):
        assert read_quantization(folder) == quantization_of(config)

    shutil.rmtree(tmp_path / "run" / "checkpoint-4")
    shutil.rmtree(result.saved.model)
    assert run_training(config).resumed_from == tmp_path / "run" / "checkpoint-2"
    resumed = read_run(tmp_path / "run")
    assert resumed.losses == straight.losses
    assert all(torch.equal(resumed.weights[name], value) for name, value in straight.weights.items())


def test_gradients_are_those_of_a_run_that_never_evaluates(train: Callable[..., Any], alpaca_file: Path) -> None:
    """bitsandbytes repacks 4-bit weights in the first pass without gradients, on CPUs with avx512_bf16."""
    same = {**QLORA, "lora_dropout": 0.0, "max_steps": 4, "bf16": True}  # a data loader that starts draws a number
    never = train("never", **same)
    often = train("often", **same, eval_data_path=str(alpaca_file), eval_strategy="steps", eval_steps=1)
    assert often.gradient_norms == never.gradient_norms
    assert min(often.gradient_norms) > 0
    assert all(torch.equal(often.weights[name], value) for name, value in never.weights.items())


@pytest.mark.parametrize("quantization", [Quantization(bits=4), Quantization(bits=4, kind="fp4", double=False)])
def test_rounded_weights_are_those_that_bitsandbytes_computes_with(
    tiny_model_folder: Path, quantization: Quantization
) -> None:
    held = load_model(str(tiny_model_folder), quantization=quantization)
    rounded = load_model(str(tiny_model_folder))
    round_linear_layers(rounded, quantization)
    expected = dict(held.dequantize().named_parameters())
    for name, weight in rounded.named_parameters():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=0)


def test_rounding_to_eight_bits_is_by_rows() -> None:
    weight = torch.tensor([[1.0, -0.5, 0.004], [0.0, 0.0, 0.0]])
    found = as_quantised(weight, Quantization(bits=8))
    torch.testing.assert_close(found, torch.tensor([[127, -64, 1], [0, 0, 0]]) / 127)


def as_merged(adapter: Path, folder: Path, base_weights: str, prompts: list[str] | None = None) -> MergeResult:
    """Merge in float32, and check by hand what the merge says of the model as it was trained."""
    result = merge_adapter(
        base_model=None,
        adapter_path=adapter,
        output_path=folder,
        dtype="float32",
        base_weights=base_weights,
        prompts=prompts,
    )
    found, base = read_adapter(str(adapter)), str(read_adapter(str(adapter)).base_model)
    encoded = encode_prompts(AutoTokenizer.from_pretrained(adapter), prompts or BUILT_IN_PROMPTS)
    quantization = read_quantization(adapter)
    assert quantization is not None
    trained = compute_logits(load_over_quantised(found, base, quantization), encoded)
    merged = compute_logits(AutoModelForCausalLM.from_pretrained(folder), encoded)
    by_hand = compare_logits(trained, merged)
    assert result.top1_agreement_as_trained == pytest.approx(by_hand.top1_agreement, abs=2e-3)
    return result


def test_a_merge_tells_how_far_it_is_from_what_was_trained(train: Callable[..., Any], tmp_path: Path) -> None:
    adapter = train("run", **QLORA, max_steps=4).folder / "final_model"
    full = as_merged(adapter, tmp_path / "full", "full")
    assert full.max_logit_difference is not None
    assert full.max_logit_difference <= 1e-4
    assert full.top1_agreement == 1.0, "over the weights in full, adapter and merge are one"
    rounded = as_merged(adapter, tmp_path / "rounded", "rounded")
    assert rounded.top1_agreement_as_trained is not None
    assert rounded.top1_agreement_as_trained >= 0.99
    assert ("on rounded base", f"{full.top1_agreement_as_trained:.2%}, as it was trained") in full.agreement()


@pytest.mark.parametrize(
    "options",
    [
        {"added_tokens": ["please"], "use_dora": True, "modules_to_save": ["norm"]},
        {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
    ],
)
def test_the_head_is_never_rounded(train: Callable[..., Any], tmp_path: Path, options: dict[str, Any]) -> None:
    """Whatever adapter is around it. The merge is compared with the adapter on weights that are rounded elsewhere."""
    adapter = train("run", **QLORA, **options, max_steps=2).folder / "final_model"
    merged = merge_adapter(
        base_model=None, adapter_path=adapter, output_path=tmp_path / "out", dtype="float32", base_weights="rounded"
    )
    assert merged.top1_agreement_as_trained == 1.0


def test_a_merge_of_the_real_model_keeps_what_was_trained(
    shared_data: Path, tmp_path: Path, read_run: Callable[..., Any]
) -> None:
    """Over real instructions. Of this model, 64 numbers wide, four bits keep little: over the weights in full the same
    adapter agrees at about three positions of four."""
    rows = json.loads((shared_data / "alpaca" / "alpaca_data.json").read_text(encoding="utf-8"))
    short = [row for row in rows if 0 < len(row["output"]) <= 60 and len(row["instruction"] + row["input"]) <= 60]
    data = tmp_path / "short.json"
    data.write_text(json.dumps(short[:200], indent=1), encoding="utf-8")
    result = run_training(
        SFTConfig(
            model_name_or_path=str(shared_data / "models" / "stories260K-hf"),
            data_path=str(data),
            cache_dir=str(tmp_path / "cache"),
            output_dir=str(tmp_path / "run"),
            max_length=256,
            max_steps=20,
            per_device_train_batch_size=8,
            learning_rate=5e-3,
            logging_steps=1,
            save_strategy="no",
            **QLORA,
        )
    )
    losses = read_run(tmp_path / "run").losses
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])
    prompts = [row["instruction"] for row in short[300:312]]
    rounded = as_merged(result.saved.model, tmp_path / "rounded", "rounded", prompts)
    assert rounded.top1_agreement_as_trained is not None
    assert rounded.top1_agreement_as_trained >= 0.99
    full = as_merged(result.saved.model, tmp_path / "full", "full", prompts)
    assert full.top1_agreement == 1.0
    assert full.top1_agreement_as_trained is not None
    assert 0.5 < full.top1_agreement_as_trained < rounded.top1_agreement_as_trained


def test_rounding_needs_to_know_how(train: Callable[..., Any], tmp_path: Path) -> None:
    adapter = train("run", use_lora=True, max_steps=1).folder / "final_model"
    with pytest.raises(ExportError, match="does not say that it was trained over a quantised base"):
        merge_adapter(base_model=None, adapter_path=adapter, output_path=tmp_path / "out", base_weights="rounded")
    with pytest.raises(ExportError, match="base_weights is 'four'"):
        merge_adapter(base_model=None, adapter_path=adapter, output_path=tmp_path / "out", base_weights="four")


def test_a_model_saved_in_four_bits_is_neither_trained_whole_nor_merged_into(
    train: Callable[..., Any], tiny_model_folder: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "saved"
    load_model(str(tiny_model_folder), quantization=Quantization(bits=4)).save_pretrained(saved)
    AutoTokenizer.from_pretrained(tiny_model_folder).save_pretrained(saved)
    with pytest.raises(ModelError, match="quantised weights cannot be trained"):
        train("full", model_name_or_path=str(saved))
    adapter = train("lora", model_name_or_path=str(saved), use_lora=True, max_steps=1).folder / "final_model"
    with pytest.raises(ExportError, match="is quantised"):
        merge_adapter(base_model=None, adapter_path=adapter, output_path=tmp_path / "out")


def test_the_run_says_how_it_trains(train: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    folder = train("run", **QLORA, use_rslora=True, loraplus_lr_ratio=8, neftune_noise_alpha=5, max_steps=1).folder
    method = "QLoRA r=4, NF4, double quantisation, rsLoRA, LoRA+ 8x, NEFTune alpha 5"
    assert method in capsys.readouterr().err
    record = read_record(folder)
    assert record is not None
    assert record["method"] == method


def test_an_adapter_answers_over_the_base_it_was_trained_over(
    train: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = train("run", **QLORA, bnb_4bit_quant_type="fp4", max_steps=4).folder / "final_model"
    found = read_adapter(str(adapter))
    model, _ = load_for_use(str(found.base_model), str(adapter), bits=4)
    trained = Quantization(bits=4, kind="fp4", rounded_from="float32")
    expected = load_over_quantised(found, str(found.base_model), trained)
    prompts = [[5, 60, 70, 80, 90]]
    torch.testing.assert_close(compute_logits(model, prompts), compute_logits(expected, prompts), rtol=0, atol=0)

    capsys.readouterr()
    asked = ["chat", "--model", str(adapter), "--prompt", "Count to 3", "--max_new_tokens", "4", "--json"]
    assert main([*asked, "--load_in_4bit"]) == 0
    assert json.loads(capsys.readouterr().out)["answer"]
    assert main([*asked, "--load_in_4bit", "--load_in_8bit"]) == 2
    assert "not allowed with" in capsys.readouterr().err


def test_without_bitsandbytes_a_merge_goes_on_and_the_rest_says_what_to_install(
    train: Callable[..., Any], tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = train("run", **QLORA, max_steps=1).folder / "final_model"
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *more: None if name == "bitsandbytes" else real(name, *more)
    )
    result = merge_adapter(base_model=None, adapter_path=adapter, output_path=tmp_path / "full", dtype="float32")
    assert result.top1_agreement == 1.0
    assert result.top1_agreement_as_trained is None
    assert any("bitsandbytes is not installed" in note for note in result.notes)
    with pytest.raises(ModelError, match=r"pip install \"sft-kit\[quantization\]\""):
        merge_adapter(base_model=None, adapter_path=adapter, output_path=tmp_path / "out", base_weights="rounded")
    with pytest.raises(ModelError, match="weights in 8 bits are held by bitsandbytes"):
        load_model(str(tiny_model_folder), quantization=Quantization(bits=8))
