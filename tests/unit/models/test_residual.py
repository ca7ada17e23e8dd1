"""PiSSA and OLoRA: what is saved fits the original weights, as PEFT's own conversion has it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from sft.errors import ExportError, ModelError
from sft.export.adapter import read_adapter
from sft.export.save import _save_adapter
from sft.generation.adapter_folder import read_lora_shape
from sft.models.adapters import add_adapter
from sft.models.load import load_model
from sft.models.residual import as_plain_lora
from sft.training.evaluation_setup import lora_shape

# PEFT's advice, and its use of a deprecated name; a run leaves both out
pytestmark = [
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*changes the base weights of the model:UserWarning"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


def started(folder: Path, start: str, **changes: Any) -> PeftModel:
    torch.manual_seed(0)
    options = {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": ["q_proj", "down_proj", "embed_tokens"], **changes}
    return add_adapter(load_model(str(folder)), start=start, **options)


def move(model: PeftModel) -> None:
    """Stand in for training."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn_like(parameter)


@pytest.mark.parametrize("use_rslora", [False, True])
@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora"])
def test_saved_as_peft_converts_it(tiny_model_folder: Path, tmp_path: Path, start: str, use_rslora: bool) -> None:
    targets = {"target_modules": ["q_proj", "down_proj"]}
    model = started(tiny_model_folder, start, use_rslora=use_rslora, **targets)
    model.peft_config["default"].init_lora_weights = True  # as PEFT's guide says, before the start is saved
    model.save_pretrained(tmp_path / "start")
    model.peft_config["default"].init_lora_weights = start
    move(model)
    _save_adapter(model, tmp_path / "ours", None, save_embeddings=False)
    assert model.peft_config["default"].r == 4, "the model in training stays as it is"
    model.save_pretrained(tmp_path / "theirs", path_initial_model_for_weight_conversion=str(tmp_path / "start"))

    ours, theirs = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("ours", "theirs"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    configs = [json.loads((tmp_path / name / "adapter_config.json").read_text()) for name in ("ours", "theirs")]
    assert configs[0]["r"] == 8
    for name in ("r", "lora_alpha", "use_rslora", "init_lora_weights"):
        assert configs[0][name] == configs[1][name]


@pytest.mark.parametrize("options", [{}, {"use_dora": True, "target_modules": ["q_proj"]}])
def test_saved_adapters_fit_the_original_weights(
    tiny_model_folder: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    model = started(tiny_model_folder, "pissa", **options)
    original = load_model(str(tiny_model_folder))
    ids = torch.tensor([[5, 60, 70, 80]])
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, original(ids).logits, rtol=0, atol=1e-5)
        move(model)
        _save_adapter(model, tmp_path / "saved", None, save_embeddings=False)
        fresh = PeftModel.from_pretrained(load_model(str(tiny_model_folder)), str(tmp_path / "saved"))
        torch.testing.assert_close(fresh(ids).logits, model(ids).logits, rtol=0, atol=1e-5)
        assert (model(ids).logits - original(ids).logits).abs().max() > 0.1


def test_an_adapter_that_leaves_the_weights_alone_is_saved_as_it_is(tiny_model_folder: Path) -> None:
    model = started(tiny_model_folder, "gaussian")
    with as_plain_lora(model, None) as weights:
        assert weights is None
        assert model.peft_config["default"].r == 4


def test_gathered_weights_are_converted_too(tiny_model_folder: Path) -> None:
    model = started(tiny_model_folder, "pissa")
    gathered = {name: value.clone() for name, value in model.state_dict().items() if "lora_" in name}
    with as_plain_lora(model, gathered) as weights:
        assert weights is not None
        a = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight"
        torch.testing.assert_close(weights[a], torch.cat([gathered[a], gathered[a]]))


def test_more_width_than_singular_vectors_is_refused(tiny_model_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"lora_r = 64 .* has only 32 singular vectors\. Set lora_r to 32"):
        started(tiny_model_folder, "pissa", r=64, target_modules=["q_proj"])


def test_an_adapter_saved_over_other_weights_is_not_trained_on(tiny_model_folder: Path, tmp_path: Path) -> None:
    started(tiny_model_folder, "pissa").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="saved over the weights that pissa leaves"):
        started(tiny_model_folder, "default", adapter_name_or_path=str(tmp_path))


def test_a_server_reserves_room_for_the_matrices_that_are_saved(tiny_model_folder: Path, tmp_path: Path) -> None:
    model = started(tiny_model_folder, "pissa")
    _save_adapter(model, tmp_path, None, save_embeddings=False)
    assert lora_shape(model) == read_lora_shape(tmp_path)
    assert lora_shape(started(tiny_model_folder, "default")).rank == 4


def test_an_adapter_whose_start_was_drawn_is_not_read(tiny_model_folder: Path, tmp_path: Path) -> None:
    started(tiny_model_folder, "pissa_niter_4").save_pretrained(tmp_path / "checkpoint")
    with pytest.raises(ExportError, match="the weights that pissa_niter_4 left at its start"):
        read_adapter(str(tmp_path / "checkpoint"))
    _save_adapter(started(tiny_model_folder, "pissa_niter_4"), tmp_path / "final", None, save_embeddings=False)
    assert read_adapter(str(tmp_path / "final")).config.r == 8
