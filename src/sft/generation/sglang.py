"""SGLang (https://docs.sglang.io): its command line, and how it is told of adapters. Seen with 0.5.23.

An adapter is chosen by ``served:adapter`` as ``model``. A bare adapter name, or any other name, is answered from the
BASE model with status 200, and an adapter that was unloaded is loaded again from its old path when it is named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sft.errors import GenerationError
from sft.generation.adapter_folder import AdapterFolder, special_features
from sft.generation.hot_loading import HotLoadingDialect
from sft.generation.http_client import HttpClient
from sft.generation.launch import Launch, LaunchOptions, MakeMerged, device_environment, dtype_on
from sft.generation.openai_dialect import Limits
from sft.generation.server_engine import ServerEngine

CPU_ARGUMENTS = (
    "--device", "cpu", "--attention-backend", "torch_native", "--disable-overlap-schedule", "--disable-cuda-graph",
)  # fmt: skip
CPU_LORA_BACKEND = "torch_native"


@dataclass(frozen=True)
class SGLangDialect(HotLoadingDialect):
    """SGLang's server."""

    name: str = "SGLang"
    kind: str = "sglang"

    def limits(self, client: HttpClient, model: str, *, timeout: float) -> Limits:
        """A prompt must be shorter than ``max_req_input_len``; prompt and answer together may exceed it by 4."""
        answer = client.get("/server_info", timeout=timeout)
        told = answer.json() if answer.status == 200 else None
        longest = told.get("max_req_input_len") if isinstance(told, dict) else None
        if not isinstance(longest, int):
            return super().limits(client, model, timeout=timeout)
        return Limits(context=longest + 4, prompt=longest - 1)

    def adapter_model(self, model: str, adapter: str | None) -> str:
        """``served:adapter``."""
        return model if adapter is None else f"{model}:{adapter}"

    def refuses(self, adapter: AdapterFolder) -> str | None:
        """What SGLang cannot do with an adapter; most of it, it would leave out in silence."""
        special = special_features(adapter.config)
        return f"SGLang has no {', '.join(special)}" if special else None

    def load(self, client: HttpClient, adapter: AdapterFolder, *, timeout: float) -> None:
        """POST /load_lora_adapter."""
        answer = client.post(
            "/load_lora_adapter", {"lora_name": adapter.name, "lora_path": str(adapter.path)}, timeout=timeout
        )
        if answer.status != 200 or answer.json().get("success") is not True:
            raise GenerationError(f"SGLang refuses the adapter {adapter.path} (HTTP {answer.status}): {answer.shown}")

    def unload(self, client: HttpClient, name: str, *, timeout: float) -> None:
        """POST /unload_lora_adapter. It is not asked for by this name again, so it is not loaded again either."""
        answer = client.post("/unload_lora_adapter", {"lora_name": name}, timeout=timeout)
        if answer.status != 200 and b"does not exist" not in answer.body:
            raise GenerationError(f"SGLang does not unload the adapter {name!r} (HTTP {answer.status}): {answer.shown}")


def sglang_server(
    model: str,
    tokenizer: Any,
    options: LaunchOptions,
    *,
    concurrency: int = 16,
    request_timeout: float = 600.0,
    make_merged: MakeMerged | None = None,
) -> ServerEngine:
    """An SGLang of our own; it runs from the first ``start`` or ``use_adapter`` until ``stop``.

    Sampled answers are drawn anew each time, whatever the seed, unless ``options.arguments`` has
    ``--enable-deterministic-inference``.
    """
    launch = Launch(
        options,
        model,
        lambda folder, name, port: sglang_command(options, folder, name, port),
        device_environment(options),
    )
    return ServerEngine(
        SGLangDialect(),
        tokenizer,
        launch=launch,
        concurrency=concurrency,
        request_timeout=request_timeout,
        make_merged=make_merged,
    )


def sglang_command(options: LaunchOptions, folder: str, name: str, port: int) -> list[str]:
    """``python -m sglang.launch_server``. Its warm-up request is left out: ours checks the answer, too."""
    command = [options.python, "-m", "sglang.launch_server", "--model-path", folder, "--served-model-name", name]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", dtype_on(options), "--skip-server-warmup"]
    command += ["--mem-fraction-static", f"{options.memory_fraction:g}"]
    if options.gpus:
        command += ["--tp-size", str(len(options.gpus))]
    else:
        command += CPU_ARGUMENTS
    if options.context is not None:
        command += ["--context-length", str(options.context)]
    if options.lora is not None:
        command += ["--enable-lora", "--max-lora-rank", str(options.lora.rank), "--max-loras-per-batch", "2"]
        command += ["--lora-target-modules", *(options.lora.target_modules or ("all",))]
        command += [] if options.gpus else ["--lora-backend", CPU_LORA_BACKEND]
    return [*command, *options.arguments]
