"""Every way to train, through the whole walk: it moves what it says; saves, reloads, merges and resumes as itself."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, MambaConfig, MambaForCausalLM

from sft.cli.loaded_model import load_for_use
from sft.cli.main import main
from sft.config import SFTConfig
from sft.errors import ModelError
from sft.export.merge import merge_adapter
from sft.models import families
from sft.models.load import load_model
from sft.training.run import assemble, run_training, train

LORA: dict[str, Any] = {"use_lora": True, "lora_r": 4, "lora_alpha": 8}
PROMPT = torch.tensor([[5, 60, 70, 80, 90, 100, 110, 3, 4]])
STEPS = 4


def nothing(name: str) -> bool:
    return False


def everything(name: str) -> bool:
    return True


@dataclass(frozen=True)
class Method:
    """Options, and what of the base model moves."""

    options: dict[str, Any] = field(default_factory=dict)
    moves: Callable[[str], bool] = nothing


METHODS = {
    "full": Method({}, everything),
    "last layer": Method({"trainable_layers": 1}, lambda name: ".layers.1." in name),
    "layer and names": Method(
        {"trainable_layers": -1, "trainable_modules": [r"layers\.1\.mlp", "lm_head"]},
        lambda name: ".layers.0." in name or ".layers.1.mlp" in name or "lm_head" in name or "embed" in name,
    ),
    "lora": Method({**LORA, "lora_dropout": 0.1}),
    "dora": Method({**LORA, "use_dora": True}),
    "loraplus": Method({**LORA, "loraplus_lr_ratio": 16, "learning_rate": 1e-3}),
    "pissa": Method({**LORA, "init_lora_weights": "pissa", "use_rslora": True}, everything),
    "one layer": Method(
        {
            **LORA,
            "init_lora_weights": "orthogonal",
            "layers_to_transform": [1],
            "target_modules": "all-linear",
            "exclude_modules": ["down_proj"],
        }
    ),
    "neftune": Method({**LORA, "neftune_noise_alpha": 5.0}),
    "added tokens": Method({**LORA, "added_tokens": ["please"], "added_special_tokens": ["<call>"]}),
}


def logits_of(model: nn.Module) -> Tensor:
    model.eval()
    with torch.no_grad():
        return model(input_ids=PROMPT, use_cache=False).logits.float()


def base_weights(model: nn.Module) -> dict[str, Tensor]:
    """The base model's weights by the names they have without an adapter."""
    found = {}
    for name, value in model.state_dict().items():
        plain = name.removeprefix("base_model.model.").replace("token_adapter.", "").replace("base_layer.", "")
        found[plain] = value
    return found


@pytest.mark.parametrize("name", METHODS)
def test_method(name: str, settings: dict[str, Any], tmp_path: Path, read_run: Callable[..., Any]) -> None:
    method, folder = METHODS[name], tmp_path / "run"
    config = SFTConfig(**{**settings, "max_steps": STEPS, "output_dir": str(folder), **method.options})
    base = str(config.model_name_or_path)
    run = assemble(config)
    result = train(run)
    trained, untrained = logits_of(run.model), load_model(base)
    rows = len(untrained.get_input_embeddings().weight)
    assert not torch.allclose(trained[..., :rows], logits_of(untrained), atol=1e-2)

    now = base_weights(run.model)
    before = untrained.state_dict()
    moved = {key for key, value in before.items() if not torch.equal(now[key][: len(value)], value)}
    allowed = {key for key in before if method.moves(key)}
    assert moved <= allowed if config.use_lora else moved == allowed

    saved = str(result.saved.model)
    reloaded, _ = load_for_use(base if config.use_lora else saved, saved if config.use_lora else None, dtype="float32")
    torch.testing.assert_close(logits_of(reloaded), trained, rtol=0, atol=1e-5)
    if config.use_lora:
        merge_adapter(base_model=None, adapter_path=saved, output_path=tmp_path / "merged", dtype="float32")
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
        torch.testing.assert_close(logits_of(merged), trained, rtol=0, atol=1e-4)

    straight = read_run(folder)
    shutil.rmtree(folder / f"checkpoint-{STEPS}")
    shutil.rmtree(saved)
    assert run_training(config).resumed_from == folder / "checkpoint-2"
    resumed = read_run(folder)
    assert resumed.losses == straight.losses
    assert all(torch.equal(resumed.weights[key], value) for key, value in straight.weights.items())


def test_neftune_adds_noise_of_the_known_size_in_training_only(
    settings: dict[str, Any], tmp_path: Path, alpaca_file: Path
) -> None:
    """Uniform in +-alpha / sqrt(tokens * width), https://arxiv.org/abs/2310.05914."""
    config = SFTConfig(
        **{**settings, "neftune_noise_alpha": 5.0, "max_steps": 2, "save_strategy": "no"},
        output_dir=str(tmp_path / "run"),
        eval_data_path=str(alpaca_file),
        eval_strategy="steps",
        eval_steps=1,
    )
    run = assemble(config)
    embedding, first_layer = run.model.get_input_embeddings(), run.model.model.layers[0]
    ids: list[Tensor] = []
    seen: dict[bool, list[float]] = {True: [], False: []}

    def measure(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        hidden = args[0]
        noise = (hidden - nn.functional.embedding(ids[-1], embedding.weight)).abs().max().item()
        seen[layer.training].append(noise * math.sqrt(hidden.shape[1] * hidden.shape[2]) / 5.0)

    embedding.register_forward_pre_hook(lambda layer, args: ids.append(args[0]))
    first_layer.register_forward_pre_hook(measure)
    train(run)
    assert len(seen[True]) == 2
    assert all(0.99 < noise < 1.0 + 1e-5 for noise in seen[True])
    assert len(seen[False]) >= 3, "evaluation at the start and after each step"
    assert max(seen[False]) == 0


@pytest.fixture
def untied_model_folder(tiny_model_folder: Path, tmp_path: Path) -> Path:
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().flip(0).clone())
    model.save_pretrained(tmp_path / "untied")
    AutoTokenizer.from_pretrained(tiny_model_folder).save_pretrained(tmp_path / "untied")
    return tmp_path / "untied"


@pytest.mark.parametrize("tied", [True, False])
def test_an_adapter_holds_the_rows_of_added_tokens_and_no_others(
    settings: dict[str, Any], tmp_path: Path, tied: bool, untied_model_folder: Path
) -> None:
    options = {**LORA, "added_tokens": ["please"], "max_steps": 2, "save_strategy": "steps", "save_steps": 2}
    if not tied:
        options["model_name_or_path"] = str(untied_model_folder)
    config = SFTConfig(**{**settings, "output_dir": str(tmp_path / "run"), **options})
    run = assemble(config)
    result = train(run)
    own = load_model(str(config.model_name_or_path)).get_input_embeddings().num_embeddings
    layers = {"embed_tokens"} if tied else {"embed_tokens", "lm_head"}
    for folder in (result.saved.model, tmp_path / "run" / "checkpoint-2"):
        tensors = load_file(folder / "adapter_model.safetensors")
        rows = {name: value for name, value in tensors.items() if "lora_" not in name}
        assert {name.split(".token_adapter")[0].rpartition(".")[2] for name in rows} == layers
        assert {value.shape[0] for value in rows.values()} == {1}
        assert AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids("please") == own
    go_on = {**options, "adapter_name_or_path": str(result.saved.model), "output_dir": str(tmp_path / "on")}
    on = assemble(SFTConfig(**{**settings, **go_on}))
    torch.testing.assert_close(logits_of(on.model), logits_of(run.model), rtol=0, atol=1e-5)
    with pytest.raises(ModelError, match=r"holds no rows of model\.embed_tokens"):
        assemble(SFTConfig(**{**settings, **go_on, "added_tokens": ["please", "Count"]}))
    merge_adapter(base_model=None, adapter_path=result.saved.model, output_path=tmp_path / "merged", dtype="float32")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert (merged.lm_head.weight is merged.model.embed_tokens.weight) == tied
    torch.testing.assert_close(logits_of(merged), logits_of(run.model), rtol=0, atol=1e-4)


def test_a_lora_that_the_model_goes_past_ends_the_run_and_is_named(
    tiny_tokenizer_folder: Path,
    settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Mamba reads the weight of dt_proj and never calls the layer. Here nothing knows that beforehand."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer_folder)
    model = MambaForCausalLM(MambaConfig(vocab_size=len(tokenizer), hidden_size=16, state_size=4, num_hidden_layers=2))
    model.save_pretrained(tmp_path / "mamba")
    tokenizer.save_pretrained(tmp_path / "mamba")
    monkeypatch.setattr(families, "LORA_LIMITS", {})
    given = {**settings, **LORA, "model_name_or_path": tmp_path / "mamba", "output_dir": tmp_path / "run"}
    words = [f"--{name}={value}" for name, value in given.items() if value is not None]
    code = main(["train", *words, "--target_modules", "in_proj", "dt_proj"])
    said = capsys.readouterr().err
    assert code == 2
    assert "dt_proj cannot learn: after 1 step" in said
    assert "--target_modules in_proj" in said
    assert "Traceback" not in said


def test_added_tokens_that_no_example_holds_are_named(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = {"added_tokens": ["please", "<one>"], "added_special_tokens": ["<two>"]}
    assemble(SFTConfig(**{**settings, **tokens, "output_dir": str(tmp_path / "run")}))
    assert "no training example holds the added tokens <one>, <two>:" in capsys.readouterr().err


def test_frozen_embeddings_and_added_tokens_do_not_go_together(train: Callable[..., Any]) -> None:
    with pytest.raises(ModelError, match=r"--trainable_modules embed_tokens lm_head"):
        train("run", trainable_layers=1, added_tokens=["please"])
