"""A real server on the CPU, one at a time, with a tiny Llama and two adapters; opt-in by `make test-engines`.

The servers live in environments of their own, which `make_env_sglang.sh` and `make_env_vllm.sh` make.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from sft.generation.adapter_folder import LoraShape
from sft.generation.launch import LaunchOptions
from sft.generation.server_engine import ServerEngine
from sft.generation.sglang import sglang_server
from sft.generation.vllm import vllm_server

ROOT = Path(__file__).resolve().parent.parent.parent

ENVIRONMENT = {
    "OMP_NUM_THREADS": "2",
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
}
ARGUMENTS = {
    "sglang": ("--max-total-tokens", "8192"),
    "vllm": ("--enforce-eager", "--max-num-seqs", "8"),
}
START: dict[str, Callable[..., ServerEngine]] = {"sglang": sglang_server, "vllm": vllm_server}


@pytest.fixture(scope="module", params=["sglang", "vllm"])
def kind(request: pytest.FixtureRequest) -> str:
    kind = str(request.param)
    if os.environ.get("SFT_TEST_ENGINES") != "1":
        pytest.skip("real servers are tested by `make test-engines`")
    if not python_of(kind).is_file():
        pytest.skip(f"there is no {python_of(kind)}; run tests/engines/make_env_{kind}.sh")
    return kind


def python_of(kind: str) -> Path:
    return ROOT / f".venv-{kind}" / "bin" / "python"


class Models:
    """A random Llama with heads of 64 numbers, which vLLM's CPU kernels need, and adapters of random weights."""

    def __init__(self, folder: Path, tokenizer_folder: Path) -> None:
        self.base = folder / "model"
        self.adapters = {1: folder / "adapter_step_1", 2: folder / "adapter_step_2"}
        self.tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(self.tokenizer),
            hidden_size=256,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=64,
            max_position_embeddings=512,
            initializer_range=0.2,  # so that it says many different things, and is sure of them
            bos_token_id=None,
            eos_token_id=self.tokenizer.eos_token_id,
            tie_word_embeddings=False,
        )
        LlamaForCausalLM(config).save_pretrained(self.base)
        self.tokenizer.save_pretrained(self.base)
        for seed, path in self.adapters.items():
            self.write_adapter(path, seed=seed)

    def write_adapter(self, path: Path, *, seed: int, r: int = 8) -> Path:
        torch.manual_seed(seed)
        lora = LoraConfig(
            task_type="CAUSAL_LM", r=r, lora_alpha=16, target_modules=["q_proj", "v_proj"], init_lora_weights=False
        )
        get_peft_model(self.live(0), lora).save_pretrained(path)
        return path

    def live(self, adapter: int) -> Any:
        """The model in this process; 0: without adapter."""
        model = AutoModelForCausalLM.from_pretrained(self.base, dtype=torch.float32)
        return PeftModel.from_pretrained(model, self.adapters[adapter]) if adapter else model


@pytest.fixture(scope="session")
def models(tiny_tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"), tiny_tokenizer_folder)


@pytest.fixture(scope="module")
def options(kind: str, tmp_path_factory: pytest.TempPathFactory) -> LaunchOptions:
    return LaunchOptions(
        python=str(python_of(kind)),
        lora=LoraShape(8, ("q_proj", "v_proj")),
        memory_fraction=0.2,
        arguments=ARGUMENTS[kind],
        environment=ENVIRONMENT,
        log_file=tmp_path_factory.mktemp(kind) / "server.log",
        start_timeout=300,
    )


@pytest.fixture(scope="module")
def engine(kind: str, models: Models, options: LaunchOptions, figures: dict[str, Any]) -> Iterator[ServerEngine]:
    """The server, started once for all tests of its kind; those that kill it leave it to be brought back."""
    engine = START[kind](str(models.base), models.tokenizer, options, concurrency=8, request_timeout=120)
    started = time.monotonic()
    engine.start()
    figures["seconds to start"] = time.monotonic() - started
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def figures(kind: str) -> Iterator[dict[str, Any]]:
    """What was measured on the way; goes to the folder $SFT_ENGINE_FIGURES, for docs/measurements.md."""
    found: dict[str, Any] = {}
    yield found
    if folder := os.environ.get("SFT_ENGINE_FIGURES"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, f"{kind}.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def start_engine(kind: str, models: Models) -> Callable[..., ServerEngine]:
    """Another engine of the kind, not started."""
    return lambda options, **more: START[kind](str(models.base), models.tokenizer, options, **more)
