"""transformers' own server (``transformers serve``): slow, everywhere where transformers is. Seen with 5.23.

It knows no adapters and takes prompts as text. It reads whole generation configs, so that stop tokens can be named.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sft.generation.engine import Sampling
from sft.generation.http_client import HttpClient
from sft.generation.launch import Launch, LaunchOptions, MakeMerged, device_environment, dtype_on
from sft.generation.openai_dialect import Limits, OpenAIDialect
from sft.generation.server_engine import ServerEngine
from sft.generation.stop_tokens import as_token_ids


@dataclass(frozen=True)
class TransformersDialect(OpenAIDialect):
    """The server of ``transformers serve``."""

    name: str = "transformers serve"
    kind: str = "transformers"
    takes_token_ids: bool = False
    repeats_model = True

    context: int | None = None

    generation_config: Mapping[str, Any] = field(default_factory=dict)
    """The model's own, without which naming stop tokens would undo it."""

    def sampling_fields(self, sampling: Sampling) -> dict[str, Any]:
        """What OpenAI has no word for goes into a generation config, which then stands in the place of the model's."""
        drawn_from_few = sampling.temperature > 0 and sampling.top_k > 0
        if not (sampling.stop_token_ids or sampling.min_new_tokens or drawn_from_few):
            return {}
        config = dict(self.generation_config)
        stops = (*as_token_ids(config.get("eos_token_id")), *sampling.stop_token_ids)
        config["eos_token_id"] = list(as_token_ids(stops)) or None
        config["min_new_tokens"] = sampling.min_new_tokens or None
        if sampling.temperature > 0:
            config |= {"do_sample": True, "top_k": sampling.top_k or None}
        return {"generation_config": json.dumps(config)}

    def probe_fields(self) -> dict[str, Any]:
        """It gives no log probabilities; a config without penalties leaves the bare weights."""
        return {"generation_config": json.dumps({"eos_token_id": self.generation_config.get("eos_token_id")})}

    def limits(self, client: HttpClient, model: str, *, timeout: float) -> Limits:
        """It does not say what fits; past the model's context it would go on and write nonsense."""
        return Limits(self.context)


def transformers_server(
    model: str,
    tokenizer: Any,
    options: LaunchOptions | None = None,
    *,
    concurrency: int = 1,
    request_timeout: float = 600.0,
    make_merged: MakeMerged | None = None,
) -> ServerEngine:
    """A server of our own, in the environment that we run in unless the options name another.

    It answers one request at a time: more would wait there, and sampled answers would get each other's seeds. Adapters
    are served as merged models, by a new start.
    """
    options = options or LaunchOptions()
    launch = Launch(
        options,
        model,
        lambda folder, name, port: transformers_command(options, folder, port),
        device_environment(options),
        names_freely=False,
    )
    return ServerEngine(
        TransformersDialect(
            context=options.context or read_json(model, "config.json").get("max_position_embeddings"),
            generation_config=read_json(model, "generation_config.json"),
        ),
        tokenizer,
        launch=launch,
        concurrency=concurrency,
        request_timeout=request_timeout,
        make_merged=make_merged,
    )


def transformers_command(options: LaunchOptions, folder: str, port: int) -> list[str]:
    """``transformers serve MODEL``: with a model named, it loads this one first and serves no other."""
    command = [options.python, "-m", "transformers.cli.transformers", "serve", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--dtype", dtype_on(options), "--device", "auto" if options.gpus else "cpu"]
    return [*command, *options.arguments, folder]


def read_json(model: str, name: str) -> dict[str, Any]:
    """A file of a model's folder; empty where there is none."""
    path = Path(model).expanduser() / name
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
