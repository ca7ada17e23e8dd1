"""The command lines, word for word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sft.errors import GenerationError
from sft.generation import Sampling
from sft.generation.adapter_folder import LoraShape
from sft.generation.launch import Launch, LaunchOptions, device_environment
from sft.generation.prompt_text import text_for
from sft.generation.sglang import sglang_command
from sft.generation.transformers_serve import TransformersDialect, transformers_command, transformers_server
from sft.generation.vllm import vllm_command, vllm_environment

GPUS = LaunchOptions(
    python="/env/bin/python",
    gpus=("2", "3"),
    dtype="bfloat16",
    context=4096,
    lora=LoraShape(12, ("q_proj", "v_proj")),
    arguments=("--more", "words"),
)
CPU = LaunchOptions(python="/env/bin/python")


def test_sglang_on_gpus() -> None:
    assert " ".join(sglang_command(GPUS, "/models/m", "sft-1", 9)) == (
        "/env/bin/python -m sglang.launch_server --model-path /models/m --served-model-name sft-1 --host 127.0.0.1 "
        "--port 9 --dtype bfloat16 --skip-server-warmup --mem-fraction-static 0.7 --tp-size 2 --context-length 4096 "
        "--enable-lora --max-lora-rank 12 --max-loras-per-batch 2 --lora-target-modules q_proj v_proj --more words"
    )
    assert device_environment(GPUS) == {"CUDA_VISIBLE_DEVICES": "2,3"}


def test_sglang_on_the_cpu() -> None:
    assert " ".join(sglang_command(CPU, "m", "sft-1", 9)) == (
        "/env/bin/python -m sglang.launch_server --model-path m --served-model-name sft-1 --host 127.0.0.1 --port 9 "
        "--dtype float32 --skip-server-warmup --mem-fraction-static 0.7 --device cpu --attention-backend torch_native "
        "--disable-overlap-schedule --disable-cuda-graph"
    )
    with_lora = LaunchOptions(python="/env/bin/python", lora=LoraShape(8, ()))
    assert " ".join(sglang_command(with_lora, "m", "sft-1", 9)).endswith(
        "--lora-target-modules all --lora-backend torch_native"
    )
    assert device_environment(CPU) == {"CUDA_VISIBLE_DEVICES": ""}


def test_vllm_on_gpus() -> None:
    assert " ".join(vllm_command(GPUS, "/models/m", "sft-1", 9)) == (
        "/env/bin/python -m vllm.entrypoints.cli.main serve /models/m --served-model-name sft-1 --host 127.0.0.1 "
        "--port 9 --dtype bfloat16 --tensor-parallel-size 2 --gpu-memory-utilization 0.7 --max-model-len 4096 "
        "--enable-lora --max-lora-rank 16 --max-loras 1 --more words"
    )
    environment = vllm_environment(GPUS)
    assert environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    assert environment["CUDA_VISIBLE_DEVICES"] == "2,3"


def test_vllm_on_the_cpu() -> None:
    assert " ".join(vllm_command(CPU, "m", "sft-1", 9)) == (
        "/env/bin/python -m vllm.entrypoints.cli.main serve m --served-model-name sft-1 --host 127.0.0.1 --port 9 "
        "--dtype float32"
    )


def test_transformers() -> None:
    assert " ".join(transformers_command(CPU, "m", 9)) == (
        "/env/bin/python -m transformers.cli.transformers serve --host 127.0.0.1 --port 9 --dtype float32 "
        "--device cpu m"
    )
    assert " ".join(transformers_command(GPUS, "m", 9)) == (
        "/env/bin/python -m transformers.cli.transformers serve --host 127.0.0.1 --port 9 --dtype bfloat16 "
        "--device auto --more words m"
    )


def test_transformers_is_told_of_stops_in_a_generation_config(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, "repetition_penalty": 1.05}))
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 512}))
    dialect = transformers_server(str(tmp_path), None).dialect
    assert isinstance(dialect, TransformersDialect)
    assert dialect.sampling_fields(Sampling(max_new_tokens=4)) == {}
    fields = dialect.sampling_fields(Sampling(max_new_tokens=4, min_new_tokens=2, stop_token_ids=(7, 2)))
    assert json.loads(fields["generation_config"]) == {
        "eos_token_id": [2, 7],
        "repetition_penalty": 1.05,
        "min_new_tokens": 2,
    }
    assert dialect.context == 512


def test_a_log_file_of_ones_own_or_a_new_one(tmp_path: Path) -> None:
    named = Launch(LaunchOptions(log_file=tmp_path / "logs" / "server.log"), "m", lambda *_: [], {})
    assert named.choose_log_file() == tmp_path / "logs" / "server.log"
    unnamed = Launch(LaunchOptions(), "m", lambda *_: [], {})
    files = {unnamed.choose_log_file(), unnamed.choose_log_file()}
    assert len(files) == 2
    for file in files:
        file.parent.rmdir()


def test_text_that_gives_the_tokens(tokenizer: Any) -> None:
    ids = tokenizer("The capital of France")["input_ids"]
    assert text_for(tokenizer, "The capital of France", ids) == "The capital of France"
    assert text_for(tokenizer, ids, ids) == "The capital of France"
    lone_bytes = [tokenizer.convert_tokens_to_ids("Ã")] * 3
    with pytest.raises(GenerationError, match="A prompt of 3 tokens cannot be sent to a server that takes text only"):
        text_for(tokenizer, lone_bytes, lone_bytes)


def test_text_for_a_server_that_puts_the_first_token_itself() -> None:
    class Sentence:
        bos_token = "<s>"

        def __call__(self, text: str) -> dict[str, list[int]]:
            return {"input_ids": [1, *map(ord, text)]}

        def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
            return "<s> " + "".join(map(chr, ids[1:]))

    ids = [1, ord("a"), ord("b")]
    assert text_for(Sentence(), "<s>ab", ids) == "ab"
    assert text_for(Sentence(), ids, ids) == "ab"
    with pytest.raises(GenerationError, match="text only"):
        text_for(Sentence(), "ab", ids[1:])


def test_vllm_beside_a_training_on_the_cpu_does_not_take_all_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    assert vllm_environment(LaunchOptions())["VLLM_CPU_KVCACHE_SPACE"] == "4"
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    assert vllm_environment(LaunchOptions())["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert "VLLM_CPU_KVCACHE_SPACE" not in vllm_environment(GPUS)
