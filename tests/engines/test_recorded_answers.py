"""What the unit tests replay is what the real servers say. `SFT_RECORD_ANSWERS=1 make test-engines` records it anew."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sft.generation.server_engine import ServerEngine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

RECORDED = Path(__file__).resolve().parent.parent / "unit" / "generation" / "served" / "recorded"
ROUTES = {
    "sglang": ("/load_lora_adapter", "/unload_lora_adapter"),
    "vllm": ("/v1/load_lora_adapter", "/v1/unload_lora_adapter"),
}
VERSION_ROUTES = {"sglang": "/server_info", "vllm": "/version"}
KEPT = ("version", "max_req_input_len", "max_total_num_tokens")
"""Of /server_info, which has hundreds of keys."""

CHANGING = ("created", "system_fingerprint", "permission")


def exchanges(kind: str, adapter: Path) -> dict[str, tuple[str, dict[str, Any] | None]]:
    """Name -> route and body, in an order in which each makes sense."""
    load, unload = ROUTES[kind]
    named = {"lora_name": "one", "lora_path": str(adapter)}
    greedy = {"model": "tiny", "prompt": [5, 6, 7], "max_tokens": 6, "temperature": 0.0, "return_token_ids": True}
    by_adapter = {**greedy, "model": "tiny:one" if kind == "sglang" else "one"}
    return {
        "version": (VERSION_ROUTES[kind], None),
        "models": ("/v1/models", None),
        "cut": ("/v1/completions", greedy),
        "stopped": ("/v1/completions", {**greedy, "stop_token_ids": list(range(3, 350))}),
        "first_token": ("/v1/completions", {**greedy, "max_tokens": 1, "logprobs": 1, "repetition_penalty": 1.0}),
        "adapter_never_loaded": ("/v1/completions", by_adapter),
        "load": (load, named),
        "models_with_adapter": ("/v1/models", None),
        "by_adapter": ("/v1/completions", by_adapter),
        "load_again": (load, named),
        "load_nowhere": (load, {"lora_name": "two", "lora_path": "/nowhere"}),
        "unload": (unload, {"lora_name": "one"}),
        "unload_unknown": (unload, {"lora_name": "two"}),
        "too_long": ("/v1/completions", {**greedy, "prompt": [5] * 511, "max_tokens": 64, "return_token_ids": False}),
        "no_prompt": ("/v1/completions", {**greedy, "prompt": []}),
    }


def ask(engine: ServerEngine, route: str, body: dict[str, Any] | None, hide: dict[str, str]) -> dict[str, Any]:
    client = engine.server.client
    answer = client.get(route, timeout=60) if body is None else client.post(route, body, timeout=60)
    text = answer.body.decode()
    for found, shown in hide.items():
        text = text.replace(found, shown)
    try:
        content = json.loads(text)
    except ValueError:
        content = text
    if route == "/server_info":
        content = {name: content[name] for name in KEPT}
    return {"status": answer.status, "body": without(content, CHANGING)}


def without(value: Any, names: tuple[str, ...]) -> Any:
    """A model's name is kept; the number of a request is not."""
    if isinstance(value, dict):
        dropped = names if value.get("object") == "model" else (*names, "id")
        return {name: without(part, names) for name, part in value.items() if name not in dropped}
    return [without(part, names) for part in value] if isinstance(value, list) else value


def rounded(value: Any) -> Any:
    """Log probabilities differ in their last digits from one CPU to another."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return round(value, 2) if isinstance(value, float) else value


def test_it_says_what_was_recorded(kind: str, engine: ServerEngine, models: Any) -> None:
    engine.use_adapter(None)
    served = engine.server.model
    hide = {str(models.adapters[1]): "ADAPTER", str(models.base): "MODEL", served: "tiny"}
    found = {}
    for name, (route, body) in exchanges(kind, models.adapters[1]).items():
        if body is not None and "model" in body:
            body = {**body, "model": body["model"].replace("tiny", served)}
        found[name] = {"route": route, **ask(engine, route, body, hide)}
    file = RECORDED / f"{kind}.json"
    if os.environ.get("SFT_RECORD_ANSWERS") == "1":
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert rounded(found) == rounded(json.loads(file.read_text(encoding="utf-8")))
