"""A merged model, loaded from disk, gives the logits of its adapter. PEFT's own merge is the outside reference."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, Qwen3Config, Qwen3ForCausalLM

from sft.errors import EXIT_USER, ExportError
from sft.export.merge import MergeResult, merge_adapter
from sft.export.shards import ShardWriter

TEXT = "Once upon a time there was a little girl named Lily. She loved to play outside in the park with 2 dogs."


@pytest.fixture(scope="module")
def stories(shared_data: Path) -> Path:
    """Folder of the real tiny Llama; its embeddings are tied."""
    return shared_data / "models" / "stories260K-hf"


def load(folder: Path | str) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def make_adapter(base: Path, folder: Path, *, rows: int | None = None, seed: int = 0, **config: Any) -> Any:
    """Save an adapter whose weights are all far from their start, as PEFT saves it; give the model back."""
    torch.manual_seed(seed)
    model = load(base)
    if rows is not None:
        model.resize_token_embeddings(rows, mean_resizing=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config.setdefault("r", 4)
        adapted = get_peft_model(model, LoraConfig(lora_alpha=8, task_type="CAUSAL_LM", **config)).eval()
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data += torch.randn_like(parameter) * 0.05
        adapted.save_pretrained(folder)
    return adapted


@torch.no_grad()
def logits(model: Any, tokenizer: Any) -> torch.Tensor:
    ids = tokenizer(TEXT, return_tensors="pt").input_ids
    return model(input_ids=ids, use_cache=False).logits


def assert_equal_to_adapter(result: MergeResult, adapted: Any, base: Path) -> Any:
    """Seen noise: 1e-5 to 4e-5 at logits up to 23."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    merged = load(result.path)
    assert torch.allclose(logits(merged, tokenizer), logits(adapted, tokenizer), atol=1e-4, rtol=0)
    assert result.max_logit_difference <= 1e-4
    assert result.top1_agreement == 1.0
    return merged


KINDS: dict[str, dict[str, Any]] = {
    "lora": {"target_modules": "all-linear"},
    "rslora": {"target_modules": ["q_proj", "down_proj"], "use_rslora": True},
    "dora": {"target_modules": ["q_proj", "v_proj", "up_proj"], "use_dora": True},
    "ranks": {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 32}},
    "norms trained whole": {"target_modules": ["q_proj"], "modules_to_save": ["input_layernorm"]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_merged_equals_adapter_and_peft(stories: Path, tmp_path: Path, kind: str) -> None:
    adapted = make_adapter(stories, tmp_path / "adapter", **KINDS[kind])
    result = merge_adapter(base_model=str(stories), adapter_path=tmp_path / "adapter", output_path=tmp_path / "merged")
    merged = assert_equal_to_adapter(result, adapted, stories)
    assert (result.num_prompts, result.dtype) == (16, "float32")
    assert result.num_positions > 200
    theirs = adapted.merge_and_unload().state_dict()
    ours = merged.state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.allclose(theirs[name], ours[name], atol=1e-6, rtol=0) for name in theirs)
    base = load(stories).state_dict()
    assert not all(torch.equal(base[name], ours[name]) for name in base)
    assert merged.config.tie_word_embeddings is True
    assert "lm_head.weight" not in load_file(result.path / "model.safetensors")


TIED: dict[str, tuple[dict[str, Any], bool]] = {
    "lora on the embedding": ({"target_modules": ["q_proj", "embed_tokens"]}, False),
    "lora on the head": ({"target_modules": ["q_proj", "lm_head"]}, False),
    "lora on both": ({"target_modules": ["embed_tokens", "lm_head"]}, False),
    "one lora for both": ({"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True}, True),
    "embedding trained whole": ({"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}, False),
    "head trained whole": ({"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, False),
    "both trained whole": ({"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]}, False),
    "both trained whole as one": (
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
        True,
    ),
    "some tokens": ({"target_modules": ["q_proj"], "trainable_token_indices": [5, 9, 403]}, True),
}


@pytest.mark.parametrize("kind", TIED)
def test_tied_embeddings_are_untied_where_the_adapter_parts_them(stories: Path, tmp_path: Path, kind: str) -> None:
    config, stays_tied = TIED[kind]
    adapted = make_adapter(stories, tmp_path / "adapter", **config)
    result = merge_adapter(base_model=str(stories), adapter_path=tmp_path / "adapter", output_path=tmp_path / "merged")
    merged = assert_equal_to_adapter(result, adapted, stories)
    assert result.tie_word_embeddings is stays_tied
    assert merged.config.tie_word_embeddings is stays_tied
    assert json.loads((result.path / "config.json").read_text())["tie_word_embeddings"] is stays_tied
    assert ("lm_head.weight" in load_file(result.path / "model.safetensors")) is not stays_tied


ADDED: dict[str, dict[str, Any]] = {
    "saved whole": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
    "lora on the embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "rows of the new tokens": {"target_modules": ["q_proj"], "trainable_token_indices": [512, 513, 514]},
}


@pytest.mark.parametrize("kind", ADDED)
def test_added_tokens_keep_their_rows(stories: Path, tmp_path: Path, kind: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(stories)
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>", "<tool>"], special_tokens=True)
    adapted = make_adapter(stories, tmp_path / "adapter", rows=515, **ADDED[kind])
    tokenizer.save_pretrained(tmp_path / "adapter")
    result = merge_adapter(base_model=str(stories), adapter_path=tmp_path / "adapter", output_path=tmp_path / "merged")
    merged = load(result.path)
    assert merged.config.vocab_size == 515
    assert "515" in result.notes[0]
    saved_tokenizer = AutoTokenizer.from_pretrained(result.path)
    ids = saved_tokenizer("<|im_start|>Tom<|im_end|><tool>", return_tensors="pt").input_ids
    assert {512, 513, 514} <= set(ids[0].tolist())
    with torch.no_grad():
        difference = (merged(input_ids=ids).logits - adapted(input_ids=ids).logits).abs().max()
    assert difference <= 1e-4


def test_lost_rows_of_added_tokens_are_refused(stories: Path, tmp_path: Path) -> None:
    make_adapter(stories, tmp_path / "adapter", target_modules=["q_proj"])
    tokenizer = AutoTokenizer.from_pretrained(stories)
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(tmp_path / "adapter")
    with pytest.raises(ExportError, match=r"513 tokens.*512 embedding rows"):
        merge_adapter(base_model=str(stories), adapter_path=tmp_path / "adapter", output_path=tmp_path / "merged")

    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    make_adapter(stories, tmp_path / "adapter", rows=513, target_modules=["q_proj", "embed_tokens"])
    tensors = {name: tensor for name, tensor in load_file(weights).items() if "lora_" in name}
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(ExportError, match="rows of the 1 added tokens were not saved for"):
        merge_adapter(base_model=str(stories), adapter_path=tmp_path / "adapter", output_path=tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def qwen3(folder: Path, *, layers: int = 2, hidden: int = 32, dtype: torch.dtype = torch.float32) -> Path:
    torch.manual_seed(3)
    config = Qwen3Config(
        vocab_size=512, hidden_size=hidden, intermediate_size=64, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, initializer_range=0.2, eos_token_id=2, bos_token_id=1,
    )  # fmt: skip
    Qwen3ForCausalLM(config).to(dtype).save_pretrained(folder)
    return folder


def gpt2(folder: Path) -> Path:
    torch.manual_seed(3)
    GPT2LMHeadModel(
        GPT2Config(vocab_size=512, n_embd=32, n_layer=2, n_head=4, n_positions=256, eos_token_id=2, bos_token_id=1)
    ).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("make", "config"),
    [
        (qwen3, {"target_modules": "all-linear", "modules_to_save": ["lm_head"]}),
        (gpt2, {"target_modules": ["c_attn", "c_proj", "wte"], "fan_in_fan_out": True}),
    ],
    ids=["qwen3 untied", "gpt2 with transposed weights"],
)
def test_other_families_merge(stories: Path, tmp_path: Path, make: Any, config: dict[str, Any]) -> None:
    base = make(tmp_path / "base")
    AutoTokenizer.from_pretrained(stories).save_pretrained(base)
    adapted = make_adapter(base, tmp_path / "adapter", **config)
    result = merge_adapter(base_model=None, adapter_path=tmp_path / "adapter", output_path=tmp_path / "merged")
    assert_equal_to_adapter(result, adapted, base)
    assert result.base_model == str(base)


@pytest.mark.parametrize(("dtype", "worst"), [("bfloat16", 0.5), ("float16", 0.06)])
def test_a_16_bit_save_is_held_to_a_bound_of_its_own(stories: Path, tmp_path: Path, dtype: str, worst: float) -> None:
    """Seen: 0.1 to 0.2 in bfloat16, 0.02 in float16, at logits up to 23."""
    make_adapter(stories, tmp_path / "adapter", target_modules="all-linear")
    result = merge_adapter(
        base_model=str(stories), adapter_path=tmp_path / "adapter", output_path=tmp_path / "merged", dtype=dtype
    )
    assert 1e-4 < result.max_logit_difference < worst < result.max_difference * 2
    assert {tensor.dtype for tensor in load_file(result.path / "model.safetensors").values()} == {getattr(torch, dtype)}
    assert AutoModelForCausalLM.from_pretrained(result.path).dtype == getattr(torch, dtype)
    with pytest.raises(ExportError, match=r"allowed is 0\.0001"):
        merge_adapter(
            base_model=str(stories),
            adapter_path=tmp_path / "adapter",
            output_path=tmp_path / "strict",
            dtype=dtype,
            max_difference=1e-4,
        )
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["adapter", "merged"]


def test_the_base_models_own_precision_is_kept(stories: Path, tmp_path: Path) -> None:
    base = qwen3(tmp_path / "base", dtype=torch.bfloat16)
    AutoTokenizer.from_pretrained(stories).save_pretrained(base)
    make_adapter(base, tmp_path / "adapter", target_modules=["q_proj"])
    result = merge_adapter(base_model=str(base), adapter_path=tmp_path / "adapter", output_path=tmp_path / "merged")
    assert result.dtype == "bfloat16"
    assert json.loads((result.path / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("check", "tensor", "words"),
    [
        ("logits", "model.norm.weight", "does not equal the adapter"),
        ("layers", "model.norm.weight", r"model\.norm\.weight is not the base model's"),
        ("layers", "model.layers.0.self_attn.q_proj.weight", r"layer model\.layers\.0\.self_attn\.q_proj answers"),
    ],
)
def test_what_was_written_is_what_is_compared(
    stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: str, tensor: str, words: str
) -> None:
    """A fault of the disk or the writer after the merge is caught, and nothing is left."""
    make_adapter(stories, tmp_path / "adapter", target_modules=["q_proj"])
    write = ShardWriter.write

    def write_badly(self: ShardWriter, name: str, found: torch.Tensor) -> None:
        write(self, name, found * 1.001 if name == tensor else found)

    monkeypatch.setattr(ShardWriter, "write", write_badly)
    with pytest.raises(ExportError, match=words):
        merge_adapter(
            base_model=str(stories), adapter_path=tmp_path / "adapter", output_path=tmp_path / "merged", check=check
        )
    assert [entry.name for entry in tmp_path.iterdir()] == ["adapter"]


def refusal(base: Path | str, adapter: Path | str, output: Path, **kwargs: Any) -> str:
    with pytest.raises(ExportError) as error:
        merge_adapter(base_model=str(base), adapter_path=adapter, output_path=output, **kwargs)
    assert error.value.exit_code == EXIT_USER
    return str(error.value)


def test_the_layer_that_does_not_fit_is_named(stories: Path, tmp_path: Path) -> None:
    small, wide, deep = qwen3(tmp_path / "a"), qwen3(tmp_path / "b", hidden=64), qwen3(tmp_path / "c", layers=3)
    adapter, output = tmp_path / "adapter", tmp_path / "merged"
    make_adapter(small, adapter, target_modules=["q_proj", "down_proj"])
    said = refusal(wide, adapter, output)
    assert "Layer model.layers.0.mlp.down_proj" in said
    assert "(32, 4)" in said
    assert "(64, 4)" in said
    assert f"names another base model: {str(small)!r}" in said
    assert "has no weights for model.layers.2" in refusal(deep, adapter, output)
    make_adapter(deep, adapter, target_modules=["q_proj", "down_proj"])
    assert "has weights for model.layers.2" in refusal(small, adapter, output)
    said = refusal(gpt2(tmp_path / "d"), adapter, output)
    assert "does not fit" in said
    assert not output.exists()


def test_a_base_of_another_name_is_mentioned_when_it_fits(stories: Path, tmp_path: Path) -> None:
    first, second = qwen3(tmp_path / "a"), qwen3(tmp_path / "b")
    AutoTokenizer.from_pretrained(stories).save_pretrained(second)
    make_adapter(first, tmp_path / "adapter", target_modules=["q_proj"])
    result = merge_adapter(base_model=str(second), adapter_path=tmp_path / "adapter", output_path=tmp_path / "merged")
    [note] = result.notes
    assert str(first) in note
    assert str(second) in note


def test_folders_that_cannot_be_merged_are_refused_in_words(stories: Path, tmp_path: Path) -> None:
    adapter, output = tmp_path / "run" / "final_model", tmp_path / "merged"
    make_adapter(stories, adapter, target_modules=["q_proj"])
    assert "no adapter folder" in refusal(stories, tmp_path / "absent", output)
    assert "holds adapters in: final_model" in refusal(stories, tmp_path / "run", output)
    assert "whole model" in refusal(stories, stories, output)
    assert "is the folder that is merged from" in refusal(stories, adapter, adapter)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    assert "is not empty (it holds notes.txt)" in refusal(stories, adapter, tmp_path / "full")
    assert "is a file" in refusal(stories, adapter, tmp_path / "full" / "notes.txt")
    assert "float64" in refusal(stories, adapter, output, dtype="float64")
    config = adapter / "adapter_config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "base_model_name_or_path": None}))
    with pytest.raises(ExportError, match="names no base model"):
        merge_adapter(base_model=None, adapter_path=adapter, output_path=output)
    (adapter / "adapter_model.safetensors").write_bytes(b"\x10\x00\x00")
    assert "no whole safetensors file" in refusal(stories, adapter, output)
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    assert "pickle" in refusal(stories, adapter, output)
    assert not output.exists()


def test_a_quantised_base_is_refused(stories: Path, tmp_path: Path) -> None:
    base = qwen3(tmp_path / "base")
    make_adapter(base, tmp_path / "adapter", target_modules=["q_proj"])
    config = json.loads((base / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (base / "config.json").write_text(json.dumps(config))
    assert "is quantised (bitsandbytes)" in refusal(base, tmp_path / "adapter", tmp_path / "merged")


def test_a_run_folder_keeps_its_checkpoints(stories: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    adapted = make_adapter(stories, run / "lora_weights", target_modules=["q_proj"])
    (run / "checkpoint-5").mkdir()
    (run / "run.json").write_text("{}")
    (run / "model-00001-of-00002.safetensors").write_bytes(b"of an earlier save")
    result = merge_adapter(
        base_model=str(stories), adapter_path=run / "lora_weights", output_path=run, keep_others=True
    )
    assert_equal_to_adapter(result, adapted, stories)
    names = {entry.name for entry in run.iterdir()}
    assert {"checkpoint-5", "run.json", "lora_weights", "model.safetensors", "config.json", "tokenizer.json"} <= names
    assert "model-00001-of-00002.safetensors" not in names
    assert not any(name.startswith(".") for name in names)
    make_adapter(stories, run, target_modules=["q_proj"])
    assert "holds an adapter" in refusal(stories, run / "lora_weights", run, keep_others=True)


def test_tokenizer_template_and_stops_come_from_the_adapter(stories: Path, tmp_path: Path) -> None:
    make_adapter(stories, tmp_path / "adapter", target_modules=["q_proj"])
    template = "{% for message in messages %}[{{ message.role }}] {{ message.content }}\n{% endfor %}"
    (tmp_path / "adapter" / "chat_template.jinja").write_text(template)
    merge_adapter(base_model=str(stories), adapter_path=tmp_path / "adapter", output_path=tmp_path / "one")
    assert AutoTokenizer.from_pretrained(tmp_path / "one").chat_template == template

    tokenizer = AutoTokenizer.from_pretrained(stories)
    tokenizer.chat_template = "{{ messages[0].content }}"
    tokenizer.save_pretrained(tmp_path / "adapter")
    (tmp_path / "adapter" / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 17]}))
    result = merge_adapter(
        base_model=str(stories),
        adapter_path=tmp_path / "adapter",
        output_path=tmp_path / "two",
        prompts=["Tom", "Lily"],
    )
    assert result.num_prompts == 2
    assert AutoTokenizer.from_pretrained(tmp_path / "two").chat_template == "{{ messages[0].content }}"
    assert json.loads((tmp_path / "two" / "generation_config.json").read_text())["eos_token_id"] == [2, 17]
    card = (tmp_path / "two" / "README.md").read_text()
    assert "top-1 agreement" in card


def test_peft_loads_what_the_merge_read(stories: Path, tmp_path: Path) -> None:
    """The adapter folder is only read."""
    adapted = make_adapter(stories, tmp_path / "adapter", target_modules=["q_proj"])
    before = {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir()}
    merge_adapter(base_model=str(stories), adapter_path=tmp_path / "adapter", output_path=tmp_path / "merged")
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir()}
    tokenizer = AutoTokenizer.from_pretrained(stories)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reloaded = PeftModel.from_pretrained(load(stories), tmp_path / "adapter").eval()
    assert torch.equal(logits(reloaded, tokenizer), logits(adapted, tokenizer))
