"""Other weights, other name."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sft.errors import GenerationError
from sft.generation.adapter_folder import LoraShape, read_adapter_folder, read_lora_shape
from sft.generation.sglang import SGLangDialect
from sft.generation.vllm import VLLMDialect

PLAIN = {
    "peft_type": "LORA",
    "r": 8,
    "lora_alpha": 16,
    "target_modules": ["v_proj", "q_proj"],
    "bias": "none",
    "use_dora": False,
    "modules_to_save": None,
    "rank_pattern": {},
}


def write_adapter(folder: Path, weights: bytes = b"weights", **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({**PLAIN, **config}))
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


def test_the_name_says_what_is_in_it(tmp_path: Path) -> None:
    one = read_adapter_folder(write_adapter(tmp_path / "a" / "step 50: best"))
    same = read_adapter_folder(write_adapter(tmp_path / "b" / "step 50: best"))
    other = read_adapter_folder(write_adapter(tmp_path / "c" / "step 50: best", b"Weights"))
    scaled = read_adapter_folder(write_adapter(tmp_path / "d" / "step 50: best", lora_alpha=32))
    assert one.name.startswith("step-50-best-")
    assert one.name == same.name
    assert len({one.name, other.name, scaled.name}) == 3


def test_a_folder_that_changed_is_noticed(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter")
    before = read_adapter_folder(folder)
    before.check_unchanged()
    write_adapter(folder, b"Weights")
    os.utime(folder / "adapter_model.safetensors", ns=(1, 1))
    with pytest.raises(GenerationError, match="has changed since it was loaded"):
        before.check_unchanged()
    assert read_adapter_folder(folder).name != before.name
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(GenerationError, match=r"no adapter at .*adapter_model.safetensors"):
        before.check_unchanged()


def test_what_is_no_adapter(tmp_path: Path) -> None:
    with pytest.raises(GenerationError, match=r"There is no adapter at .*nowhere: No such file"):
        read_adapter_folder(tmp_path / "nowhere")
    folder = write_adapter(tmp_path / "torn")
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(GenerationError, match="is no JSON"):
        read_adapter_folder(folder)


def test_the_shape_is_what_a_server_must_hold(tmp_path: Path) -> None:
    assert read_lora_shape(write_adapter(tmp_path / "plain")) == LoraShape(8, ("q_proj", "v_proj"))
    mixed = write_adapter(
        tmp_path / "mixed", rank_pattern={"v_proj": 32}, target_modules=["model.layers.0.mlp.up_proj", "v_proj"]
    )
    assert read_lora_shape(mixed) == LoraShape(32, ("up_proj", "v_proj"))
    assert read_lora_shape(write_adapter(tmp_path / "any", target_modules=".*proj")) == LoraShape(8, ())


@pytest.mark.parametrize(
    ("config", "sglang", "vllm"),
    [
        ({}, None, None),
        ({"use_rslora": True}, "use_rslora", None),
        ({"alpha_pattern": {"v_proj": 4}}, "alpha_pattern", None),
        ({"use_dora": True}, "use_dora", "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save", "modules_to_save"),
        ({"bias": "lora_only"}, "bias", "bias"),
        ({"peft_type": "IA3"}, "peft_type IA3", "peft_type IA3"),
    ],
)
def test_what_servers_cannot_do_is_refused_before(
    tmp_path: Path, config: dict[str, Any], sglang: str | None, vllm: str | None
) -> None:
    adapter = read_adapter_folder(write_adapter(tmp_path / "adapter", **config))
    assert SGLangDialect().refuses(adapter) == (sglang and f"SGLang has no {sglang}")
    assert VLLMDialect().refuses(adapter) == (vllm and f"vLLM has no {vllm}")
