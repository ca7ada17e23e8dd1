"""One server that runs: what fits into it, how it is asked, which adapters it knows, and its end."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sft.errors import DataError, GenerationError
from sft.generation.adapter_folder import AdapterFolder
from sft.generation.engine import Prompt, Sampling
from sft.generation.http_client import HttpClient, ServerTimeout, ServerUnreachable
from sft.generation.launch import Launch
from sft.generation.openai_answers import Asked, Checked, read_answer
from sft.generation.openai_dialect import SHORT_SECONDS, Limits, OpenAIDialect
from sft.generation.prompts import answer_room, encode_prompt
from sft.generation.server_process import ServerProcess, free_port

RETRY_PAUSES = (0.5, 2.0)
"""Seconds before each new try of a request that found no server, or one in trouble. Every request may be repeated."""

RETRIED_STATUSES = (408, 425, 429, 500, 502, 503, 504)
POLL_SECONDS = 0.25
MOMENT_SECONDS = 0.5


@dataclass
class RunningServer:
    """A server of ours, with its process, or someone else's, without."""

    dialect: OpenAIDialect
    client: HttpClient
    model: str
    """What it calls the model that it was started with. Empty: found out by ``check``."""

    tokenizer: Any
    """None: prompts are sent as they are, and their tokens are not checked."""

    process: ServerProcess | None = None
    merged: AdapterFolder | None = None
    """The adapter that is part of the weights it was started with."""

    scrap: Path | None = None
    """A folder to delete at its end."""

    limits: Limits = field(default_factory=Limits)

    @property
    def runs(self) -> bool:
        """Whether it may be there: ours has not ended, or it is not ours."""
        return self.process is None or self.process.exit_code is None

    def check(self, timeout: float) -> None:
        """Make sure that it is the right one and generates: one that says it is healthy may die of the first request.

        Raises:
            GenerationError: it is another one, or does not generate within ``timeout`` seconds.
        """
        short = min(timeout, SHORT_SECONDS)
        self.model = self.model or self.dialect.find_model(self.client, timeout=short)
        self.dialect.check_model(self.client, self.model, timeout=short)
        self.limits = self.dialect.limits(self.client, self.model, timeout=short)
        prompt = "Hello" if self.tokenizer is None else self.tokenizer("Hello")["input_ids"]
        body, asked = self.request(prompt, 1, Sampling(max_new_tokens=1), adapter=None)
        self.ask(body, asked, timeout=timeout)

    def request(
        self, prompt: Prompt, number: int, sampling: Sampling, *, adapter: str | None
    ) -> tuple[dict[str, Any], Asked]:
        """The body of the request for prompt ``number``, and what its answer must fit.

        Raises:
            DataError: the prompt is empty, or too long for this server.
        """
        ids = None if self.tokenizer is None else encode_prompt(self.tokenizer, prompt)
        room = sampling.max_new_tokens
        if ids is not None:
            room = answer_room(self.limits.context, ids, room, number)
            if self.limits.prompt is not None and len(ids) > self.limits.prompt:
                raise DataError(
                    f"Prompt {number} has {len(ids)} tokens, but {self.dialect.name} takes prompts of at most "
                    f"{self.limits.prompt}. Shorten the prompt, or give the server a longer context."
                )
        model = self.dialect.adapter_model(self.model, adapter)
        fitting = replace(sampling, max_new_tokens=room, min_new_tokens=min(sampling.min_new_tokens, room))
        seed = sampling.seed + number - 1  # the same prompt asked twice is drawn twice
        body = self.dialect.request(model, prompt, ids, fitting, seed=seed, tokenizer=self.tokenizer)
        exact = self.limits.context is not None and ids is not None
        return body, Asked(
            model=model,
            max_tokens=room,
            prompt_ids=ids,
            exact_room=exact,
            exact_model=self.dialect.repeats_model,
        )

    def ask(self, body: dict[str, Any], asked: Asked, *, timeout: float) -> Checked:
        """Send a request, again where that may help, and check what comes.

        Raises:
            GenerationError: no answer, or none that fits.
        """
        for pause in (*RETRY_PAUSES, None):
            try:
                answer = self.client.post("/v1/completions", body, timeout=timeout)
            except ServerUnreachable:
                if pause is None or not self.runs:
                    raise
            else:
                if pause is None or answer.status not in RETRIED_STATUSES or not self.runs:
                    return read_answer(answer.json(), asked, self.tokenizer)
            self.client.pause(pause)
        raise AssertionError("the last try returns or raises")

    def load(self, adapter: AdapterFolder, *, timeout: float) -> None:
        """Make an adapter known, if it is not, and see it in the server's own list.

        Raises:
            GenerationError: the server refuses it.
        """
        adapter.check_unchanged()
        if adapter.name not in self.dialect.loaded(self.client, self.model):
            self.dialect.load(self.client, adapter, timeout=timeout)
        adapter.check_unchanged()
        if adapter.name not in self.dialect.loaded(self.client, self.model):
            raise GenerationError(f"{self.dialect.name} loaded {adapter.name!r} but does not list it.")

    def unload(self, adapter: AdapterFolder, *, timeout: float) -> None:
        """Make it forget an adapter."""
        if adapter.name in self.dialect.loaded(self.client, self.model):
            self.dialect.unload(self.client, adapter.name, timeout=timeout)

    def stop(self) -> None:
        """End it if it is ours, with all that it started and left."""
        if self.process is not None:
            self.process.stop()
        if self.scrap is not None:
            shutil.rmtree(self.scrap, ignore_errors=True)

    def explained(self, error: GenerationError) -> GenerationError:
        """The error, with what is known of the server."""
        lines = [f"{self.dialect.name} at {self.client.address}: {error}"]
        if self.process is not None:
            code = self.process.wait(MOMENT_SECONDS)  # a connection breaks a moment before the process is gone
            lines.append("Its process runs." if code is None else f"Its process ended with exit code {code}.")
            lines.append(f"The end of its log, {self.process.log_file}:\n{self.process.log_tail()}")
        return GenerationError("\n".join(lines))


def launch_server(
    launch: Launch,
    dialect: OpenAIDialect,
    tokenizer: Any,
    *,
    folder: str,
    merged: AdapterFolder | None = None,
    scrap: Path | None = None,
) -> RunningServer:
    """Start a server and wait until it generates.

    Args:
        launch: how.
        dialect: how to speak to it.
        tokenizer: the model's.
        folder: the model it loads.
        merged: the adapter in that model.
        scrap: folder to delete when the server ends, also if it never starts.

    Raises:
        GenerationError: it ended, was not up in time, or does not generate; nothing of it is left.
    """
    port, name = free_port(), launch.choose_name(folder)
    process = ServerProcess(
        launch.command(folder, name, port),
        environment={**launch.environment, **launch.options.environment},
        log_file=launch.choose_log_file(),
    )
    server = RunningServer(
        dialect, HttpClient(f"http://127.0.0.1:{port}"), name, tokenizer, process=process, merged=merged, scrap=scrap
    )
    try:
        wait_until_well(server, launch.options.start_timeout)
    except GenerationError as error:
        explained = server.explained(error)
        server.stop()
        raise explained from error
    except BaseException:
        server.stop()
        raise
    return server


def wait_until_well(server: RunningServer, timeout: float) -> None:
    """Return once the server generates.

    Raises:
        GenerationError: it ended, or ``timeout`` seconds have passed.
    """
    deadline = time.monotonic() + timeout
    while not _answers(server, deadline):
        if not server.runs:
            raise GenerationError("it ended while it started.")
        if time.monotonic() > deadline:
            raise GenerationError(
                f"it was not up {timeout:g} s after its start. Raise start_timeout if it was on the way."
            )
        time.sleep(POLL_SECONDS)
    server.check(max(deadline - time.monotonic(), 1.0))


def _answers(server: RunningServer, deadline: float) -> bool:
    left = max(deadline - time.monotonic(), 0.1)
    try:
        return server.client.get(server.dialect.health_route, timeout=min(left, 5.0)).status == 200
    except (ServerUnreachable, ServerTimeout):
        return False
