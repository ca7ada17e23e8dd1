"""Which served engines there are, by the names that options and results have for them."""

from __future__ import annotations

from typing import Any

from sft.errors import ConfigError
from sft.generation.launch import LaunchOptions, MakeMerged
from sft.generation.openai_server import attach, openai_server
from sft.generation.server_engine import ServerEngine
from sft.generation.sglang import SGLangDialect, sglang_server
from sft.generation.transformers_serve import transformers_server
from sft.generation.vllm import VLLMDialect, vllm_server

KINDS = ("sglang", "vllm", "transformers", "openai")


def served_engine(
    kind: str,
    *,
    model: str,
    tokenizer: Any,
    address: str | None = None,
    options: LaunchOptions | None = None,
    concurrency: int = 16,
    request_timeout: float = 600.0,
    make_merged: MakeMerged | None = None,
) -> ServerEngine:
    """An engine of one of the kinds; nothing is started or asked yet.

    Args:
        kind: one of ``KINDS``.
        model: folder or hub name of the base model, where the server is to be started.
        tokenizer: the model's.
        address: of a server that runs already. None: one is started.
        options: how to start it.
        concurrency: requests at a time.
        request_timeout: seconds for one request.
        make_merged: makes a merged model of an adapter that the server cannot load.

    Raises:
        ConfigError: there is no such kind, or it cannot be started.
    """
    shared: dict[str, Any] = {"concurrency": concurrency, "request_timeout": request_timeout}
    options = options or LaunchOptions()
    if address is not None and kind in ("sglang", "vllm"):
        dialect = SGLangDialect() if kind == "sglang" else VLLMDialect()
        return attach(dialect, address, tokenizer=tokenizer, **shared)
    if address is not None and kind == "openai":
        return openai_server(address, tokenizer=tokenizer, **shared)
    if address is None and kind == "sglang":
        return sglang_server(model, tokenizer, options, make_merged=make_merged, **shared)
    if address is None and kind == "vllm":
        return vllm_server(model, tokenizer, options, make_merged=make_merged, **shared)
    if address is None and kind == "transformers":
        return transformers_server(model, tokenizer, options, make_merged=make_merged, request_timeout=request_timeout)
    if kind not in KINDS:
        raise ConfigError(f"There is no engine {kind!r}. Served engines are {', '.join(KINDS)}.")
    if address is None:
        raise ConfigError(f"The engine {kind!r} cannot be started by sft: give the address of one that runs.")
    raise ConfigError(f"The engine {kind!r} is always started by sft: leave its address ({address}) out.")
