"""Any server that speaks OpenAI's completions API, at an address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sft.generation.http_client import HttpClient
from sft.generation.openai_dialect import OpenAIDialect
from sft.generation.running_server import RunningServer
from sft.generation.server_engine import ServerEngine


def openai_server(
    address: str,
    *,
    model: str | None = None,
    tokenizer: Any,
    api_key: str | None = None,
    takes_token_ids: bool = True,
    extra_fields: Mapping[str, Any] | None = None,
    concurrency: int = 16,
    request_timeout: float = 600.0,
) -> ServerEngine:
    """An engine for a server that runs already; its adapters, if it has any, are chosen by ``model``.

    Args:
        address: such as ``http://127.0.0.1:8000``.
        model: its name in requests. None: the only one that the server lists.
        tokenizer: the model's; answers are then checked to be for the very tokens asked. None: prompts are text, sent
            as they are, and the server may put tokens before them.
        api_key: sent as a bearer token.
        takes_token_ids: send token ids. False: text, chosen so that the server's tokenizer makes the same tokens of it.
        extra_fields: added to every request.
        concurrency: requests at a time.
        request_timeout: seconds for one request.

    Raises:
        ConfigError: the address is none.
    """
    dialect = OpenAIDialect(takes_token_ids=takes_token_ids, extra_fields=extra_fields)
    return attach(
        dialect,
        address,
        model=model,
        tokenizer=tokenizer,
        api_key=api_key,
        concurrency=concurrency,
        request_timeout=request_timeout,
    )


def attach(
    dialect: OpenAIDialect,
    address: str,
    *,
    model: str | None = None,
    tokenizer: Any,
    api_key: str | None = None,
    concurrency: int = 16,
    request_timeout: float = 600.0,
) -> ServerEngine:
    """An engine for a running server of a known kind. Folders of adapters must be visible to it under the same path."""
    server = RunningServer(dialect, HttpClient(address, api_key=api_key), model or "", tokenizer)
    return ServerEngine(dialect, tokenizer, attached=server, concurrency=concurrency, request_timeout=request_timeout)
