"""From the options of an evaluation to the server that answers it, and the proof of whose weights answer.

A model in this process needs none of this: it is ``InProcessEngine(model, tokenizer)``.

    with open_server(choice, "Qwen/Qwen3-0.6B", tokenizer, LaunchOptions(gpus=("0",), lora=...)) as engine:
        engine.use(folder_of_adapter, make_probe(live_model, tokenizer))
        evaluate_tasks(tasks, engine, prompts, ...)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from sft.errors import ConfigError, GenerationError
from sft.generation import Completion, Progress, Prompt, Sampling
from sft.generation.http_client import ServerTimeout, ServerUnreachable
from sft.generation.launch import LaunchOptions, MakeMerged
from sft.generation.openai_dialect import SHORT_SECONDS, OpenAIDialect
from sft.generation.openai_server import attach
from sft.generation.proof import Probe, Proof, prove_weights
from sft.generation.served import ATTACHED, served_engine
from sft.generation.server_engine import ServerEngine

API_KEY_VARIABLE = "SFT_ENGINE_API_KEY"
"""Sent as a bearer token to a server that runs already, where it is set."""

ENGINES = ("in_process", *ATTACHED)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChoice:
    """What is to answer; the options ``eval_engine...`` as a value."""

    name: str = "in_process"
    """One of ``ENGINES``."""

    python: str | None = None
    """Interpreter of the environment that the server is installed in. None: this one."""

    url: str | None = None
    """Address of a server that runs already. None: one is started."""

    served_model: str | None = None
    """What a server that runs already calls the model. None: as we do; or, where a probe shows that it is the model,
    whatever name is the only one that the server lists."""

    arguments: tuple[str, ...] = ()
    """More words for the command line of a server that is started."""

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise ConfigError(problems)

    @property
    def is_served(self) -> bool:
        """Whether a server answers, not this process."""
        return self.name != "in_process"

    def _problems(self) -> list[str]:
        if self.name not in ENGINES:
            return [f"there is no engine {self.name!r}; engines are {', '.join(ENGINES)}."]
        given = {"python": self.python, "url": self.url, "args": self.arguments, "model": self.served_model}
        set_ones = [name for name, value in given.items() if value]
        if not self.is_served:
            return [f"engine_{name} is set, but engine in_process has no server. Leave it out." for name in set_ones]
        if self.name == "openai" and self.url is None:
            return ["engine openai asks a server that runs already, so it needs its address: engine_url."]
        wrong = ("python", "args") if self.url is not None else ("model",)
        reason = "runs already" if self.url is not None else "is started by us"
        return [
            f"engine_{name} is set, but the server {reason}, so it means nothing. Leave it out."
            for name in set_ones
            if name in wrong
        ]


class ServedModel:
    """A served engine that answers only after it was told whose weights to use, and has shown that it does.

    A failure costs one evaluation: the next ``use`` brings the server back, or says again why it cannot.
    """

    def __init__(self, name: str, server: ServerEngine, *, listed_as: str | None = None) -> None:
        """Take a server of ours, or one that runs already and may list the model as ``listed_as``."""
        self.name = name
        self.server = server
        self.listed_as = listed_as
        self.proof: Proof | None = None
        """That of the weights in use."""
        self._is_ready = False

    def __enter__(self) -> ServedModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def use(self, adapter: Path | None, probe: Probe | None) -> None:
        """From now on this adapter answers; None: the base model.

        A server of ours is started where it does not run. One that knows only OpenAI's routes cannot be told of
        adapters: which one answers is decided by the name it is asked for, and the probe says whether it is this one.

        Args:
            adapter: its folder.
            probe: made with the model of this process in the state that the folder holds. Only for the base model may
                it be None; then the name that the server was started with, or says it serves, is the only evidence.

        Raises:
            GenerationError: the server cannot be started or told, or other weights answer.
        """
        if adapter is not None and probe is None:
            raise GenerationError(f"the adapter {adapter} cannot be used without a probe that proves that it answers")
        self._is_ready, self.proof = False, None
        if self.listed_as is not None:
            self._name_model(self.listed_as, is_proven=probe is not None)
        if self.name == "openai":
            self._start_openai()
        else:
            self.server.use_adapter(adapter)
        if probe is not None:
            self.proof = prove_weights(self.server, probe, asked="base" if adapter is None else "adapter")
        self._is_ready = True

    def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, on_progress: Progress | None = None
    ) -> list[Completion]:
        """Answer every prompt, in the order asked.

        Raises:
            GenerationError: ``use`` did not succeed before, or the server failed.
        """
        if not self._is_ready:
            raise GenerationError(f"{self.name} has not shown whose weights answer, so it is not asked")
        return self.server.complete(prompts, sampling, on_progress=on_progress)

    def context(self, own: int | None) -> int | None:
        """Most tokens of prompt and answer together: the model's own bound, or the server's where that is less."""
        bounds = [bound for bound in (own, self.server.server.limits.context) if bound is not None]
        return min(bounds, default=None)

    def stop(self) -> None:
        """End a server of ours."""
        self._is_ready = False
        self.server.stop()

    def _name_model(self, name: str, *, is_proven: bool) -> None:
        """Decide what to ask a server for that nobody has said a name for."""
        running = self.server.server
        if running.model:
            return
        if is_proven:
            try:
                running.model = running.dialect.find_model(running.client, timeout=SHORT_SECONDS)
            except ServerUnreachable:
                raise
            except GenerationError:  # it lists none, or several
                running.model = name
        else:
            running.model = name

    def _start_openai(self) -> None:
        """Not every server takes token ids as a prompt; one that does not is sent text that gives the same tokens."""
        dialect = self.server.dialect
        try:
            self.server.start()
        except GenerationError as error:
            if not dialect.takes_token_ids or isinstance(error.__cause__, ServerUnreachable | ServerTimeout):
                raise
            self._speak(replace(dialect, takes_token_ids=False))
            try:
                self.server.start()
            except GenerationError:
                self._speak(dialect)
                raise error from None

    def _speak(self, dialect: OpenAIDialect) -> None:
        self.server.dialect = self.server.server.dialect = dialect


def open_server(
    choice: EngineChoice,
    model: str,
    tokenizer: Any,
    options: LaunchOptions | None = None,
    *,
    make_merged: MakeMerged | None = None,
) -> ServedModel:
    """A served engine; one of ours starts with the first ``use``.

    Args:
        choice: which, and where.
        model: folder or hub name of the base model.
        tokenizer: the model's, with the chat template that prompts are written with.
        options: how a server of ours is started; interpreter and more arguments are taken from ``choice``.
        make_merged: makes a merged model of an adapter that the server cannot load.

    Raises:
        ConfigError: the address is none.
    """
    if choice.url is not None:
        key = os.environ.get(API_KEY_VARIABLE)
        dialect = ATTACHED[choice.name]()
        server = attach(dialect, choice.url, model=choice.served_model, tokenizer=tokenizer, api_key=key)
        return ServedModel(choice.name, server, listed_as=model)
    options = replace(
        options or LaunchOptions(gpus=visible_gpus()),
        python=choice.python or sys.executable,
        arguments=choice.arguments,
    )
    server = served_engine(choice.name, model=model, tokenizer=tokenizer, options=options, make_merged=make_merged)
    return ServedModel(choice.name, server)


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; none without CUDA."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not torch.cuda.is_available():
        return ()
    if named:
        return tuple(name.strip() for name in named.split(",") if name.strip())
    return tuple(map(str, range(torch.cuda.device_count())))
