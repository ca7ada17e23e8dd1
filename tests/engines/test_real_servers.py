"""A real SGLang and a real vLLM, started by us: what they say is what PEFT says in this process, adapter by adapter.

Then they are killed, stopped, garbled, refused and delayed; each costs one evaluation, and the next is right again.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sft.errors import GenerationError
from sft.generation import Completion, Sampling
from sft.generation.guard import descendants
from sft.generation.http_client import HttpClient
from sft.generation.in_process import InProcessEngine
from sft.generation.openai_server import attach, openai_server
from sft.generation.probe import make_probe
from sft.generation.proof import Probe, prove_weights
from sft.generation.server_engine import ServerEngine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

PROMPTS = [
    "<|im_start|>user\nWhat is the capital of Spain?<|im_end|>\n<|im_start|>assistant\n",
    "Write a short poem about the sea",
    "one two three four five " * 20,
    "é",
    "yes no",
    "The capital of France is Paris. What is",
]
SAMPLING = Sampling(max_new_tokens=24)
LONG = Sampling(max_new_tokens=400, min_new_tokens=400)


@pytest.fixture(scope="module")
def expected(models: Any) -> dict[int, list[Completion]]:
    """What the model in this process answers, by adapter; 0: the base model."""
    return {
        adapter: InProcessEngine(models.live(adapter), models.tokenizer).complete(PROMPTS, SAMPLING)
        for adapter in (0, 1, 2)
    }


@pytest.fixture(scope="module")
def probes(models: Any) -> dict[int, Probe]:
    return {adapter: make_probe(models.live(adapter), models.tokenizer) for adapter in (1, 2)}


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sft.generation.server_engine.CHECK_SECONDS", 10.0)


def processes(engine: ServerEngine) -> list[int]:
    """The server and everything it started."""
    assert engine.server.process is not None
    return descendants(engine.server.process.pid)


def are_gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def evaluate(engine: ServerEngine, models: Any, adapter: int, expected: dict[int, list[Completion]]) -> None:
    """One evaluation, as training does it: tell, ask, compare."""
    engine.use_adapter(models.adapters.get(adapter))
    assert engine.complete(PROMPTS, SAMPLING) == expected[adapter]


def test_a_slow_start_is_waited_for_or_given_up(
    models: Any, options: Any, start_engine: Callable[..., ServerEngine], tmp_path: Path
) -> None:
    slow = tmp_path / "slow-python"
    slow.write_text(f'#!/bin/sh\nsleep 3\nexec {options.python} "$@"\n')
    slow.chmod(0o755)
    engine = start_engine(replace(options, python=str(slow), start_timeout=6))
    with pytest.raises(GenerationError, match=r"not up 6 s after its start"):
        engine.start()
    assert descendants(os.getpid()) == []
    with start_engine(replace(options, python=str(slow))) as engine:
        assert len(engine.complete(["yes no"], SAMPLING)) == 1
        pids = processes(engine)
    assert len(pids) >= 3
    assert are_gone(pids)


def test_base_and_two_adapters_loaded_reloaded_and_unloaded(
    engine: ServerEngine,
    models: Any,
    expected: dict[int, list[Completion]],
    probes: dict[int, Probe],
    figures: dict[str, Any],
) -> None:
    assert len({answer.text for answers in expected.values() for answer in answers}) > 2 * len(PROMPTS)
    switches, names, answers = [], {}, 0.0
    for adapter in (0, 1, 2, 1, 0, 2):
        started = time.monotonic()
        engine.use_adapter(models.adapters.get(adapter))
        switches.append(time.monotonic() - started)
        names.setdefault(adapter, engine.adapter)
        assert engine.adapter == names[adapter]
        assert engine.dialect.loaded(engine.server.client, engine.server.model) == ({names[adapter]} - {None})
        started = time.monotonic()
        assert engine.complete(PROMPTS, SAMPLING) == expected[adapter]
        answers = time.monotonic() - started
        asked = "adapter" if adapter else "base"
        proof = prove_weights(engine, probes[adapter or 1], asked=asked)
        assert (proof.shown_by, proof.num_as_expected, proof.num_prompts) == ("tokens", 12, 12)
        assert proof.logprob_difference is not None
        assert proof.logprob_difference < 1e-3
        figures["largest mean log probability difference"] = max(
            proof.logprob_difference, figures.get("largest mean log probability difference", 0.0)
        )
        with pytest.raises(GenerationError, match="Nothing it says is used"):
            prove_weights(engine, probes[adapter or 1], asked="base" if adapter else "adapter")
    with pytest.raises(GenerationError, match="Nothing it says is used"):
        prove_weights(engine, probes[1], asked="adapter")  # adapter 2 answers
    figures["seconds to switch adapters"] = max(switches)
    figures[f"seconds for {len(PROMPTS)} answers of {SAMPLING.max_new_tokens} tokens"] = answers
    started = time.monotonic()
    engine.first_tokens(["yes no"])
    figures["seconds for one answer of one token"] = time.monotonic() - started
    tokens = sum(answer.num_tokens for answer in engine.complete(PROMPTS * 8, SAMPLING))
    figures["tokens per second, 8 at a time"] = tokens / (time.monotonic() - started)


def test_stop_tokens_least_tokens_and_the_end_of_the_context(engine: ServerEngine, models: Any) -> None:
    live = InProcessEngine(models.live(0), models.tokenizer)
    engine.use_adapter(None)
    free = live.complete(PROMPTS, SAMPLING)
    stop = models.tokenizer.encode(free[0].text, add_special_tokens=False)[5]
    stopping = replace(SAMPLING, stop_token_ids=(stop,))
    assert engine.complete(PROMPTS, stopping) == live.complete(PROMPTS, stopping) != free
    not_yet = replace(stopping, min_new_tokens=12)
    answers = engine.complete(PROMPTS, not_yet)
    assert answers == live.complete(PROMPTS, not_yet)
    assert all(answer.num_tokens >= 12 for answer in answers)
    limits = engine.server.limits
    assert limits.context is not None
    long = [list(range(10, 310)) + list(range(10, 190))]  # 480 of 512 tokens
    full = replace(SAMPLING, max_new_tokens=64, min_new_tokens=64)
    room = limits.context - 480
    assert [answer.num_tokens for answer in engine.complete(long, full)] == [room]
    assert engine.complete(long, full) == live.complete(long, replace(full, max_new_tokens=room, min_new_tokens=room))


def test_sampled_answers_are_within_the_rules(kind: str, engine: ServerEngine) -> None:
    engine.use_adapter(None)
    drawn = Sampling(max_new_tokens=8, temperature=1.0, seed=7)
    one, two = engine.complete(["yes no"] * 4, drawn), engine.complete(["yes no"] * 4, drawn)
    assert len({answer.text for answer in one}) > 1
    if kind == "vllm":  # SGLang draws anew unless it is started with --enable-deterministic-inference
        assert one == two
    likeliest = engine.complete(["yes no"] * 2, replace(drawn, top_k=1))
    assert [answer.text for answer in likeliest] == [
        engine.complete(["yes no"], replace(SAMPLING, max_new_tokens=8))[0].text
    ] * 2


def test_a_folder_that_was_written_again_is_another_adapter(
    engine: ServerEngine, models: Any, expected: dict[int, list[Completion]], tmp_path: Path
) -> None:
    folder = models.write_adapter(tmp_path / "adapter", seed=1)
    engine.use_adapter(folder)
    before = engine.adapter
    assert engine.complete(PROMPTS, SAMPLING) == expected[1]
    models.write_adapter(folder, seed=2)
    with pytest.raises(GenerationError, match="has changed since it was loaded"):
        engine.complete(PROMPTS, SAMPLING)
    engine.use_adapter(folder)
    assert engine.adapter != before
    assert engine.complete(PROMPTS, SAMPLING) == expected[2]


def test_the_traps_that_the_proof_is_for(
    kind: str, engine: ServerEngine, models: Any, expected: dict[int, list[Completion]], probes: dict[int, Probe]
) -> None:
    """By plain OpenAI means, as any client would: which names answer from which weights."""
    engine.use_adapter(models.adapters[1])
    address, served, adapter = engine.server.client.address, engine.server.model, engine.adapter
    fields = {"return_token_ids": True}

    def ask(model: str) -> ServerEngine:
        # Its own list has it as a model, so that nothing seems wrong.
        plain = openai_server(address, model=model, tokenizer=models.tokenizer, extra_fields=fields, concurrency=8)
        plain.start()
        return plain

    assert adapter is not None
    bare = ask(adapter)
    if kind == "sglang":
        assert bare.complete(PROMPTS, SAMPLING) == expected[0]  # the base model, with status 200
        with pytest.raises(GenerationError, match="after 0 of 12 probe prompts, and that of the base model after 12"):
            prove_weights(bare, probes[1], asked="adapter")
    else:
        assert bare.complete(PROMPTS, SAMPLING) == expected[1]
        assert prove_weights(bare, probes[1], asked="adapter").num_as_expected == 12

    engine.use_adapter(models.adapters[2])
    client = HttpClient(address)
    body = {"model": engine.dialect.adapter_model(served, adapter), "prompt": [5, 6, 7], "max_tokens": 2}
    answer = client.post("/v1/completions", body, timeout=60)
    if kind == "sglang":  # unloaded, and there again
        assert answer.status == 200
        assert engine.dialect.loaded(client, served) == {adapter, engine.adapter}
        engine.dialect.unload(client, adapter, timeout=60)
    else:
        assert answer.status == 404
    assert engine.complete(PROMPTS, SAMPLING) == expected[2]


def test_a_refused_adapter_costs_one_evaluation(
    engine: ServerEngine, models: Any, expected: dict[int, list[Completion]], tmp_path: Path
) -> None:
    pids = processes(engine)
    with pytest.raises(GenerationError, match="There is no adapter at"):
        engine.use_adapter(tmp_path / "nowhere")
    torn = models.write_adapter(tmp_path / "torn", seed=3)
    weights = torn / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    for folder in (torn, models.write_adapter(tmp_path / "too_large", seed=3, r=64)):
        with pytest.raises(GenerationError, match="refuses the adapter"):
            engine.use_adapter(folder)
        with pytest.raises(GenerationError, match="failed before"):
            engine.complete(PROMPTS, SAMPLING)
    evaluate(engine, models, 1, expected)
    assert processes(engine) == pids


class Garbler(BaseHTTPRequestHandler):
    """Passes requests on to a real server, and spoils its answers."""

    address: str
    spoil: Callable[[bytes], bytes]

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.pass_on(None)

    def do_POST(self) -> None:
        self.pass_on(self.rfile.read(int(self.headers["Content-Length"])))

    def pass_on(self, body: bytes | None) -> None:
        connection = http.client.HTTPConnection(self.address.removeprefix("http://"), timeout=60)
        connection.request(self.command, self.path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        payload = answer.read()
        connection.close()
        if self.path == "/v1/completions":
            payload = type(self).spoil(payload)
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):  # who found the first garbage gives the other requests up
            self.wfile.write(payload)


@pytest.fixture
def garbler(engine: ServerEngine) -> Iterator[type[Garbler]]:
    handler = type(
        "TheGarbler", (Garbler,), {"address": engine.server.client.address, "spoil": lambda payload: payload}
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    handler.here = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    yield handler
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda payload: payload[: len(payload) // 2], "no JSON"),
        (lambda payload: b"<html>upstream is busy</html>", "no JSON: <html>"),
        (lambda payload: payload.replace(b'"length"', b'"abort"'), "finish_reason is abort"),
        (lambda payload: payload.replace(b'"text"', b'"words"'), "the text is None"),
        (lambda payload: payload.replace(b'"token_ids":[', b'"token_ids":[0,'), "token_ids is"),
        (lambda payload: payload.replace(b'"prompt_token_ids":[', b'"prompt_token_ids":[1,'), "prompt_token_ids is"),
        (lambda payload: payload.replace(b'"model":"sft-', b'"model":"gpt-'), "the model that answered is gpt-"),
    ],
)
def test_garbage_is_found(
    engine: ServerEngine,
    models: Any,
    expected: dict[int, list[Completion]],
    garbler: Any,
    spoil: Callable[[bytes], bytes],
    words: str,
) -> None:
    engine.use_adapter(None)
    behind = attach(engine.dialect, garbler.here, model=engine.server.model, tokenizer=models.tokenizer)
    behind.start()
    garbler.spoil = spoil
    with pytest.raises(GenerationError, match=words):
        behind.complete(PROMPTS, SAMPLING)
    garbler.spoil = lambda payload: payload
    behind.start()
    assert behind.complete(PROMPTS, SAMPLING) == expected[0]


def test_a_hang_costs_the_time_out(
    engine: ServerEngine, models: Any, expected: dict[int, list[Completion]], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.use_adapter(models.adapters[1])
    pids = processes(engine)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(engine, "request_timeout", 3.0)
    started = time.monotonic()
    with pytest.raises(GenerationError, match=r"no whole answer within 3 s(?s:.*)Its process runs"):
        engine.complete(PROMPTS, SAMPLING)
    assert time.monotonic() - started < 15
    monkeypatch.setattr(engine, "request_timeout", 120.0)
    evaluate(engine, models, 2, expected)
    assert are_gone(pids)


@pytest.mark.parametrize("victim", ["the server", "what computes"])
def test_death_in_the_middle_of_an_answer(
    kind: str,
    victim: str,
    engine: ServerEngine,
    models: Any,
    expected: dict[int, list[Completion]],
    figures: dict[str, Any],
) -> None:
    engine.use_adapter(models.adapters[1])
    pids = processes(engine)
    names = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids}
    computing = [pid for pid, name in names.items() if "schedul" in name or "EngineCor" in name]  # 15 letters of it
    pid = pids[0] if victim == "the server" else computing[0]
    killer = threading.Timer(0.7, os.kill, (pid, signal.SIGKILL))
    killer.start()
    started = time.monotonic()
    with pytest.raises(GenerationError) as caught:
        engine.complete(PROMPTS * 40, LONG)
    seconds = time.monotonic() - started - 0.7
    assert "has no answer" in str(caught.value)
    figures[f"seconds to notice the death of {victim}"] = seconds
    assert seconds < 60
    started = time.monotonic()
    evaluate(engine, models, 2, expected)
    figures["seconds to be back with another adapter"] = time.monotonic() - started
    assert are_gone(pids)


def test_at_the_end_nothing_of_it_is_left(engine: ServerEngine, models: Any, figures: dict[str, Any]) -> None:
    engine.use_adapter(models.adapters[1])
    pids, address = processes(engine), engine.server.client.address
    started = time.monotonic()
    engine.stop()
    figures["seconds to stop"] = time.monotonic() - started
    assert are_gone(pids)
    with pytest.raises(GenerationError, match="nobody listens there"):
        HttpClient(address).get("/health", timeout=5)
    with pytest.raises(GenerationError, match="is not started"):
        engine.complete(PROMPTS, SAMPLING)
