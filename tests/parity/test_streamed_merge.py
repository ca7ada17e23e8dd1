"""The merge from file to file writes what a merge of the whole model in memory by PEFT and transformers writes."""

from __future__ import annotations

import gc
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from sft.errors import ExportError, UserError
from sft.export import merge_ways
from sft.export.merge import MergeResult, merge_adapter
from sft.export.shards import ShardWriter
from sft.export.streamed import CannotStreamError

VOCABULARY = 352
PROMPTS = ["Once upon a time, in a village by the sea", "1 + 1 = 2, 2 + 2 ="]
SHAPE = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "initializer_range": 0.2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64}
STATE = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8, "mamba_chunk_size": 8}

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {**SHAPE, **HEADS}),
    "qwen3": ("Qwen3", {**SHAPE, **HEADS, "head_dim": 8, "tie_word_embeddings": True}),
    "gemma2": ("Gemma2", {**SHAPE, **HEADS, "head_dim": 8, "query_pre_attn_scalar": 8}),
    "gemma3": ("Gemma3Text", {**SHAPE, **HEADS, "head_dim": 8, "query_pre_attn_scalar": 8}),
    "bloom": ("Bloom", {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 2}),
    "gpt2": ("GPT2", {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 256}),
    "mamba": ("Mamba", {**SHAPE, "state_size": 4}),
    "mamba2": ("Mamba2", {**SHAPE, "state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 2, "chunk_size": 8}),
    "hybrid": (
        "GraniteMoeHybrid",
        {**SHAPE, **HEADS, **STATE, "mamba_expand": 2, "layer_types": ["mamba", "attention"], "num_local_experts": 0,
         "num_experts_per_tok": 0, "shared_intermediate_size": 64, "position_embedding_type": "rope"},
    ),
    "mixtral": ("Mixtral", {**SHAPE, **HEADS, "num_local_experts": 2}),
}  # fmt: skip


def class_of(name: str) -> Any:
    return getattr(transformers, "GPT2LMHeadModel" if name == "GPT2" else f"{name.removesuffix('Text')}ForCausalLM")


def make_base(family: str, folder: Path, tokenizer: Path, max_shard_size: str = "40KB", **changes: Any) -> Path:
    name, shape = MODELS[family]
    torch.manual_seed(7)
    config = getattr(transformers, f"{name}Config")(**{**shape, "eos_token_id": 2, "bos_token_id": None, **changes})
    model = class_of(name)(config)
    model.generation_config.max_new_tokens = 77
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    return folder


def make_adapter(base: Path, folder: Path, **options: Any) -> Any:
    """An adapter whose weights are all far from their start, as PEFT saves it."""
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **options)).eval()
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data += torch.randn_like(parameter) * 0.05
        adapted.save_pretrained(folder)
    return adapted


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}


def merge_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Path:
    """The other way: PEFT merges the whole model, transformers saves it."""

    def refuse(*_: Any, **__: Any) -> None:
        raise CannotStreamError("the test asks for it")

    with monkeypatch.context() as patch:
        patch.setattr(merge_ways, "plan_streamed_merge", refuse)
        patch.setattr(merge_ways, "compute_logits", lambda *_: [torch.zeros(1, 2)])  # tensors are compared instead
        result = merge_adapter(
            base_model=None,
            adapter_path=tmp_path / "adapter",
            output_path=tmp_path / "in memory",
            prompts=PROMPTS,
            **options,
        )
    assert "because the test asks for it" in result.notes[-1]
    return result.path


def merge_streamed(tmp_path: Path, **options: Any) -> MergeResult:
    result = merge_adapter(
        base_model=None,
        adapter_path=tmp_path / "adapter",
        output_path=tmp_path / "streamed",
        prompts=PROMPTS,
        **options,
    )
    assert not any("in memory" in note for note in result.notes)
    return result


ALL = {"target_modules": "all-linear"}
TARGETS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, all layers": ("llama", ALL),
    "llama, trained biases": ("llama", {"target_modules": ["q_proj"], "bias": "all"}),
    "qwen3, tied, embedding": ("qwen3", {"target_modules": ["q_proj", "embed_tokens"]}),
    "qwen3, dora": ("qwen3", {"target_modules": ["q_proj", "down_proj"], "use_dora": True}),
    "gemma2, tied": ("gemma2", {**ALL, "use_rslora": True}),
    "gemma3, scaled embedding": ("gemma3", {"target_modules": ["embed_tokens", "q_proj"]}),
    "bloom": ("bloom", {"target_modules": ["query_key_value", "dense_h_to_4h"], "modules_to_save": ["ln_f"]}),
    "bloom, trained biases": ("bloom", {"target_modules": ["query_key_value"], "bias": "lora_only"}),
    "bloom, lora biases": ("bloom", {"target_modules": ["query_key_value"], "lora_bias": True}),
    "gpt2, transposed": ("gpt2", {"target_modules": ["c_attn", "c_proj", "wte"], "fan_in_fan_out": True}),
    "mamba": ("mamba", {"target_modules": ["in_proj", "x_proj"]}),
    "mamba, tied, embedding": ("mamba", {"target_modules": ["in_proj", "x_proj", "embeddings"]}),
    "mamba2": ("mamba2", {"target_modules": ["in_proj", "embeddings"]}),
    "hybrid": ("hybrid", ALL),
    "mixtral, attention": ("mixtral", {"target_modules": ["q_proj", "o_proj"]}),
    "mixtral, experts that lie one by one on disk": (
        "mixtral",
        {"target_modules": [], "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]},
    ),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_streamed_equals_the_merge_in_memory(
    tiny_tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    family, options = TARGETS[kind]
    base = make_base(family, tmp_path / "base", tiny_tokenizer_folder)
    make_adapter(base, tmp_path / "adapter", **options)
    result = merge_streamed(tmp_path, max_shard_size="30KB")
    theirs = merge_in_memory(tmp_path, monkeypatch)
    expected, found = weights_of(theirs), weights_of(result.path)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)  # bit for bit
    changed = [name for name, tensor in weights_of(base).items() if not torch.equal(tensor, found[name])]
    assert changed
    assert result.max_logit_difference is not None
    assert result.max_logit_difference <= 1e-4
    assert result.num_layers > 0
    assert result.max_layer_difference is not None
    assert result.max_layer_difference < 1e-5
    for name in ("config.json", "generation_config.json"):
        assert json.loads((result.path / name).read_text()) == json.loads((theirs / name).read_text())


def test_files_and_index_are_as_transformers_writes_them(tiny_tokenizer_folder: Path, tmp_path: Path) -> None:
    base = make_base("llama", tmp_path / "base", tiny_tokenizer_folder)
    make_adapter(base, tmp_path / "adapter", **ALL)
    result = merge_streamed(tmp_path, max_shard_size="30KB")
    files = sorted(path.name for path in result.path.glob("*.safetensors"))
    assert len(files) > 3
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    index = json.loads((result.path / "model.safetensors.index.json").read_text())
    merged = weights_of(result.path)
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in merged.values())
    assert index["metadata"]["total_parameters"] == sum(tensor.numel() for tensor in merged.values())
    assert index["weight_map"].keys() == merged.keys()
    for name, file in index["weight_map"].items():
        assert name in load_file(result.path / file)
    largest = max((result.path / file).stat().st_size for file in files)
    assert result.largest_file == largest
    assert all(
        len(load_file(result.path / file)) == 1 or (result.path / file).stat().st_size < 35_000 for file in files
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_rounding_is_that_of_the_merge_in_memory(
    tiny_tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    base = make_base("qwen3", tmp_path / "base", tiny_tokenizer_folder)
    make_adapter(base, tmp_path / "adapter", **ALL)
    found = weights_of(merge_streamed(tmp_path, dtype=dtype).path)
    expected = weights_of(merge_in_memory(tmp_path, monkeypatch, dtype=dtype))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert {tensor.dtype for tensor in found.values()} == {getattr(torch, dtype)}


def test_a_model_that_does_not_fit_is_compared_layer_by_layer(
    tiny_tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_base("qwen3", tmp_path / "base", tiny_tokenizer_folder)
    adapted = make_adapter(
        base, tmp_path / "adapter", target_modules=["q_proj", "embed_tokens"], modules_to_save=["model.norm"]
    )
    monkeypatch.setattr(merge_ways, "available_memory", lambda: 10_000)
    result = merge_streamed(tmp_path, dtype="bfloat16")
    assert result.max_logit_difference is None
    assert result.top1_agreement is None
    assert result.to_dict()["max_logit_difference"] is None
    assert "10 KB are free" in result.notes[-1]
    assert result.num_layers == 4
    assert result.max_layer_difference is not None
    assert 1e-4 < result.max_layer_difference < 2e-2
    assert "4 layers as written" in (result.path / "README.md").read_text()
    merged = AutoModelForCausalLM.from_pretrained(result.path, dtype=torch.float32).eval()
    ids = torch.arange(3, 60)[None]
    with torch.no_grad():
        expected = adapted(input_ids=ids).logits
        assert (merged(input_ids=ids).logits - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.parametrize("broken", [False, True])
def test_experts_are_compared_as_written(
    tiny_tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    base = make_base("mixtral", tmp_path / "base", tiny_tokenizer_folder)
    make_adapter(base, tmp_path / "adapter", target_modules=[], target_parameters=["experts.gate_up_proj"])
    if not broken:
        assert merge_streamed(tmp_path, check="layers").num_layers == 2
        return
    write = ShardWriter.write

    def lose_the_adapter(self: ShardWriter, name: str, tensor: torch.Tensor) -> None:
        write(self, name, weights_of(base)[name] if "experts.1.w1" in name else tensor)

    monkeypatch.setattr(ShardWriter, "write", lose_the_adapter)
    with pytest.raises(ExportError, match=r"layer model\.layers\.0\.mlp\.experts answers random inputs"):
        merge_streamed(tmp_path, check="layers")


def gpt2_without_prefix(base: Path) -> None:
    """As the published GPT-2 lies on the hub: names without ``transformer.``, and masks that nothing loads."""
    weights = {name.removeprefix("transformer."): tensor for name, tensor in weights_of(base).items()}
    weights["h.0.attn.bias"] = torch.ones(1, 1, 4, 4)
    for path in base.glob("model*.safetensors*"):
        path.unlink()
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})


def test_names_that_loading_changes_are_found(tiny_tokenizer_folder: Path, tmp_path: Path) -> None:
    base = make_base("gpt2", tmp_path / "base", tiny_tokenizer_folder)
    gpt2_without_prefix(base)
    make_adapter(base, tmp_path / "adapter", target_modules=["c_attn", "wte"], fan_in_fan_out=True)
    result = merge_streamed(tmp_path)
    assert result.max_logit_difference is not None
    assert result.max_logit_difference <= 1e-4
    assert "h.0.attn.c_attn.weight" in weights_of(result.path)
    assert "h.0.attn.bias" not in weights_of(result.path)


def test_what_cannot_be_streamed_is_merged_in_memory_and_says_why(
    tiny_tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_base("llama", tmp_path / "base", tiny_tokenizer_folder)
    make_adapter(base, tmp_path / "adapter", target_modules=["q_proj"], init_lora_weights="pissa")
    result = merge_adapter(base_model=None, adapter_path=tmp_path / "adapter", output_path=tmp_path / "merged")
    assert "merged with the whole model in memory, because init_lora_weights is 'pissa'" in result.notes[-1]
    monkeypatch.setattr(merge_ways, "available_memory", lambda: 10_000)
    with pytest.raises(ExportError, match=r"merged as a whole, because init_lora_weights.* 10 KB are free"):
        merge_streamed(tmp_path)
    assert result.max_logit_difference is not None
    assert result.max_logit_difference <= 1e-4


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda base: next(iter(sorted(base.glob("model-*")))).unlink(), "lacks model-00001-of"),
        (lambda base: cut_short(sorted(base.glob("model-*"))[0]), "no whole safetensors file"),
    ],
    ids=["a file is missing", "a file is cut short"],
)
def test_a_damaged_base_is_named_and_nothing_is_left(
    tiny_tokenizer_folder: Path, tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    base = make_base("llama", tmp_path / "base", tiny_tokenizer_folder)
    make_adapter(base, tmp_path / "adapter", **ALL)
    damage(base)
    with pytest.raises(UserError, match=words):
        merge_streamed(tmp_path, check="layers")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["adapter", "base"]


def test_an_interrupt_leaves_nothing(
    tiny_tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_base("llama", tmp_path / "base", tiny_tokenizer_folder)
    make_adapter(base, tmp_path / "adapter", **ALL)
    write, written = ShardWriter.write, []

    def stop_after_five(self: ShardWriter, name: str, tensor: torch.Tensor) -> None:
        assert not (tmp_path / "streamed").exists()
        if len(written) == 5:
            raise KeyboardInterrupt
        written.append(name)
        write(self, name, tensor)

    monkeypatch.setattr(ShardWriter, "write", stop_after_five)
    with pytest.raises(KeyboardInterrupt):
        merge_streamed(tmp_path, check="layers")
    assert len(written) == 5
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["adapter", "base"]


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_memory_is_that_of_a_layer_not_of_the_model(tiny_tokenizer_folder: Path, tmp_path: Path) -> None:
    """Seen: 12 MB above start for 57 MB of weights in float32; a merge in memory takes more than the weights."""
    wide = {"hidden_size": 384, "intermediate_size": 1152, "num_hidden_layers": 8}
    base = make_base("llama", tmp_path / "base", tiny_tokenizer_folder, max_shard_size="10MB", **wide)
    size = sum(path.stat().st_size for path in base.glob("*.safetensors"))
    assert size > 50e6
    make_adapter(base, tmp_path / "adapter", **ALL)
    gc.collect()
    result = merge_streamed(tmp_path, check="layers", max_shard_size="10MB")
    assert result.peak_memory is not None
    assert result.peak_memory < 3 * result.largest_file
    assert result.peak_memory < 0.5 * size
    assert f"largest file {result.largest_file / 1e6:.1f} MB" in str(result.memory())
