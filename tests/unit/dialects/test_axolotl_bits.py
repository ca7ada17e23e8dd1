"""axolotl's ways to train for fewer bits, or in them."""

from __future__ import annotations

from typing import Any

import pytest

from sft.config import RawValue, SFTConfig
from sft.dialects import Translation, translate

SHORT: dict[str, Any] = {
    "base_model": "some/model",
    "datasets": [{"path": "rows.jsonl", "type": "alpaca"}],
    "learning_rate": "2e-4",
}


def read(**values: Any) -> Translation:
    return translate({key: RawValue(value, "train.yml:1") for key, value in {**SHORT, **values}.items()}, "axolotl")


def asked(**values: Any) -> dict[str, Any]:
    """The options of few bits that a file sets, as a configuration has them."""
    config = SFTConfig(**read(**values).accepted())
    names = [name for name in config.to_dict() if name.startswith(("qat_", "float8", "keep_zeros"))]
    return {name: getattr(config, name) for name in names if getattr(config, name)}


@pytest.mark.parametrize(
    ("qat", "ours"),
    [
        (
            {"activation_dtype": "int8", "weight_dtype": "int4", "group_size": 256, "fake_quant_after_n_steps": 1000},
            {"weight_dtype": "int4", "activation_dtype": "int8", "group_size": 256, "start_step": 1000},
        ),
        ({"activation_dtype": None}, {"weight_dtype": "int8"}),
        (
            {"weight_dtype": "nvfp4", "activation_dtype": "nvfp4", "group_size": 16},
            {"weight_dtype": "nvfp4", "activation_dtype": "nvfp4"},
        ),
        (
            {"weight_dtype": "float8_e4m3fn", "activation_dtype": "fp8", "group_size": 32},
            {"weight_dtype": "float8", "activation_dtype": "float8"},
        ),
        ({"weight_dtype": "int4", "quantize_embedding": True}, {"weight_dtype": "int4", "embedding": True}),
    ],
)
def test_rounding_while_training(qat: dict[str, Any], ours: dict[str, Any]) -> None:
    """The output head is rounded too, as torchao does unless it is told otherwise."""
    assert asked(qat=qat) == {"qat_output_head": True, **{f"qat_{name}": value for name, value in ours.items()}}
    notes = {note.key for note in read(qat=qat).notes}
    assert {f"qat.{name}" for name in qat} <= notes


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"qat": {"weight_dtype": "int3"}}, "qat.weight_dtype .* 'int3' is not known"),
        ({"qat": {"group": 3}}, "qat.group .* no such part"),
        ({"qat": True}, "is a mapping"),
        ({"peft": {"loftq_config": {"loftq_bits": 2}}, "adapter": "lora"}, "loftq_bits: 4"),
        ({"llmcompressor": {"recipe": {"s": {"m": {"SparseGPTModifier": {"sparsity": 0.5}}}}}}, "SparseGPTModifier"),
    ],
)
def test_what_is_not_known_is_refused_by_name(values: dict[str, Any], says: str) -> None:
    import re

    (problem,) = read(**values).problems()
    assert re.search(says, problem)


def test_other_ways() -> None:
    assert asked(fp8=True, fp8_enable_fsdp_float8_all_gather=True) == {"float8_training": True}
    assert asked(use_onebitllms=True) == {"qat_weight_dtype": "ternary", "qat_activation_dtype": "int8"}
    recipe = {"stage": {"modifiers": {"ConstantPruningModifier": {"targets": ["re:.*q_proj.weight"], "start": 0}}}}
    plugin = "axolotl.integrations.llm_compressor.LLMCompressorPlugin"
    sparse = {"recipe": recipe, "save_compressed": True}
    assert asked(plugins=[plugin], llmcompressor=sparse) == {"keep_zeros": True}
    assert asked(quantization={"weight_dtype": "int4"}, qat={}, fp8=False, use_onebitllms=None) == {}


def test_a_quadratic_warm_up_belongs_to_the_cosine() -> None:
    def shape(**values: Any) -> str:
        return SFTConfig(**read(**values).accepted()).warmup_shape

    assert shape(lr_quadratic_warmup=True) == "quadratic"
    assert shape(lr_quadratic_warmup=True, lr_scheduler="cosine", cosine_min_lr_ratio=0.1) == "quadratic"
    assert shape(lr_quadratic_warmup=True, lr_scheduler="linear") == "linear"
    assert shape(lr_quadratic_warmup=False) == "linear"
