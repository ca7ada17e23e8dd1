"""Every training file that LLaMA-Factory ships, as facts in llama_factory.jsonl: read whole, or refused by name."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from sft.config import SFTConfig, read_file
from sft.dialects import Translation, recognise, translate

FILE = Path(__file__).with_name("llama_factory.jsonl")
SHIPPED: dict[str, dict[str, Any]] = {
    entry["path"]: entry["values"] for entry in map(json.loads, FILE.read_text(encoding="utf-8").splitlines())
}
V0 = [path for path in SHIPPED if "/v1/" not in path]
SFT = [path for path in V0 if SHIPPED[path]["stage"] == "sft"]

PICTURES = {"columns": {"messages": "messages", "images": "images"}, "formatting": "sharegpt"}
INFO: dict[str, dict[str, Any]] = {
    "identity": {"file_name": "identity.json"},
    "alpaca_en_demo": {"file_name": "alpaca_en_demo.json"},
    "alpaca_zh_demo": {"file_name": "alpaca_zh_demo.json"},
    "alpaca_zh": {"hf_hub_url": "llamafactory/alpaca_zh", "ms_hub_url": "llamafactory/alpaca_zh"},
    "mllm_demo": {"file_name": "mllm_demo.json", **PICTURES},
    "llava_1k_en": {"hf_hub_url": "BUAADreamer/llava-en-zh-2k", "subset": "en", **PICTURES},
    "llava_1k_zh": {"hf_hub_url": "BUAADreamer/llava-en-zh-2k", "subset": "zh", **PICTURES},
    "c4_demo": {"file_name": "c4_demo.jsonl", "columns": {"prompt": "text"}},
    "dpo_en_demo": {
        "file_name": "dpo_en_demo.json",
        "ranking": True,
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
    },
    "kto_en_demo": {"file_name": "kto_en_demo.json", "columns": {"messages": "messages", "kto_tag": "label"}},
    "rlhf_v": {"hf_hub_url": "llamafactory/RLHF-V", "ranking": True, **PICTURES},
}
"""The data sets they name, as the dataset_info.json beside them has them. ``med`` and ``math`` it has not."""

REFUSED = {
    "dataset": 11, "template": 12, "use_kt": 6, "finetuning_type": 5, "kt_config": 4, "tensor_model_parallel_size": 3,
    "pipeline_model_parallel_size": 3, "sequence_parallel": 3, "use_distributed_optimizer": 3,
    "overlap_param_gather": 2, "overlap_grad_reduce": 2, "fp8": 2, "use_asft_loss": 2, "bias_activation_fusion": 2,
    "apply_rope_fusion": 2, "expert_model_parallel_size": 2, "fp8_enable_fsdp_float8_all_gather": 1,
    "use_adam_mini": 1, "use_apollo": 1, "use_badam": 1, "use_dft_loss": 1, "use_galore": 1,
    "use_llama_pro": 1, "mixture_of_depths": 1, "use_muon": 1, "moe_grouped_gemm": 1, "moe_token_dispatcher_type": 1,
    "recompute_granularity": 1, "context_parallel_size": 1, "mixed_precision": 1, "use_packed_sequences": 1,
    "export_hf_on_finish": 1,
}  # fmt: skip
"""In how many of the 50 SFT files a key is refused. Everything else in them is read."""

READ_WHOLE = 15
"""SFT files without any refused key."""

MEANT = {
    "model_name_or_path": "model_name_or_path",
    "output_dir": "output_dir",
    "cutoff_len": "max_length",
    "template": "chat_template",
    "lora_rank": "lora_r",
    "learning_rate": "learning_rate",
    "num_train_epochs": "num_train_epochs",
    "max_steps": "max_steps",
    "per_device_train_batch_size": "per_device_train_batch_size",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "lr_scheduler_type": "lr_scheduler_type",
    "warmup_ratio": "warmup_steps",
    "bf16": "bf16",
    "logging_steps": "logging_steps",
    "save_steps": "save_steps",
    "overwrite_output_dir": "overwrite_output_dir",
    "dataloader_num_workers": "dataloader_num_workers",
    "report_to": "report_to",
    "seed": "seed",
    "packing": "packing",
    "loraplus_lr_ratio": "loraplus_lr_ratio",
}


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder ``data`` as theirs, from which they are started."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(INFO), encoding="utf-8")
    for info in INFO.values():
        if "file_name" in info:
            (tmp_path / "data" / info["file_name"]).touch()
    monkeypatch.chdir(tmp_path)


def read(path: str) -> Translation:
    Path("train.yaml").write_text(yaml.safe_dump(SHIPPED[path], sort_keys=False), encoding="utf-8")
    values = read_file(Path("train.yaml"))
    assert recognise(values) == "llama_factory"
    return translate(values, "llama_factory")


def test_all_of_them_are_here() -> None:
    kinds = Counter("v1" if "/v1/" in path else values["stage"] for path, values in SHIPPED.items())
    assert kinds == {"sft": 50, "v1": 16, "dpo": 2, "kto": 1, "pt": 1, "rm": 1}


@pytest.mark.parametrize("path", V0)
def test_every_key_of_every_file_has_a_note(path: str) -> None:
    translation = read(path)
    said = Counter(note.key for note in translation.notes if note.status not in ("defaulted", "refused"))
    refused = {note.key for note in translation.notes if note.status == "refused"}
    assert set(said) | refused == set(SHIPPED[path]), "one note for each key, and none for others"
    assert not set(said) & refused
    assert set(said.values()) <= {1}
    for note in translation.notes:
        assert note.reason or note.status in ("kept", "renamed", "defaulted"), note
    if not refused:
        check_meaning(SHIPPED[path], SFTConfig(**translation.accepted()))


def check_meaning(given: dict[str, Any], config: SFTConfig) -> None:
    for key, target in MEANT.items():
        if key in given and not (key == "lora_rank" and given["finetuning_type"] != "lora"):
            assert str(getattr(config, target)) == str(yaml_number(given[key])), key
    assert config.use_lora is (given["finetuning_type"] == "lora")
    if config.use_lora:
        assert config.lora_alpha == given.get("lora_alpha", 2 * given["lora_rank"])
        assert (config.lora_dropout, config.target_modules) == (0.0, "all-linear")
    names = re.split(r",\s*", given["dataset"])
    assert isinstance(config.data_path, list)
    assert len(config.data_path) == len(names)
    assert {entry.get("limit") for entry in config.data_path} == {given.get("max_samples")}
    assert config.gradient_checkpointing is not given.get("disable_gradient_checkpointing", False)
    assert config.load_in_4bit is (given.get("quantization_bit") == 4)
    assert ("loss_plot" in config.also_write) is given.get("plot_loss", False)
    assert config.ddp_timeout <= 1800
    assert config.model_dir == "."


def yaml_number(value: Any) -> Any:
    """``2e-5`` is text to YAML and a number to both programs."""
    return float(value) if isinstance(value, str) and re.fullmatch(r"[\d.]+e-?\d+", value) else value


def test_what_is_refused_and_how_many_files_are_read_whole(record_property: Any) -> None:
    refused = {path: {note.key for note in read(path).notes if note.status == "refused"} for path in SFT}
    assert dict(Counter(key for found in refused.values() for key in found)) == REFUSED
    whole = [path for path, found in refused.items() if not found]
    record_property("read whole", len(whole))
    assert len(whole) == READ_WHOLE


@pytest.mark.parametrize("path", [path for path in V0 if SHIPPED[path]["stage"] in ("dpo", "pt", "kto", "rm")])
def test_other_stages(path: str) -> None:
    translation, stage = read(path), SHIPPED[path]["stage"]
    refused = {note.key for note in translation.notes if note.status == "refused"}
    if stage in ("kto", "rm"):
        assert "stage" in refused
    elif "qwen3vl" in path:
        assert refused == {"dataset", "template"}
    else:
        config = SFTConfig(**translation.accepted())
        assert config.stage == {"dpo": "dpo", "pt": "pretrain"}[stage]
        (source,) = config.data_path or []
        wanted = {"text": "text"} if stage == "pt" else {"messages": "conversations"}
        assert wanted.items() <= source["columns"].items()


@pytest.mark.parametrize("path", [path for path in SHIPPED if "/v1/" in path])
def test_v1_files_are_refused_by_name(path: str) -> None:
    (problem,) = read(path).problems()
    assert "LLaMA-Factory v1" in problem
