"""Stage pretrain against transformers' own loss on the same blocks, and against itself resumed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from sft.config import SFTConfig
from sft.data.blocks import group_blocks
from sft.data.prepare import prepare
from sft.errors import ConfigError
from sft.models.tokenizer import load_tokenizer_for
from sft.training.run import run_training

# Observed: below 2e-7 relative, float32 sums in another order.
LOSS = 1e-5
TEXTS = [f"Text {number}. " + "The wind and the stars at night. " * (number % 5) for number in range(1, 41)]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), encoding="utf-8")
    return path


@pytest.fixture
def pretrain(train: Callable[..., Any], texts: Path) -> Callable[..., Any]:
    def run(name: str, **changes: Any) -> Any:
        return train(name, **{"stage": "pretrain", "data_path": str(texts), "max_length": 48, **changes})

    return run


def transformers_loss(model: Any, rows: list[torch.Tensor]) -> tuple[float, int]:
    """Summed from ``model(input_ids, labels=input_ids)``, whose loss is a mean over all tokens but the first."""
    total, predicted = 0.0, 0
    with torch.no_grad():
        for row in rows:
            if len(row) > 1:
                total += model(row[None], labels=row[None]).loss.item() * (len(row) - 1)
                predicted += len(row) - 1
    return total, predicted


@pytest.mark.parametrize("isolated", [False, True])
def test_the_loss_is_transformers_own(
    pretrain: Callable[..., Any], settings: dict[str, Any], texts: Path, isolated: bool
) -> None:
    """The first step sees all rows. Isolated: the sum of the losses of each stretch of a document alone."""
    run = pretrain("run", isolate_documents=isolated, per_device_train_batch_size=100, max_steps=1)
    config = SFTConfig(
        **{**settings, "stage": "pretrain", "data_path": str(texts), "max_length": 48, "isolate_documents": isolated}
    )
    examples = prepare(config, load_tokenizer_for(config), quiet=True).train.examples
    model = AutoModelForCausalLM.from_pretrained(config.model_name_or_path)
    total, predicted = transformers_loss(model, [torch.tensor(example.input_ids.tolist()) for example in examples])
    assert run.losses == [pytest.approx(total / predicted, rel=LOSS)]
    if isolated:
        packs = group_blocks(examples.lengths.tolist(), 48)
        assert any(len(pack) > 1 for pack in packs)


def test_isolation_changes_the_loss(pretrain: Callable[..., Any]) -> None:
    plain, isolated = (pretrain(str(choice), isolate_documents=choice, max_steps=1) for choice in (False, True))
    assert plain.losses != pytest.approx(isolated.losses, rel=1e-4)


@pytest.mark.parametrize("isolated", [False, True])
def test_a_resumed_run_is_the_straight_run(
    pretrain: Callable[..., Any],
    read_run: Callable[..., Any],
    settings: dict[str, Any],
    texts: Path,
    tmp_path: Path,
    isolated: bool,
) -> None:
    changes = {"isolate_documents": isolated, "max_steps": 8, "validation_size": 4, "eval_steps": 2}
    straight = pretrain("straight", **changes)
    assert straight.losses[-1] < straight.losses[0]
    folder = tmp_path / "resumed"
    shutil.copytree(straight.folder, folder)
    for step in (6, 8):
        shutil.rmtree(folder / f"checkpoint-{step}")
    whole = {**settings, "stage": "pretrain", "data_path": str(texts), "max_length": 48, **changes}
    result = run_training(SFTConfig(**{**whole, "output_dir": str(folder)}))
    assert result.resumed_from == folder / "checkpoint-4"
    again = read_run(folder)
    assert again.losses == straight.losses
    assert all(torch.equal(again.weights[name], straight.weights[name]) for name in straight.weights)


def test_the_run_says_what_became_of_the_texts(
    pretrain: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pretrain("run", isolate_documents=True, max_steps=1).folder
    told = capsys.readouterr().err
    assert "isolate_documents is on: packed loss equals the sum of separate losses" in told
    plan = json.loads((folder / "run.json").read_text(encoding="utf-8"))["plan"]
    assert (plan["stage"], plan["documents"], plan["packs"]) == ("pretrain", 40, plan["blocks"])
    said = f"40 rows -> 40 documents -> {plan['blocks']} blocks with {plan['examples']} stretches of documents"
    assert said in told
    generation = json.loads((folder / "final_model" / "generation_config.json").read_text(encoding="utf-8"))
    assert generation["eos_token_id"]


def test_questions_are_texts_to_go_on_with(
    pretrain: Callable[..., Any], settings: dict[str, Any], tmp_path: Path
) -> None:
    """The answer is what transformers writes after the bare text, which no template renders."""
    (tmp_path / "questions.txt").write_text("The wind\n", encoding="utf-8")
    asked = {"gen_questions_file": str(tmp_path / "questions.txt"), "gen_every_n_steps": 6, "gen_max_new_tokens": 8}
    folder = pretrain("run", **asked).folder
    (answered,) = json.loads((folder / "gen_results" / "gen_step_6.json").read_text(encoding="utf-8"))
    model = AutoModelForCausalLM.from_pretrained(folder / "final_model")
    tokenizer = load_tokenizer_for(SFTConfig(**settings))
    ids = torch.tensor([tokenizer("The wind")["input_ids"]])
    written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)[0]
    assert answered["output"] == tokenizer.decode(written[ids.shape[1] :], skip_special_tokens=True)
    assert answered["output"]


def test_a_model_that_cannot_isolate_documents_is_refused_by_name(
    settings: dict[str, Any], texts: Path, tmp_path: Path
) -> None:
    from transformers import MambaConfig

    folder = tmp_path / "mamba"
    MambaConfig(vocab_size=350, hidden_size=16, num_hidden_layers=1).save_pretrained(folder)
    values = {**settings, "stage": "pretrain", "data_path": str(texts), "isolate_documents": True}
    with pytest.raises(ConfigError, match=r"isolate_documents = true.*'mamba'.*isolate_documents = false"):
        run_training(SFTConfig(**{**values, "model_name_or_path": str(folder), "output_dir": str(tmp_path / "run")}))
