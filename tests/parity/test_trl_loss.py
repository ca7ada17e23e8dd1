"""Our loss = TRL's assistant-only loss, where the template's markers let TRL compute it."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip(
    "trl", reason="the extra `bench` is not installed (pip install -e '.[bench]'), so no TRL to compare with"
)

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # TRL's own deprecations

# Observed: 1e-6, float32 sums of up to 1,000 terms in another order.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("trl_loss", ROOT / "benchmarks" / "trl_loss.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def check(benchmark: ModuleType, tokenizer: Any, chats: list[list[dict[str, str]]]) -> None:
    tokenizer.chat_template = benchmark.MARKED_CHATML
    model = benchmark.tiny_model(tokenizer)
    ours, theirs = benchmark.measure_ours(model, tokenizer, chats), benchmark.measure_trl(model, tokenizer, chats)
    assert len(ours.rows) == len(chats)
    for one, other in zip(ours.rows, theirs.rows, strict=True):
        assert one.input_ids == other.input_ids
        assert one.loss_mask == other.loss_mask
        assert sum(one.loss_mask) > 0
        assert one.loss == pytest.approx(other.loss, abs=TOLERANCE)
    assert ours.together == pytest.approx(theirs.together, abs=TOLERANCE)


def test_chats_of_the_quickstart(benchmark: ModuleType) -> None:
    lines = (ROOT / "examples" / "quickstart" / "data" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    check(benchmark, benchmark.quickstart_tokenizer(), [json.loads(line)["messages"] for line in lines[:8]])


def test_real_chats_with_a_real_tokenizer(benchmark: ModuleType, shared_data: Path) -> None:
    from transformers import AutoTokenizer

    roles = {"human": "user", "gpt": "assistant"}
    rows = json.loads((shared_data / "sharegpt" / "fastchat_dummy_conversation.json").read_text(encoding="utf-8"))
    chats = [
        [{"role": roles[turn["from"]], "content": turn["value"]} for turn in row["conversations"]] for row in rows[:8]
    ]
    check(benchmark, AutoTokenizer.from_pretrained(shared_data / "models" / "qwen3-tokenizer"), chats)
