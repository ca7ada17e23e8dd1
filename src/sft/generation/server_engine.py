"""A server behind the engine contract: started, told of adapters, asked, brought back when it failed, and stopped.

    with sglang_server(model, tokenizer, LaunchOptions(python=..., gpus=("0",), lora=...)) as engine:
        engine.use_adapter("output/adapter_step_50")
        prove_weights(engine, probe, asked="adapter")
        completions = engine.complete(prompts, sampling)

Whatever fails is a GenerationError. After one, ``complete`` refuses until ``start`` or ``use_adapter`` has found the
server well or has started it again: one that failed is not trusted with another answer, and one that came back has no
adapter until it is told of it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from sft.errors import ConfigError, GenerationError
from sft.generation.adapter_folder import AdapterFolder, read_adapter_folder
from sft.generation.bounded import call_bounded
from sft.generation.engine import Completion, Progress, Prompt, Sampling
from sft.generation.launch import Launch, MakeMerged
from sft.generation.openai_answers import Checked
from sft.generation.openai_dialect import OpenAIDialect
from sft.generation.proof import FirstToken
from sft.generation.running_server import RunningServer, launch_server

CHECK_SECONDS = 60.0
"""Within which a running server must generate a token before it is used again; else it is started again."""


class ServerEngine:
    """One server: ours, started when it is first needed and as often as it must, or someone else's."""

    def __init__(
        self,
        dialect: OpenAIDialect,
        tokenizer: Any,
        *,
        launch: Launch | None = None,
        attached: RunningServer | None = None,
        concurrency: int = 16,
        request_timeout: float = 600.0,
        make_merged: MakeMerged | None = None,
    ) -> None:
        """Describe it; nothing is started or asked yet.

        Args:
            dialect: how to speak to it.
            tokenizer: the model's. None: prompts are sent as they are, and their tokens are not checked.
            launch: how to start one of ours, or
            attached: one that runs already.
            concurrency: requests at a time.
            request_timeout: seconds for one request, waiting in the server's queue included.
            make_merged: makes a merged model of an adapter that the server cannot load; it is started anew with that.
        """
        if (launch is None) == (attached is None):
            raise ConfigError("A server is either started by us (launch) or runs already (attached).")
        if concurrency < 1 or request_timeout <= 0:
            raise ConfigError(f"concurrency is {concurrency}, request_timeout {request_timeout}; both must be above 0.")
        self.dialect = dialect
        self.tokenizer = tokenizer
        self.concurrency = concurrency
        self.request_timeout = request_timeout
        self._launch = launch
        self._server = attached
        self._make_merged = make_merged
        self._adapter: AdapterFolder | None = None
        self._trusted = False

    @property
    def name(self) -> str:
        """What results call it: ``sglang``, ``vllm``, ``transformers`` or ``openai``."""
        return self.dialect.kind

    @property
    def adapter(self) -> str | None:
        """Name of the adapter in use, its hash included; None: the base model."""
        return None if self._adapter is None else self._adapter.name

    @property
    def server(self) -> RunningServer:
        """The server that is asked now.

        Raises:
            GenerationError: none was started.
        """
        if self._server is None:
            raise GenerationError(f"{self.dialect.name} is not started. Call start() or use_adapter() first.")
        return self._server

    def __enter__(self) -> ServerEngine:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Make sure that the server runs, generates, and knows the adapter in use.

        Raises:
            GenerationError: it cannot be started, or it runs and does not generate.
        """
        self._use(self._adapter)

    def use_adapter(self, path: str | Path | None) -> None:
        """From now on the adapter in this folder answers; None: the base model.

        The server is started, or brought back, where it must be. The adapter is loaded under a name with a hash of its
        weights in it, and the one before it is unloaded. That it answers is for ``prove_weights`` to show.

        Raises:
            GenerationError: there is no such adapter, or the server cannot be made to use it.
        """
        self._use(None if path is None else read_adapter_folder(path))

    def stop(self) -> None:
        """End a server of ours, with all that it started. May be called twice, and be followed by ``start``."""
        self._trusted = False
        self._adapter = None
        self._end()

    def _end(self) -> None:
        if self._launch is not None and self._server is not None:
            self._server.stop()
            self._server = None

    def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, on_progress: Progress | None = None
    ) -> list[Completion]:
        """Answer every prompt; result ``i`` belongs to prompt ``i``.

        Raises:
            GenerationError: one request failed, for good or too often; the others were given up.
            DataError: a prompt is empty or too long; nothing was asked.
        """
        answers = self._ask_all(prompts, sampling, {}, on_progress)
        return [answer.completion for answer in answers]

    def first_tokens(self, prompts: Sequence[Prompt]) -> list[FirstToken]:
        """The likeliest token after each prompt, by the bare weights: what a probe looks at.

        Raises:
            GenerationError: as ``complete``.
        """
        answers = self._ask_all(prompts, Sampling(max_new_tokens=1), self.dialect.probe_fields(), None)
        return [FirstToken(answer.completion.text, answer.first_logprob) for answer in answers]

    def _ask_all(
        self, prompts: Sequence[Prompt], sampling: Sampling, fields: Mapping[str, Any], on_progress: Progress | None
    ) -> list[Checked]:
        server = self.server
        if not self._trusted:
            raise GenerationError(f"{self.dialect.name} failed before. Call start() or use_adapter() to bring it back.")
        if self._adapter is not None:
            self._adapter.check_unchanged()
        name = None if server.merged is not None else self.adapter  # merged into the model, it goes by the model's name
        requests = [server.request(prompt, number, sampling, adapter=name) for number, prompt in enumerate(prompts, 1)]

        def answer(position: int) -> Checked:
            body, asked = requests[position]
            try:
                return server.ask({**body, **fields}, asked, timeout=self.request_timeout)
            except GenerationError as error:
                raise GenerationError(f"prompt {position + 1} of {len(requests)} has no answer. {error}") from error

        try:
            return call_bounded(
                answer,
                len(requests),
                at_once=self.concurrency,
                on_done=None if on_progress is None else lambda done: on_progress(done, len(requests)),
                on_failure=server.client.abort,
            )
        except GenerationError as error:
            self._trusted = False
            raise server.explained(error) from error
        finally:
            server.client.resume()

    def _use(self, adapter: AdapterFolder | None) -> None:
        self._trusted = False
        try:
            if self._is_well():
                self._switch(adapter)
            else:
                self._restart(adapter)
        except GenerationError as error:
            if self._server is None:
                raise
            raise self._server.explained(error) from error
        self._adapter = adapter
        self._trusted = True

    def _is_well(self) -> bool:
        """Whether the server generates. One that once did may have died or hung since.

        Raises:
            GenerationError: it does not, and it is not ours to start again.
        """
        if self._server is None or not self._server.runs:
            return False
        try:
            self._server.check(CHECK_SECONDS)
        except GenerationError:
            if self._launch is None:
                raise
            return False
        return True

    def _switch(self, adapter: AdapterFolder | None) -> None:
        """Make a server that is well answer with this adapter, or with the base model."""
        server, before = self.server, self._adapter
        merged = None if adapter is None or self._hot_loads(adapter) else adapter
        if server.merged is not None or merged is not None:
            if merged is None or server.merged is None or server.merged.name != merged.name:
                self._restart(adapter)
            return
        if adapter is not None:
            server.load(adapter, timeout=self.request_timeout)
        if before is not None and (adapter is None or adapter.name != before.name):
            server.unload(before, timeout=self.request_timeout)

    def _restart(self, adapter: AdapterFolder | None) -> None:
        """Start a server of ours anew, for this adapter."""
        launch = self._launch
        if launch is None:
            raise GenerationError(self._cannot_load(adapter))
        folder, merged, scrap = launch.model, None, None
        if adapter is not None and not self._hot_loads(adapter):
            merged, scrap = adapter, self._merge(adapter)
            folder = str(scrap / "model")
        self._end()
        self._server = launch_server(launch, self.dialect, self.tokenizer, folder=folder, merged=merged, scrap=scrap)
        if adapter is not None and merged is None:
            self._server.load(adapter, timeout=self.request_timeout)

    def _hot_loads(self, adapter: AdapterFolder) -> bool:
        has_room = self._launch is None or self._launch.options.lora is not None
        return self.dialect.hot_loads and has_room and self.dialect.refuses(adapter) is None

    def _merge(self, adapter: AdapterFolder) -> Path:
        """A new folder that holds, as ``model``, base model and adapter in one."""
        if self._make_merged is None:
            raise GenerationError(self._cannot_load(adapter))
        scrap = Path(tempfile.mkdtemp(prefix="sft-merged-"))
        try:
            self._make_merged(adapter.path, scrap / "model")
            adapter.check_unchanged()
        except Exception as error:  # a merge fails in as many ways as a model loads
            shutil.rmtree(scrap, ignore_errors=True)
            raise GenerationError(f"Cannot merge the adapter {adapter.path} to serve it: {error}") from error
        return scrap

    def _cannot_load(self, adapter: AdapterFolder | None) -> str:
        asked = "the base model" if adapter is None else f"the adapter {adapter.path}"
        reason = None if adapter is None else self.dialect.refuses(adapter)
        return (
            f"{self.dialect.name} cannot be made to answer with {asked}: "
            f"{reason or 'it was started without room for adapters (lora)'}. Let sft start the server, with a merged "
            "model where it must (make_merged), or evaluate in-process."
        )
