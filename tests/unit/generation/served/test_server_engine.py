"""A server that fails costs one evaluation: it is noticed in time, said in words, and the next one can go on."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from sft.errors import ConfigError, DataError, GenerationError
from sft.generation import Completion, Sampling
from sft.generation.bounded import call_bounded
from sft.generation.openai_dialect import OpenAIDialect
from sft.generation.openai_server import attach, openai_server
from sft.generation.served import served_engine
from sft.generation.server_engine import ServerEngine
from sft.generation.sglang import SGLangDialect
from sft.generation.vllm import VLLMDialect

COMPLETIONS = "/v1/completions"
GREEDY = Sampling(max_new_tokens=8)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sft.generation.running_server.RETRY_PAUSES", (0.01, 0.01))


@pytest.fixture
def engine(stage: Any) -> ServerEngine:
    engine = openai_server(stage.address, model="tiny", tokenizer=None, concurrency=4, request_timeout=5)
    engine.start()
    return engine


def write_adapter(folder: Path, weights: bytes = b"weights", **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    plain = {"peft_type": "LORA", "r": 8, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps({**plain, **config}))
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


def test_answers_come_in_the_order_asked_with_progress(stage: Any, parts: Any, engine: ServerEngine) -> None:
    def later_for_shorter(handler: Any, body: Any) -> None:
        time.sleep(0.15 / len(body["prompt"].split()))
        parts.complete(handler, body)

    stage.on(COMPLETIONS, later_for_shorter)
    prompts = ["a", "a b c d e", "a b", "a b c", "a"]
    told: list[tuple[int, int]] = []
    answers = engine.complete(prompts, GREEDY, on_progress=lambda done, asked: told.append((done, asked)))
    assert answers == [Completion(f" heard {prompt}", 1, "stop") for prompt in prompts]
    assert told == [(done, 5) for done in range(1, 6)]
    assert engine.complete([], GREEDY) == []


def test_no_more_calls_at_a_time_than_allowed() -> None:
    lock, now, most = threading.Lock(), 0, 0

    def call(position: int) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01)
        with lock:
            now -= 1
        return position

    assert call_bounded(call, 30, at_once=4, on_failure=lambda: None) == list(range(30))
    assert most == 4


def test_the_request_is_what_was_asked(stage: Any, tokenizer: Any) -> None:
    engine = openai_server(
        stage.address, model="tiny", tokenizer=tokenizer, api_key="key", extra_fields={"cache_salt": "x"}
    )
    engine.start()
    engine.complete([[5, 6, 7]], GREEDY)
    assert stage.asked[-1][1] == {
        "model": "tiny",
        "prompt": [5, 6, 7],
        "max_tokens": 8,
        "temperature": 0.0,
        "cache_salt": "x",
    }
    drawn = Sampling(
        max_new_tokens=8, min_new_tokens=2, temperature=0.7, top_p=0.9, top_k=5, seed=3, stop_token_ids=(2,)
    )
    engine.complete([[5], "a", [5]], drawn)
    bodies = sorted((body for _, body in stage.asked[-3:]), key=lambda body: body["seed"])
    assert [body["seed"] for body in bodies] == [3, 4, 5]
    assert bodies[0] == {
        "model": "tiny",
        "prompt": [5],
        "max_tokens": 8,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 5,
        "seed": 3,
        "min_tokens": 2,
        "stop_token_ids": [2],
        "cache_salt": "x",
    }
    assert bodies[1]["prompt"] == tokenizer.encode("a", add_special_tokens=False)


@pytest.mark.parametrize("dialect", [SGLangDialect(), VLLMDialect()])
def test_sampling_is_bounded_by_nothing_but_what_was_asked(dialect: OpenAIDialect) -> None:
    drawn = dialect.sampling_fields(Sampling(max_new_tokens=8, temperature=0.7))
    assert drawn == {"return_token_ids": True, "top_k": -1, "min_p": 0.0}
    assert dialect.sampling_fields(GREEDY) == {"return_token_ids": True}


def test_trouble_that_passes_is_waited_out(stage: Any, parts: Any, engine: ServerEngine) -> None:
    stage.on(COMPLETIONS, parts.reset, parts.answer(503, {"error": "loading"}), parts.complete)
    assert engine.complete(["a"], GREEDY) == [Completion(" heard a", 1, "stop")]
    assert stage.count(COMPLETIONS) == 4  # one of them at the start


@pytest.mark.parametrize(
    ("part", "arguments", "words", "tries"),
    [
        ("reset", (), "closed the connection without an answer", 3),
        ("half", (), "in the middle of the answer", 3),
        ("answer", (500, {"error": "EngineCore encountered an issue"}), "HTTP 500: .*EngineCore", 3),
        ("answer", (400, {"error": "bad prompt"}), "HTTP 400: .*bad prompt", 1),
        ("answer", (404, {"error": "no such model"}), "HTTP 404: .*no such model", 1),
        ("answer", (200, b"<html>"), "no JSON: <html>", 1),
        ("changed", (), "finish_reason is abort", 1),
    ],
)
def test_trouble_that_stays_fails_once_and_for_all(
    stage: Any, parts: Any, engine: ServerEngine, part: str, arguments: tuple[Any, ...], words: str, tries: int
) -> None:
    before = stage.count(COMPLETIONS)
    fault = getattr(parts, part)
    if part == "changed":
        fault = fault(finish_reason="abort")
    elif arguments:
        fault = fault(*arguments)
    stage.on(COMPLETIONS, fault)
    with pytest.raises(GenerationError, match=rf"(?s)the server at http.*prompt 1 of 1 has no answer\..*{words}"):
        engine.complete(["a"], GREEDY)
    assert stage.count(COMPLETIONS) - before == tries


def test_a_hang_costs_the_time_out_once_and_the_others_are_given_up(
    stage: Any, parts: Any, engine: ServerEngine
) -> None:
    engine.request_timeout = 0.5
    stage.on(COMPLETIONS, parts.complete, parts.complete, parts.hang)
    started = time.monotonic()
    with pytest.raises(GenerationError, match=r"prompt \d+ of 30 has no answer.*within 0\.5 s"):
        engine.complete(["a"] * 30, GREEDY)
    assert time.monotonic() - started < 3
    assert stage.count(COMPLETIONS) < 10
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sft-generation")]


def test_after_a_failure_nothing_is_asked_until_the_server_has_shown_itself_well(
    stage: Any, parts: Any, engine: ServerEngine
) -> None:
    stage.on(COMPLETIONS, parts.answer(400, {}))
    with pytest.raises(GenerationError, match="HTTP 400"):
        engine.complete(["a"], GREEDY)
    with pytest.raises(GenerationError, match="failed before"):
        engine.complete(["a"], GREEDY)
    with pytest.raises(GenerationError, match="HTTP 400"):
        engine.start()
    stage.on(COMPLETIONS, parts.complete)
    engine.use_adapter(None)
    assert engine.complete(["a"], GREEDY)[0].finished == "stop"


def test_an_interrupt_ends_it_at_once(stage: Any, parts: Any, engine: ServerEngine) -> None:
    stage.on(COMPLETIONS, parts.complete, parts.hang)

    def interrupt(done: int, asked: int) -> None:
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        engine.complete(["a"] * 4, GREEDY, on_progress=interrupt)
    assert time.monotonic() - started < 3


def test_the_context_bounds_prompt_and_answer(stage: Any, parts: Any, tokenizer: Any) -> None:
    listed = {"data": [{"id": "tiny", "max_model_len": 20}]}
    stage.on("/v1/models", parts.answer(200, listed))
    engine = openai_server(stage.address, model="tiny", tokenizer=tokenizer)
    engine.start()
    with pytest.raises(DataError, match="Prompt 2 has 20 tokens, but the model's context holds 20"):
        engine.complete([[5], [5] * 20], GREEDY)
    engine.complete([[5] * 17], GREEDY)
    assert stage.asked[-1][1]["max_tokens"] == 3
    stage.on(COMPLETIONS, parts.changed(finish_reason="length", completion_tokens=2))
    with pytest.raises(GenerationError, match="'length' after 2 tokens, but must be all 8"):
        engine.complete([[5]], GREEDY)


def test_sglang_keeps_a_little_of_the_context_for_itself(stage: Any, parts: Any, tokenizer: Any) -> None:
    stage.on("/server_info", parts.answer(200, {"max_req_input_len": 14}))
    engine = attach(SGLangDialect(), stage.address, model="tiny", tokenizer=tokenizer)
    engine.start()
    engine.complete([[5] * 13], GREEDY)
    assert stage.asked[-1][1]["max_tokens"] == 5
    with pytest.raises(DataError, match="Prompt 1 has 14 tokens, but SGLang takes prompts of at most 13"):
        engine.complete([[5] * 14], GREEDY)


def test_a_server_that_puts_tokens_before_the_prompt_is_found_out(stage: Any, parts: Any, tokenizer: Any) -> None:
    engine = openai_server(stage.address, model="tiny", tokenizer=tokenizer)
    engine.start()
    stage.on(COMPLETIONS, parts.changed(prompt_tokens=4))
    with pytest.raises(GenerationError, match="prompt_tokens is 4, but must be 3, the tokens of the prompt alone"):
        engine.complete([[5, 6, 7]], GREEDY)


def test_the_model_is_found_or_named(stage: Any, parts: Any) -> None:
    found = openai_server(stage.address, tokenizer=None)
    found.start()
    assert stage.asked[-1][1]["model"] == "tiny"
    with pytest.raises(GenerationError, match="serves tiny, but was asked for 'other'"):
        openai_server(stage.address, model="other", tokenizer=None).start()
    stage.on("/v1/models", parts.answer(200, parts.models("one", "two")))
    with pytest.raises(GenerationError, match="lists 2 models: one, two"):
        openai_server(stage.address, tokenizer=None).start()


def test_adapters_are_loaded_by_hash_and_the_last_one_is_unloaded(stage: Any, parts: Any, tmp_path: Path) -> None:
    loaded: dict[str, str] = {}

    def listed(handler: Any, _: Any) -> None:
        handler.send(
            200, {"data": [{"id": "tiny", "parent": None}, *({"id": name, "parent": "tiny"} for name in loaded)]}
        )

    def load(handler: Any, body: Any) -> None:
        loaded[body["lora_name"]] = body["lora_path"]
        handler.send(200, {"success": True})

    def unload(handler: Any, body: Any) -> None:
        del loaded[body["lora_name"]]
        handler.send(200, {"success": True})

    stage.on("/v1/models", listed)
    stage.on("/server_info", parts.answer(200, {}))
    stage.on("/load_lora_adapter", load)
    stage.on("/unload_lora_adapter", unload)
    engine = attach(SGLangDialect(), stage.address, tokenizer=None)
    loaded["someone-elses"] = "elsewhere"

    engine.use_adapter(write_adapter(tmp_path / "step_1", b"one"))
    first = engine.adapter
    assert first is not None
    assert loaded == {"someone-elses": "elsewhere", first: str(tmp_path / "step_1")}
    engine.complete(["a"], GREEDY)
    assert stage.asked[-1][1]["model"] == f"tiny:{first}"

    engine.use_adapter(write_adapter(tmp_path / "step_1", b"two of other length"))
    assert engine.adapter not in (None, first)
    assert set(loaded) == {"someone-elses", engine.adapter}
    engine.use_adapter(None)
    assert set(loaded) == {"someone-elses"}
    engine.complete(["a"], GREEDY)
    assert stage.asked[-1][1]["model"] == "tiny"

    engine.use_adapter(tmp_path / "step_1")
    (tmp_path / "step_1" / "adapter_model.safetensors").write_bytes(b"written over")
    with pytest.raises(GenerationError, match="has changed since it was loaded"):
        engine.complete(["a"], GREEDY)


def test_a_refused_adapter_leaves_nothing_to_be_asked(stage: Any, parts: Any, tmp_path: Path) -> None:
    stage.on("/server_info", parts.answer(200, {}))
    stage.on("/load_lora_adapter", parts.answer(400, {"success": False, "error_message": "rank 64 is incompatible"}))
    engine = attach(SGLangDialect(), stage.address, tokenizer=None)
    engine.start()
    with pytest.raises(GenerationError, match=r"SGLang refuses the adapter .*rank 64 is incompatible"):
        engine.use_adapter(write_adapter(tmp_path / "adapter"))
    with pytest.raises(GenerationError, match="failed before"):
        engine.complete(["a"], GREEDY)
    stage.on("/load_lora_adapter", parts.answer(200, {"success": True}))
    with pytest.raises(GenerationError, match=r"loaded 'adapter-.*' but does not list it"):
        engine.use_adapter(tmp_path / "adapter")


def test_what_a_running_server_cannot_load_is_said(stage: Any, tmp_path: Path, engine: ServerEngine) -> None:
    with pytest.raises(GenerationError, match=r"adapters cannot be changed while it runs.*in-process"):
        engine.use_adapter(write_adapter(tmp_path / "adapter"))
    sglang = attach(SGLangDialect(), stage.address, tokenizer=None)
    with pytest.raises(GenerationError, match="SGLang has no use_dora"):
        sglang.use_adapter(write_adapter(tmp_path / "dora", use_dora=True))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "vlm"}, "no engine 'vlm'. Served engines are sglang, vllm, transformers, openai"),
        ({"kind": "openai"}, "not started by sft: give the address"),
        ({"kind": "transformers", "address": "127.0.0.1:1"}, "leave the address '127.0.0.1:1' out"),
        ({"kind": "vllm", "address": "ftp://x"}, "no address of a server"),
        ({"kind": "vllm", "concurrency": 0}, "must be above 0"),
    ],
)
def test_engines_by_name(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        served_engine(model="m", tokenizer=None, **options)


def test_engines_have_the_names_of_the_options(stage: Any) -> None:
    for kind in ("sglang", "vllm", "transformers"):
        assert served_engine(kind, model="m", tokenizer=None).name == kind
    assert served_engine("openai", model="m", tokenizer=None, address=stage.address).name == "openai"
    assert stage.asked == []
