"""What is counted without content, beside what the same model really holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM, AutoTokenizer

from sft.config import SFTConfig
from sft.training.build_model import build_model
from sft.training.memory.batch import imagined_batch
from sft.training.memory.counter import LiveBytes
from sft.training.memory.skeleton import build_skeleton, read_model_config, tensor_bytes
from sft.training.memory.trace import Conditions, Traced, trace_step, without_content

PLAIN = Conditions(tokenizer=None, strategy="one process", makes_logits=False, half_weights=None, on_accelerator=False)


def traced(model: Path, **options: Any) -> Traced:
    config = SFTConfig(model_name_or_path=str(model), max_length=64, per_device_train_batch_size=2, **options)
    batch = imagined_batch(config, batch_size=2)
    return trace_step(config, read_model_config(config), batch, None, PLAIN)


def saved_bytes(model: torch.nn.Module, ids: torch.Tensor) -> int:
    """Bytes that autograd keeps of a forward pass for the backward pass, weights and ids not counted."""
    own = {one.untyped_storage().data_ptr() for one in (*model.parameters(), *model.buffers(), ids)}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    assert torch.isfinite(loss)
    return sum(kept.values())


def test_what_is_alive_after_the_forward_pass_is_what_autograd_saved(tiny_model_folder: Path) -> None:
    real = AutoModelForCausalLM.from_pretrained(tiny_model_folder).train()
    ids = torch.zeros(2, 48, dtype=torch.long)
    with FakeTensorMode(allow_non_fake_inputs=True), LiveBytes() as counter:
        with counter.counting_as("weights"):
            empty = AutoModelForCausalLM.from_config(real.config).train()
        weights = counter.live["weights"]
        loss = empty(input_ids=ids, labels=ids, use_cache=False).loss
        alive = counter.live["activations"]
        del loss
    assert weights == sum(one.nbytes for one in {*real.parameters(), *real.buffers()})
    assert alive == pytest.approx(saved_bytes(real, ids), rel=0.1)  # and the loss's own steps
    assert counter.live["activations"] < alive / 10, "nothing is freed with the loss"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_lora": True, "lora_r": 4},
        {"use_lora": True, "bf16": True, "use_dora": True},
        {"trainable_layers": 1},
        {"use_lora": True, "modules_to_save": ["embed_tokens"], "target_modules": "all-linear"},
        {"use_lora": True, "load_in_4bit": True},
    ],
    ids=["full", "lora", "dora-bf16", "last-layer", "saved-embedding", "4bit"],
)
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks for it
def test_weights_are_those_of_the_loaded_model(tiny_model_folder: Path, options: dict[str, Any]) -> None:
    config = SFTConfig(model_name_or_path=str(tiny_model_folder), **options)
    if config.load_in_4bit:
        pytest.importorskip("bitsandbytes")
    real = build_model(config, AutoTokenizer.from_pretrained(tiny_model_folder))
    with without_content(on_accelerator=False):
        empty = build_skeleton(config, read_model_config(config), None, strategy="one process")
        shapes = {name: (tuple(one.shape), one.dtype) for name, one in empty.named_parameters() if one.requires_grad}
        size = tensor_bytes(empty)
    trained = {name: (tuple(one.shape), one.dtype) for name, one in real.named_parameters() if one.requires_grad}
    assert shapes == trained
    if not config.load_in_4bit:  # of which scales lie beside the weights, outside of the model's buffers
        assert size == tensor_bytes(real)
        return
    states = [one.quant_state for one in real.parameters() if hasattr(one, "quant_state")]
    scales = sum(s.absmax.nbytes + s.code.nbytes + (s.state2.absmax.nbytes + s.state2.code.nbytes) for s in states)
    assert size == pytest.approx(tensor_bytes(real) + scales, rel=0.1)


def test_gradients_are_those_of_a_real_step(tiny_model_folder: Path) -> None:
    real = AutoModelForCausalLM.from_pretrained(tiny_model_folder).train()
    ids = torch.zeros(2, 64, dtype=torch.long)
    real(input_ids=ids, labels=ids).loss.backward()
    assert traced(tiny_model_folder).gradients == sum(one.grad.nbytes for one in real.parameters())


def test_less_is_alive_with_checkpoints_adapters_and_half_precision(tiny_model_folder: Path) -> None:
    full = traced(tiny_model_folder)
    activations = full.step["activations"]
    checkpointed = traced(tiny_model_folder, gradient_checkpointing=True)
    assert checkpointed.step["activations"] < activations / 1.5
    assert traced(tiny_model_folder, bf16=True).step["activations"] < activations
    lora = traced(tiny_model_folder, use_lora=True)
    assert lora.gradients < full.gradients / 2
    assert sum(weight.bytes for weight in lora.trained) == lora.gradients


def test_slices_of_a_step_find_gradients_there(tiny_model_folder: Path) -> None:
    one, several = (traced(tiny_model_folder, gradient_accumulation_steps=number) for number in (1, 4))
    assert sum(several.step.values()) > sum(one.step.values())
    assert several.step["gradients"] == several.gradients


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "mixtral", "mamba2"])
def test_other_families_are_followed_too(family: str, tmp_path: Path) -> None:
    from transformers import AutoConfig

    shapes: dict[str, dict[str, int]] = {
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2},
        "gemma2": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 16},
        "mixtral": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_local_experts": 4},
        "mamba2": {"hidden_size": 32, "num_hidden_layers": 2, "num_heads": 4, "head_dim": 16, "n_groups": 2},
    }
    sizes = {"vocab_size": 64, **shapes[family]}
    if family in ("gemma2", "mixtral"):
        sizes |= {"intermediate_size": 64, "num_key_value_heads": 1}
    AutoConfig.for_model(family, **sizes).save_pretrained(tmp_path)
    found = traced(tmp_path)
    assert found.gradients == found.weights - _buffers(tmp_path)
    assert found.step["activations"] > 2 * 64 * 32 * 4


def _buffers(folder: Path) -> int:
    config = SFTConfig(model_name_or_path=str(folder))
    with FakeTensorMode():
        model = build_skeleton(config, read_model_config(config), None, strategy="one process")
        return sum(one.nbytes for one in model.buffers())
