"""Which served engines there are, by the names that options and results have for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sft.errors import ConfigError
from sft.generation.launch import LaunchOptions, MakeMerged
from sft.generation.openai_dialect import OpenAIDialect
from sft.generation.openai_server import attach
from sft.generation.server_engine import ServerEngine
from sft.generation.sglang import SGLangDialect, sglang_server
from sft.generation.transformers_serve import transformers_server
from sft.generation.vllm import VLLMDialect, vllm_server

STARTED: dict[str, Callable[..., ServerEngine]] = {
    "sglang": sglang_server,
    "vllm": vllm_server,
    "transformers": transformers_server,
}
ATTACHED: dict[str, type[OpenAIDialect]] = {"sglang": SGLangDialect, "vllm": VLLMDialect, "openai": OpenAIDialect}


def served_engine(
    kind: str,
    *,
    model: str,
    tokenizer: Any,
    address: str | None = None,
    options: LaunchOptions | None = None,
    concurrency: int | None = None,
    request_timeout: float = 600.0,
    make_merged: MakeMerged | None = None,
) -> ServerEngine:
    """An engine of one of the kinds; nothing is started or asked yet.

    Args:
        kind: ``sglang``, ``vllm``, ``transformers`` or ``openai``.
        model: folder or hub name of the base model, where the server is to be started.
        tokenizer: the model's.
        address: of a server that runs already. None: one is started.
        options: how to start it.
        concurrency: requests at a time. None: as many as suits the kind.
        request_timeout: seconds for one request.
        make_merged: makes a merged model of an adapter that the server cannot load.

    Raises:
        ConfigError: there is no such kind, or it cannot be started, or not be used at an address.
    """
    shared: dict[str, Any] = {"request_timeout": request_timeout}
    if concurrency is not None:
        shared["concurrency"] = concurrency
    if address is not None and kind in ATTACHED:
        return attach(ATTACHED[kind](), address, tokenizer=tokenizer, **shared)
    if address is None and kind in STARTED:
        return STARTED[kind](model, tokenizer, options or LaunchOptions(), make_merged=make_merged, **shared)
    if kind not in {*STARTED, *ATTACHED}:
        raise ConfigError(f"There is no engine {kind!r}. Served engines are {', '.join({**STARTED, **ATTACHED})}.")
    if address is None:
        raise ConfigError(f"The engine {kind!r} is not started by sft: give the address of one that runs.")
    raise ConfigError(f"The engine {kind!r} is always started by sft: leave the address {address!r} out.")
