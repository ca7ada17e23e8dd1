"""Which layers, rows and weights are trained: what is chosen, and what is refused with what there is instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from sft.config import SFTConfig
from sft.errors import ConfigError, ModelError
from sft.models.load import load_model
from sft.training.build_model import build_model, refuse_eight_bits_in_pieces, refuse_rows_in_pieces

# PEFT's advice on tied embeddings, and its use of a deprecated name; a run leaves both out
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
]

Build = Callable[..., PreTrainedModel]


@pytest.fixture
def build(tiny_model_folder: Path) -> Build:
    """A model as a run would train it."""

    def one(**options: Any) -> PreTrainedModel:
        given = options.pop("tokens", [])
        tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
        tokenizer.add_tokens([*given, *options.get("added_tokens", [])])
        return build_model(SFTConfig(model_name_or_path=str(tiny_model_folder), **options), tokenizer)

    return one


def trained(model: PreTrainedModel) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


def adapted(model: PreTrainedModel) -> set[str]:
    """Layers with LoRA matrices."""
    parts = (name.removeprefix("base_model.model.model.layers.").partition(".lora_")[0] for name in trained(model))
    return {part.replace("self_attn.", "").replace("mlp.", "") for part in parts}


@pytest.mark.parametrize(
    ("options", "layers"),
    [
        ({"trainable_layers": 2}, {"0", "1"}),
        ({"trainable_layers": 1}, {"1"}),
        ({"trainable_layers": -1}, {"0"}),
        ({"trainable_layers": 0, "trainable_modules": [r"layers\.0\."]}, {"0"}),
    ],
)
def test_layers_that_are_trained(build: Build, options: dict[str, Any], layers: set[str]) -> None:
    model = build(**options)
    expected = {name for name, _ in model.named_parameters() if name.split(".")[1:3] in [["layers", n] for n in layers]}
    assert trained(model) == expected


def test_a_tied_weight_goes_by_both_its_names(build: Build) -> None:
    assert trained(build(trainable_modules=["lm_head"])) == {"model.embed_tokens.weight"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"trainable_layers": 3}, r"trainable_layers = 3, but the model has 2 decoder layers \(model\.layers\)"),
        ({"trainable_layers": -3}, "has 2 decoder layers"),
        ({"trainable_modules": ["query"]}, "'query' is found in no weight's name.*model.embed_tokens.weight"),
        ({"trainable_modules": ["mlp("]}, "is no regular expression"),
    ],
)
def test_layers_that_are_not_there(build: Build, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        build(**options)


ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
ALL = ATTENTION | {"gate_proj", "up_proj", "down_proj"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {f"{n}.{name}" for n in (0, 1) for name in ALL}),
        ({"target_modules": "all-linear"}, {f"{n}.{name}" for n in (0, 1) for name in ALL}),
        ({"target_modules": ["q_proj"]}, {"0.q_proj", "1.q_proj"}),
        ({"target_modules": ["layers.1.self_attn.q_proj"]}, {"1.q_proj"}),
        ({"target_modules": r".*\.1\.mlp\.(up|down)_proj"}, {"1.up_proj", "1.down_proj"}),
        ({"exclude_modules": ["q_proj"]}, {f"{n}.{name}" for n in (0, 1) for name in ALL - {"q_proj"}}),
        ({"exclude_modules": r".*mlp.*"}, {f"{n}.{m}" for n in (0, 1) for m in ATTENTION}),
        ({"layers_to_transform": [1]}, {f"1.{name}" for name in ALL}),
        ({"target_modules": "all-linear", "layers_to_transform": [0]}, {f"0.{name}" for name in ALL}),
        ({"target_modules": r".*q_proj", "layers_to_transform": [0]}, {"0.q_proj"}),
    ],
)  # fmt: skip
def test_layers_that_get_an_adapter(build: Build, options: dict[str, Any], expected: set[str]) -> None:
    assert adapted(build(use_lora=True, **options)) == expected


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"target_modules": ["query"]}, "target_modules: query not found in the model. Its linear layers: down_proj"),
        ({"target_modules": ".*query"}, r"'\.\*query' matches no layer of the model"),
        ({"target_modules": "(q_proj"}, "is no regular expression"),
        ({"exclude_modules": ["query"]}, "exclude_modules: query not found in the model"),
        ({"layers_to_transform": [1, 2]}, r"the model has no layer 2\. Its layers \(model\.layers\) go from 0 to 1"),
        ({"target_modules": r".*\.0\.mlp\..*", "layers_to_transform": [1]}, "matches nothing in the layers"),
        ({"target_modules": ["q_proj"], "exclude_modules": ["q_proj"]}, "cannot add the adapter"),
    ],
)
def test_layers_that_cannot_get_one(build: Build, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        build(use_lora=True, **options)


def test_rows_of_added_tokens_are_trained_alone(build: Build) -> None:
    model = build(use_lora=True, added_tokens=["<call>", "assistant"])
    rows = [name for name in trained(model) if "lora_" not in name]
    assert rows == ["base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta.default"]
    assert model.get_parameter(rows[0]).shape == (2, 32)


def test_tokens_without_rows_are_named(build: Build) -> None:
    with pytest.raises(ModelError, match=r"1 tokens .*\(<other>\).*--modules_to_save embed_tokens lm_head"):
        build(use_lora=True, added_tokens=["<call>"], tokens=["<other>"])
    whole = build(use_lora=True, tokens=["<other>"], modules_to_save=["embed_tokens", "lm_head"])
    assert whole.get_input_embeddings().weight.shape[0] == 351


def test_rows_that_an_output_layer_with_a_bias_would_lose(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_bias(*given: Any, **options: Any) -> PreTrainedModel:
        model = load_model(*given, **options)
        model.lm_head.bias = torch.nn.Parameter(torch.zeros(350))
        return model

    monkeypatch.setattr("sft.training.build_model.load_model", with_bias)
    with pytest.raises(ModelError, match=r"lm_head has a bias.*--modules_to_save embed_tokens lm_head"):
        build(use_lora=True, added_tokens=["assistant"])


@pytest.mark.parametrize(
    ("strategy", "on_cpu", "refused"),
    [
        ("DDP", True, False),
        ("ZeRO-2", True, False),
        ("ZeRO-3", False, False),
        ("ZeRO-3", True, True),
        ("FSDP2", False, True),
    ],
)
def test_rows_that_cannot_be_sharded(tiny_model_folder: Path, strategy: str, on_cpu: bool, refused: bool) -> None:
    model = load_model(str(tiny_model_folder))
    if not refused:
        refuse_rows_in_pieces(model, strategy, on_cpu=on_cpu)
        return
    with pytest.raises(ConfigError, match=f"added_tokens under {strategy}: .* Use DDP or DeepSpeed ZeRO-2"):
        refuse_rows_in_pieces(model, strategy, on_cpu=on_cpu)


def test_eight_bits_that_cannot_be_sharded() -> None:
    config = SFTConfig(use_lora=True, load_in_8bit=True)
    refuse_eight_bits_in_pieces(config, "ZeRO-3")
    refuse_eight_bits_in_pieces(SFTConfig(use_lora=True, load_in_4bit=True), "FSDP2")
    with pytest.raises(ConfigError, match="load_in_8bit = true under FSDP2"):
        refuse_eight_bits_in_pieces(config, "FSDP2")


def test_a_quantised_model_stays_on_the_cpu_where_that_was_asked(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    real = AutoModelForCausalLM.from_pretrained

    def look(*given: Any, **options: Any) -> Any:
        asked.append(options.get("device_map"))
        return real(*given, **options)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", look)
    build(use_lora=True, load_in_4bit=True, use_cpu=True)
    build(use_lora=True, load_in_4bit=True)
    assert asked == [{"": "cpu"}, None], "None: transformers takes this process's device"
