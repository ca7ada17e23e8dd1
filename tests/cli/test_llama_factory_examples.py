"""Examples that LLaMA-Factory ships, trained: its stages sft, dpo and pt, 4-bit, and freezing, from file to folder.

What is changed, by key=value as its users would: the model is a tiny one, steps and lengths are few.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from sft.cli.main import main
from sft.errors import EXIT_DONE

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*deepspeed.*"),
]

CORPUS = Path(__file__).resolve().parents[1] / "parity" / "dialects" / "llama_factory.jsonl"
SHIPPED: dict[str, dict[str, Any]] = {
    entry["path"].removeprefix("examples/").removesuffix(".yaml"): entry["values"]
    for entry in map(json.loads, CORPUS.read_text(encoding="utf-8").splitlines())
}
SMALL = {
    "max_steps": 2, "cutoff_len": 256, "logging_steps": 1, "max_samples": 12, "gradient_accumulation_steps": 1,
    "dataloader_num_workers": 0, "learning_rate": "1e-3", "warmup_ratio": 0, "template": "qwen",
}  # fmt: skip

INFO = {
    "identity": {"file_name": "identity.json"},
    "alpaca_en_demo": {"file_name": "identity.json"},
    "c4_demo": {"file_name": "texts.jsonl", "columns": {"prompt": "text"}},
    "dpo_en_demo": {
        "file_name": "pairs.json",
        "ranking": True,
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
    },
}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data of the shapes that the examples name."""
    data = tmp_path / "data"
    data.mkdir()
    rows = [{"instruction": f"Who are you, {n}?", "input": "", "output": f"I am number {n}."} for n in range(20)]
    pairs = [
        {
            "conversations": [{"from": "human", "value": f"Name {n}"}],
            "chosen": {"from": "gpt", "value": f"It is {n}."},
            "rejected": {"from": "gpt", "value": "No."},
        }
        for n in range(20)
    ]
    (data / "dataset_info.json").write_text(json.dumps(INFO), encoding="utf-8")
    (data / "identity.json").write_text(json.dumps(rows), encoding="utf-8")
    (data / "pairs.json").write_text(json.dumps(pairs), encoding="utf-8")
    texts = [json.dumps({"text": f"The sea has {n} islands. " * 12}) for n in range(20)]
    (data / "texts.jsonl").write_text("\n".join(texts), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SFT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def train(name: str, model: Path, **changed: Any) -> dict[str, Any]:
    """Train an example and give back what its run.json says."""
    values = {**SHIPPED[name]}
    Path("example.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    pairs = {**SMALL, "model_name_or_path": model, "output_dir": "out", **changed}
    assert main(["train", "example.yaml", *(f"{key}={value}" for key, value in pairs.items())]) == EXIT_DONE
    record: dict[str, Any] = json.loads(Path("out/run.json").read_text(encoding="utf-8"))
    return record


EXAMPLES = [
    pytest.param("train_lora/qwen3_lora_sft", {}, {"stage": "sft", "use_lora": True}, id="sft"),
    pytest.param("train_lora/qwen3_lora_dpo", {}, {"stage": "dpo", "dpo_beta": 0.1}, id="dpo"),
    pytest.param("train_lora/qwen3_lora_pretrain", {}, {"stage": "pretrain"}, id="pt"),
    pytest.param("extras/fsdp_qlora/llama3_lora_sft", {}, {"load_in_4bit": True}, id="qlora"),
    pytest.param(
        "extras/llama_pro/llama3_freeze_sft",
        {"use_llama_pro": "null", "freeze_trainable_layers": 1},
        {"trainable_layers": 1, "use_lora": False},
        id="freeze",
    ),
]


@pytest.mark.parametrize(("name", "changed", "wanted"), EXAMPLES)
def test_example(
    name: str, changed: dict[str, Any], wanted: dict[str, Any], work: Path, tiny_model_folder: Path
) -> None:
    record = train(name, tiny_model_folder, **changed)
    assert {key: record["config"][key]["value"] for key in wanted} == wanted
    assert record["result"]["steps"] == 2
    log = [json.loads(line) for line in Path("out/trainer_log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["current_steps"] for line in log if "loss" in line] == [1, 2]
    assert ("accuracy" in log[0]) is (wanted.get("stage") == "dpo")
    assert json.loads(Path("out/all_results.json").read_text(encoding="utf-8"))["train_loss"] > 0
    for file in ("training_loss.png", "trainer_state.json", "train_results.json", "tokenizer.json"):
        assert Path("out", file).is_file(), file


def test_example_on_their_own_data(shared_data: Path, work: Path, tiny_model_folder: Path) -> None:
    record = train("train_lora/qwen3_lora_sft", tiny_model_folder, dataset_dir=shared_data / "llamafactory")
    paths = [source["path"] for source in record["config"]["data_path"]["value"]]
    assert [Path(path).name for path in paths] == ["identity.json", "alpaca_en_demo.json"]
    assert record["result"]["steps"] == 2
