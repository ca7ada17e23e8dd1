"""How to speak to an OpenAI-compatible server. Servers with more to say have a dialect of their own on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sft.errors import GenerationError
from sft.generation.adapter_folder import AdapterFolder
from sft.generation.engine import Prompt, Sampling
from sft.generation.http_client import HttpClient
from sft.generation.prompt_text import text_for

SHORT_SECONDS = 30.0
"""For requests that generate nothing."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much fits."""

    context: int | None = None
    """Most tokens of prompt and answer together."""

    prompt: int | None = None
    """Most tokens of a prompt, where that is less."""


@dataclass(frozen=True)
class OpenAIDialect:
    """What every OpenAI-compatible server understands, and nothing more."""

    name: str = "the server"
    """For messages."""

    kind: str = "openai"
    """For results and options."""

    takes_token_ids: bool = True
    """Prompts are sent as token ids. False: as text, in a way that gives the same tokens."""

    extra_fields: Mapping[str, Any] | None = None
    """Fields added to every request, such as a penalty that this server would otherwise set."""

    health_route = "/health"
    """Answers 200 once the server is up."""

    repeats_model = False
    """The model's name in an answer is the name that was asked for."""

    hot_loads = False
    """Adapters can be loaded while it runs."""

    def request(
        self, model: str, prompt: Prompt, ids: Sequence[int] | None, sampling: Sampling, *, seed: int, tokenizer: Any
    ) -> dict[str, Any]:
        """The body of one request to ``/v1/completions``; ``sampling.max_new_tokens`` is what fits."""
        body: dict[str, Any] = {
            "model": model,
            "prompt": self._prompt(prompt, ids, tokenizer),
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
        }
        if sampling.temperature > 0:
            body |= {"top_p": sampling.top_p, "seed": seed}
        return body | self.sampling_fields(sampling) | dict(self.extra_fields or {})

    def sampling_fields(self, sampling: Sampling) -> dict[str, Any]:
        """Fields beyond OpenAI's. Most servers know these under these names; a strict one refuses them."""
        fields: dict[str, Any] = {}
        if sampling.min_new_tokens > 0:
            fields["min_tokens"] = sampling.min_new_tokens
        if sampling.stop_token_ids:
            fields["stop_token_ids"] = list(sampling.stop_token_ids)
        if sampling.temperature > 0 and sampling.top_k > 0:
            fields["top_k"] = sampling.top_k
        return fields

    def probe_fields(self) -> dict[str, Any]:
        """Fields of a request for the likeliest token by the bare weights, and its log probability."""
        return {"logprobs": 1}

    def find_model(self, client: HttpClient, *, timeout: float) -> str:
        """The name of the base model that the server serves.

        Raises:
            GenerationError: it names none, or several.
        """
        entries = model_entries(client.get("/v1/models", timeout=timeout).json())
        names = [str(entry.get("id")) for entry in entries if not entry.get("parent")]
        if len(names) != 1:
            raise GenerationError(
                f"{self.name} at {client.address} lists {len(names)} models{': ' if names else ''}{', '.join(names)}. "
                "Say which one to ask (model)."
            )
        return names[0]

    def check_model(self, client: HttpClient, model: str, *, timeout: float) -> None:
        """Raise GenerationError unless the server says that it serves this model. A server without a list passes."""
        answer = client.get("/v1/models", timeout=timeout)
        names = model_names(answer.json()) if answer.status == 200 else []
        if names and model not in names:
            raise GenerationError(
                f"{self.name} at {client.address} serves {', '.join(names)}, but was asked for {model!r}. Name the "
                "model as the server does."
            )

    def limits(self, client: HttpClient, model: str, *, timeout: float) -> Limits:
        """What fits, as far as the server says so."""
        answer = client.get("/v1/models", timeout=timeout)
        entries = model_entries(answer.json()) if answer.status == 200 else []
        context = next((entry.get("max_model_len") for entry in entries if entry.get("id") == model), None)
        return Limits(context if isinstance(context, int) else None)

    def adapter_model(self, model: str, adapter: str | None) -> str:
        """What to write as ``model`` so that the adapter answers; None: the base model."""
        return model if adapter is None else adapter

    def refuses(self, adapter: AdapterFolder) -> str | None:
        """Why this server cannot load an adapter, where that is known beforehand."""
        return "its adapters cannot be changed while it runs"

    def load(self, client: HttpClient, adapter: AdapterFolder, *, timeout: float) -> None:
        """Make an adapter known to the server under its name."""
        raise NotImplementedError

    def unload(self, client: HttpClient, name: str, *, timeout: float) -> None:
        """Make the server forget an adapter."""
        raise NotImplementedError

    def loaded(self, client: HttpClient, model: str) -> set[str]:
        """Names of the adapters that the server lists."""
        return set(model_names(client.get("/v1/models", timeout=SHORT_SECONDS).json())) - {model}

    def _prompt(self, prompt: Prompt, ids: Sequence[int] | None, tokenizer: Any) -> str | list[int]:
        if ids is not None:
            return list(ids) if self.takes_token_ids else text_for(tokenizer, prompt, ids)
        if isinstance(prompt, str):
            return prompt
        return [int(token) for token in prompt]


def model_entries(answer: Any) -> list[Mapping[str, Any]]:
    """The entries of an answer to ``/v1/models``."""
    entries = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(entries, list):
        raise GenerationError(f"/v1/models was answered with {str(answer)[:200]!r}, which is no list of models.")
    return [entry for entry in entries if isinstance(entry, dict)]


def model_names(answer: Any) -> list[str]:
    """The names in an answer to ``/v1/models``."""
    return [str(entry.get("id")) for entry in model_entries(answer)]
