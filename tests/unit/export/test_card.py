from __future__ import annotations

from pathlib import Path

import yaml
from huggingface_hub import ModelCard

from sft.export.card import DataSource, TrainingFacts, render_card, render_merged_card, training_section, write_card

FACTS = TrainingFacts(
    base_model="Qwen/Qwen3-0.6B",
    base_revision="abc123",
    sources=[DataSource(path="train.jsonl", num_examples=12, sha256="f00d"), DataSource(path="a|b.csv")],
    trained_on="answers",
    chat_template="qwen3",
    hyperparameters={"learning_rate": 2e-5, "lora_r": 8},
    results={"steps": 3, "eval_loss": None},
)


def front_matter(card: str) -> dict[str, object]:
    assert card.startswith("---\n")
    return yaml.safe_load(card.split("---")[1])


def test_an_adapter_card_says_what_it_is_and_how_to_use_it(tmp_path: Path) -> None:
    card = render_card(FACTS, kind="adapter", name="tuned")
    assert front_matter(card) == {
        "library_name": "peft",
        "base_model": "Qwen/Qwen3-0.6B",
        "base_model_relation": "adapter",
        "pipeline_tag": "text-generation",
        "tags": ["sft", "sft-kit", "lora"],
    }
    assert "| train.jsonl | 12 | f00d |" in card
    assert "a\\|b.csv" in card
    assert "| learning_rate | 2e-05 |" in card
    assert "| transformers | " in card
    assert "eval_loss" not in card
    for use in ("sft chat --model", "sft merge --base_model Qwen/Qwen3-0.6B", "PeftModel.from_pretrained(base"):
        assert use in card
    write_card(tmp_path, card)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == card


def test_a_model_card_has_no_adapter_words_and_a_local_base_no_hub_name(tmp_path: Path) -> None:
    card = render_card(TrainingFacts(base_model=str(tmp_path)), kind="model", name="tuned")
    assert front_matter(card)["library_name"] == "transformers"
    assert "base_model" not in front_matter(card)
    assert "peft import" not in card
    assert "sft merge" not in card


def test_the_code_in_the_card_is_python() -> None:
    for kind in ("model", "adapter"):
        code = render_card(FACTS, kind=kind, name="tuned").split("```python\n")[1].split("```")[0]
        compile(code, "card", "exec")


def test_a_merged_card_carries_the_training_over() -> None:
    adapter_card = render_card(FACTS, kind="adapter", name="tuned")
    card = render_merged_card(
        base_model="Qwen/Qwen3-0.6B", adapter="out", figures={"top-1": "100%"}, adapter_card=adapter_card, name="merged"
    )
    assert training_section(FACTS) in card
    assert "| top-1 | 100% |" in card
    assert card.count("## Use") == 1
    foreign = render_merged_card(
        base_model="b", adapter="out", figures={}, adapter_card="# another tool's card", name="merged"
    )
    assert "## Training" not in foreign


def test_the_hub_reads_the_metadata_of_every_kind() -> None:
    """Its own client parses the card; data sets of the hub are linked, files and folders of this machine are not."""
    sources = [
        DataSource(path="tatsu-lab/alpaca:main[train]", num_examples=3),
        DataSource(path="tatsu-lab/alpaca[test]", num_examples=3),
        DataSource(path="private/rows.jsonl", num_examples=1, sha256="f00d"),
        DataSource(path="./local/folder"),
        DataSource(path="/data/own"),
    ]
    facts = TrainingFacts(base_model="Qwen/Qwen3-0.6B", sources=sources)
    for kind, relation in (("adapter", "adapter"), ("model", "finetune")):
        read = ModelCard(render_card(facts, kind=kind, name="tuned")).data
        assert (read.base_model, read.base_model_relation) == ("Qwen/Qwen3-0.6B", relation)
        assert read.datasets == ["tatsu-lab/alpaca"]
        assert "sft-kit" in read.tags
    local = ModelCard(render_card(TrainingFacts(base_model="./model"), kind="model", name="tuned")).data
    assert local.base_model is None
    assert local.datasets is None
