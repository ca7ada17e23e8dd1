"""The benchmark for GPUs, as far as it goes without one: arithmetic, rows, the table, and steps of a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gpu.shapes import SHAPES, mean_attended

from gpu import rows, table

# GFLOP per token of a document of 4k, 16k and 32k tokens; full, LoRA (research notes of this project, part I).
PUBLISHED = {
    "0.6B": [(4.99, 3.85), (9.21, 8.08), (14.85, 13.72)],
    "1.7B": [(11.73, 8.40), (15.96, 12.62), (21.60, 18.26)],
    "8B": [(49.03, 34.16), (59.90, 45.03), (74.40, 59.53)],
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_operations_per_token(name: str) -> None:
    for length, (full, lora) in zip((4096, 16_384, 32_768), PUBLISHED[name], strict=True):
        assert round(SHAPES[name].flops_per_token(length, lora=False) / 1e9, 2) == full
        assert round(SHAPES[name].flops_per_token(length, lora=True) / 1e9, 2) == lora


@pytest.mark.parametrize("name", ["0.6B", "1.7B", "8B"])
def test_weights_are_those_of_the_model_that_transformers_builds(name: str) -> None:
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    shape = SHAPES[name]
    with torch.device("meta"):
        model = Qwen3ForCausalLM(Qwen3Config(**shape.config()))
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    assert sum(module.weight.numel() for module in linear) == shape.layer_weights + shape.head_weights
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == shape.tied


def test_the_lists_are_what_was_drawn() -> None:
    drawn = rows.draw_lengths()
    assert {name: rows.read_lengths(name) for name in rows.LISTS} == drawn
    means = {name: sum(lengths) / len(lengths) for name, lengths in drawn.items()}
    assert means["alpaca"] == pytest.approx(132, rel=0.01)
    assert means["mixed"] == pytest.approx(900, rel=0.01)
    assert all(max(lengths) <= rows.LISTS[name].pack_length for name, lengths in drawn.items())


@pytest.mark.parametrize("name", [name for name in rows.LISTS if not name.startswith("long")])
def test_steps_of_padded_and_of_packed_rows_hold_about_the_same_tokens(name: str) -> None:
    one, lengths = rows.LISTS[name], rows.read_lengths(name)
    slots, tokens = one.pack_length * one.packs_per_step, one.rows_per_step * sum(lengths) / len(lengths)
    assert tokens == pytest.approx(slots, rel=0.3)
    assert one.rows_per_step % one.rows_per_forward == 0


def test_rows_have_their_lengths_and_their_share_of_trained_tokens() -> None:
    made = list(rows.make_rows("smoke", 512))
    assert [len(row["input_ids"]) for row in made] == rows.read_lengths("smoke")
    trained = sum(label != rows.UNTRAINED for row in made for label in row["labels"])
    assert trained / sum(rows.read_lengths("smoke")) == pytest.approx(0.56, abs=0.02)
    assert all(label in (id_, -100) for row in made for id_, label in zip(row["input_ids"], row["labels"], strict=True))
    assert made == list(rows.make_rows("smoke", 512))


def row_of(contestant: str, **figures: Any) -> dict[str, Any]:
    row = {
        "contestant": contestant, "shape": "8B", "list": "long16k", "method": "lora", "date": "2026-01-01",
        "tokens_per_second": 1000.0, "trained_tokens_per_second": 560.0, "peak_gib": 20.0, "first_step_seconds": 3.0,
        "idle_share": 0.25, "mean_loss": 11.9, "versions": {"torch": "2.11"},
    }  # fmt: skip
    return row | figures


def written(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_a_table_tells_shares_and_what_was_not_measured(tmp_path: Path) -> None:
    lines = [
        {"date": "2026-01-01", "device": "a GPU", "matmul_tflops": 90.06, "copy_tbs": 4.0},
        row_of("Trainer, padded"),
        row_of("ours", mean_loss=11.5, peak_gib=None),
        {**row_of("Unsloth"), "problem": "no module named unsloth"},
    ]
    del lines[3]["tokens_per_second"]
    text = table.render(written(tmp_path / "gpu.jsonl", lines))
    # 45.03 GFLOP a token at 16k: 1,000 tokens/s are 45.03 TFLOP/s, half of 90.06 and 5 % of 989
    assert "| Trainer, padded | 1,000 | 560 | 50% | 5% | 20.0 | 3.0 | 25% | 11.900 |" in text
    assert "| ours | 1,000 | 560 | 50% | 5% | not measured | 3.0 | 25% | 11.500 **differs** |" in text
    assert "| Unsloth | not measured: no module named unsloth |" in text
    assert "| TRL, packing, Liger | not measured |" in text
    assert "8B lora on mixed, at least 60% of the measured product: not measured" in text


def test_of_several_measurements_the_latest_counts(tmp_path: Path) -> None:
    lines = [row_of("ours", tokens_per_second=1.0), row_of("ours", tokens_per_second=2000.0)]
    text = table.render(written(tmp_path / "gpu.jsonl", lines))
    assert "| ours | 2,000 |" in text
    assert "| ours | 1 |" not in text


def test_without_a_measurement_nothing_is_claimed(tmp_path: Path) -> None:
    text = table.render(tmp_path / "nothing.jsonl")
    assert "Not measured yet" in text
    assert "tokens/s" not in text


def test_attended_length_is_that_of_a_tokens_document() -> None:
    assert mean_attended([2, 2]) == 2
    assert mean_attended([1, 3]) == (1 + 9) / 4


def test_the_plain_trainer_and_ours_train_the_same_tokens(tmp_path: Path) -> None:
    """Two steps on a CPU: all tokens of the rows are counted, and the losses agree."""
    from gpu.contestants import Job, our_trainer, plain_trainer
    from gpu.measure import measure_trainer
    from on_gpu import make_model

    make_model("tiny", tmp_path / "model")
    rows.write_rows("smoke", SHAPES["tiny"].vocabulary, tmp_path / "rows.jsonl")
    found = {}
    for name, make in (("plain", plain_trainer), ("ours", our_trainer)):
        job = Job(tmp_path / "model", tmp_path / "rows.jsonl", "smoke", False, 2, False, False, str(tmp_path / name))
        found[name] = measure_trainer(make(job), warm_up=1, timed=1, profiled=0)
    second_step = rows.read_lengths("smoke")[8:16]
    plain = found["plain"]
    assert plain["tokens_per_second"] * plain["step_seconds"] == pytest.approx(sum(second_step))
    assert found["ours"]["trained_tokens_per_second"] / found["ours"]["tokens_per_second"] == pytest.approx(
        0.56, abs=0.03
    )
    assert found["ours"]["mean_loss"] == pytest.approx(plain["mean_loss"], rel=table.LOSS_TOLERANCE)
    assert plain["peak_gib"] is None  # no GPU, no figure
