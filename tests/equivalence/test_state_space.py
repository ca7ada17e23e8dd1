"""State-space models through the whole walk: padded rows, refused packing, adapters, resume, merge, generation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from sft.cli.main import main
from sft.config import SFTConfig
from sft.data.collate import Collator
from sft.data.types import Example, Source
from sft.errors import EXIT_USER, ConfigError, ModelError
from sft.generation import Sampling
from sft.generation.in_process import complete
from sft.training.loss import summed_loss
from sft.training.run import run_training

VOCABULARY = 352
SHAPE = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "initializer_range": 0.3}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64}
STATE = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8, "mamba_chunk_size": 8}
MODELS: dict[str, dict[str, Any]] = {
    "Mamba": {**SHAPE, "state_size": 4},
    "FalconMamba": {**SHAPE, "state_size": 4},
    "Mamba2": {**SHAPE, "state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 2, "chunk_size": 8},
    "FalconH1": {**SHAPE, **HEADS, **STATE, "mamba_d_ssm": 64, "head_dim": 8},
    "GraniteMoeHybrid": {
        **SHAPE, **HEADS, **STATE, "mamba_expand": 2, "layer_types": ["mamba", "attention"], "num_local_experts": 0,
        "num_experts_per_tok": 0, "shared_intermediate_size": 64, "position_embedding_type": "rope",
    },
}  # fmt: skip
SEED_TARGETS = ["x_proj", "embeddings", "in_proj", "out_proj"]
"""What Firefly's Mamba recipes name; PEFT refuses the last one today."""


def make_model(name: str, *, tokenizer: Any = None) -> Any:
    torch.manual_seed(5)
    tokens = (
        {} if tokenizer is None else {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    )
    config = getattr(transformers, f"{name}Config")(**MODELS[name], **tokens)
    return getattr(transformers, f"{name}ForCausalLM")(config)


@pytest.fixture
def base(tiny_tokenizer_folder: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Write a random model of a family with the small tokenizer."""

    def write(name: str) -> Path:
        folder = tmp_path / name
        tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer_folder)
        make_model(name, tokenizer=tokenizer).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return write


def make_examples(lengths: tuple[int, ...]) -> list[Example]:
    rng = np.random.default_rng(0)
    return [
        Example(
            input_ids=rng.integers(3, VOCABULARY, length, dtype=np.int32),
            loss_mask=(np.arange(length) > 2).astype(np.uint8),
            text="",
            source=Source("made", length),
        )
        for length in lengths
    ]


@pytest.mark.parametrize("name", MODELS)
def test_a_padded_batch_is_its_rows_alone(name: str) -> None:
    """Logits and loss, through our collator and our loss, in training mode; transformers' own loss is the reference."""
    model = make_model(name).train()
    head, collate = model.get_output_embeddings(), Collator(0, packed=False)
    examples = make_examples((31, 7, 18))
    batch = collate([[example] for example in examples])
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
    total, _ = summed_loss(head, model, batch)
    theirs = 0.0
    for row, example in enumerate(examples):
        ids = torch.tensor(example.input_ids[None].astype(np.int64))
        labels = torch.where(torch.tensor(example.loss_mask[None]) == 1, ids, -100)
        alone = model(input_ids=ids, labels=labels, use_cache=False)
        assert torch.allclose(logits[row, : len(example)], alone.logits[0], atol=1e-5, rtol=0)
        theirs += alone.loss.item() * int(example.loss_mask[1:].sum())
    assert total.item() == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_the_same_padded_alone_and_recomputed(name: str) -> None:
    model = make_model(name).train()
    head, collate = model.get_output_embeddings(), Collator(0, packed=False)
    examples = make_examples((31, 7, 18))

    def gradients(batches: list[list[list[Example]]]) -> torch.Tensor:
        model.zero_grad()
        for rows in batches:
            summed_loss(head, model, collate(rows))[0].backward()
        return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])

    together = gradients([[[example] for example in examples]])
    alone = gradients([[[example]] for example in examples])
    assert torch.allclose(together, alone, atol=1e-5 * float(together.abs().max()), rtol=0)
    getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)({"use_reentrant": False})
    assert torch.equal(gradients([[[example] for example in examples]]), together)


def settings_for(base: Path, data: Path, output: Path, **changes: Any) -> SFTConfig:
    return SFTConfig(
        **{
            "model_name_or_path": str(base),
            "data_path": str(data),
            "output_dir": str(output),
            "cache_dir": str(output.parent / "cache"),
            "max_length": 96,
            "per_device_train_batch_size": 4,
            "max_steps": 4,
            "learning_rate": 2e-2,
            "logging_steps": 1,
            "save_steps": 2,
            "save_total_limit": None,
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("name", "targets", "left_out"),
    [
        ("Mamba", SEED_TARGETS, "out_proj"),
        ("Mamba2", ["in_proj", "embeddings", "conv1d"], "conv1d"),
        ("GraniteMoeHybrid", None, None),
    ],
)
def test_an_adapter_trains_resumes_and_merges(
    base: Callable[[str], Path],
    alpaca_file: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    targets: list[str] | None,
    left_out: str | None,
) -> None:
    """With the head tied to an embedding that the adapter changes, where the family ties them."""
    folder = base(name)
    options = {
        "use_lora": True, "target_modules": targets, "lora_dropout": 0.0, "gradient_checkpointing": True,
        "merged_dir": "merged",
    }  # fmt: skip
    run_training(settings_for(folder, alpaca_file, tmp_path / "straight", **options))
    if left_out is not None:
        assert f"left out of target_modules: {left_out}" in caplog.text
    config = json.loads((tmp_path / "straight" / "final_model" / "adapter_config.json").read_text())
    assert left_out not in config["target_modules"]
    assert "in_proj" in config["target_modules"]
    trained = load_file(tmp_path / "straight" / "final_model" / "adapter_model.safetensors")
    assert all(tensor.abs().max() > 0 for key, tensor in trained.items() if "lora_" in key)

    run_training(settings_for(folder, alpaca_file, tmp_path / "resumed", **options, save_strategy="steps"))
    for stale in ("final_model", "merged", "checkpoint-4"):
        shutil.rmtree(tmp_path / "resumed" / stale)
    run_training(settings_for(folder, alpaca_file, tmp_path / "resumed", **options, resume_from_checkpoint="true"))
    resumed = load_file(tmp_path / "resumed" / "final_model" / "adapter_model.safetensors")
    assert all(torch.equal(trained[key], resumed[key]) for key in trained)

    record = json.loads((tmp_path / "straight" / "run.json").read_text())
    assert "merged" in record["result"]["merged_path"]
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "straight" / "merged", dtype=torch.float32).eval()
    adapted = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), tmp_path / "straight" / "final_model"
    ).eval()
    ids = torch.arange(3, 90)[None]
    with torch.no_grad():
        difference = (merged(input_ids=ids).logits - adapted(input_ids=ids).logits).abs().max()
        moved = (merged(input_ids=ids).logits - adapted.unload()(input_ids=ids).logits).abs().max()
    assert difference <= 1e-4
    assert moved > 0.05


@pytest.mark.parametrize("name", ["Mamba", "GraniteMoeHybrid"])
def test_a_packed_run_is_refused_by_name(
    base: Callable[[str], Path], alpaca_file: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = base(name)
    family = json.loads((folder / "config.json").read_text())["model_type"]
    with pytest.raises(ConfigError, match=f"family '{family}'.*a state runs on"):
        run_training(settings_for(folder, alpaca_file, tmp_path / "run", packing=True))
    words = ["plan", "--model_name_or_path", str(folder), "--data_path", str(alpaca_file), "--packing", "true"]
    assert main([*words, "--output_dir", str(tmp_path / "run")]) == EXIT_USER
    assert f"family '{family}'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_lora_on_dt_proj_is_refused_with_the_reason(
    base: Callable[[str], Path], alpaca_file: Path, tmp_path: Path
) -> None:
    config = settings_for(
        base("Mamba"), alpaca_file, tmp_path / "run", use_lora=True, target_modules=["in_proj", "dt_proj"]
    )
    with pytest.raises(ModelError, match=r"dt_proj.*learns nothing.*gradient is zero"):
        run_training(config)


@pytest.mark.parametrize("name", MODELS)
def test_batches_generate_what_each_prompt_generates_alone(name: str, tiny_tokenizer_folder: Path) -> None:
    model = make_model(name).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer_folder)
    prompts = [[7, 8, 9], list(range(20, 45)), [100], [300, 12, 300, 12, 4, 91]]
    found = complete(model, tokenizer, prompts, Sampling(max_new_tokens=10))
    for ids, completion in zip(prompts, found, strict=True):
        prompt = torch.tensor([ids])
        output = model.generate(
            input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=10, do_sample=False
        )
        assert completion.text == tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True)
