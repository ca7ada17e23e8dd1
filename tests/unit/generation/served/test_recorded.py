"""What SGLang 0.5.23 and vLLM 0.32.0 really answer (tests/engines records it), and what we make of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sft.errors import GenerationError
from sft.generation import Completion
from sft.generation.adapter_folder import AdapterFolder
from sft.generation.http_client import HttpClient
from sft.generation.openai_answers import Asked, Checked, read_answer
from sft.generation.openai_dialect import Limits, OpenAIDialect
from sft.generation.sglang import SGLangDialect
from sft.generation.vllm import VLLMDialect

DIALECTS: dict[str, OpenAIDialect] = {"sglang": SGLangDialect(), "vllm": VLLMDialect()}
ADAPTER = AdapterFolder(Path("ADAPTER"), "one", {}, ())


class Numbers:
    """Writes token ids as numbers."""

    def decode(self, ids: list[int], **_: Any) -> str:
        return " ".join(map(str, ids))


@pytest.fixture(params=["sglang", "vllm"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def recorded(kind: str) -> Any:
    return json.loads(Path(__file__).with_name("recorded").joinpath(f"{kind}.json").read_text(encoding="utf-8"))


@pytest.fixture
def client(stage: Any) -> HttpClient:
    return HttpClient(stage.address)


def replay(stage: Any, parts: Any, recorded: Any, *names: str) -> None:
    """Play recorded answers, each on its route."""
    by_route: dict[str, list[Any]] = {}
    for name in names:
        body = recorded[name]["body"]
        payload = body.encode() if isinstance(body, str) else body
        by_route.setdefault(recorded[name]["route"], []).append(parts.answer(recorded[name]["status"], payload))
    for route, played in by_route.items():
        stage.on(route, *played)


def read(recorded: Any, name: str, *, model: str = "tiny", max_tokens: int = 6) -> Checked:
    asked = Asked(model=model, max_tokens=max_tokens, prompt_ids=(5, 6, 7), exact_room=True, exact_model=True)
    return read_answer(recorded[name]["body"], asked, Numbers())


def test_completions(kind: str, recorded: Any) -> None:
    assert read(recorded, "cut").completion == Completion("293 91 126 140 23 262", 6, "length")
    assert read(recorded, "stopped").completion == Completion("", 1, "stop")
    first = read(recorded, "first_token", max_tokens=1)
    assert first.completion.text == "293"
    assert first.first_logprob == pytest.approx(-0.694255, abs=1e-4)
    name = DIALECTS[kind].adapter_model("tiny", "one")
    assert read(recorded, "by_adapter", model=name).completion.text == "293 46 172 19 168 157"


def test_limits(kind: str, stage: Any, parts: Any, recorded: Any, client: HttpClient) -> None:
    replay(stage, parts, recorded, "version", "models")
    found = DIALECTS[kind].limits(client, "tiny", timeout=5)
    assert found == {"sglang": Limits(context=510, prompt=505), "vllm": Limits(context=512)}[kind]


def test_models_and_adapters(kind: str, stage: Any, parts: Any, recorded: Any, client: HttpClient) -> None:
    dialect = DIALECTS[kind]
    replay(stage, parts, recorded, "models_with_adapter")
    assert dialect.find_model(client, timeout=5) == "tiny"
    assert dialect.loaded(client, "tiny") == {"one"}
    dialect.check_model(client, "tiny", timeout=5)
    with pytest.raises(GenerationError, match="asked for 'gpt'"):
        dialect.check_model(client, "gpt", timeout=5)
    replay(stage, parts, recorded, "models")
    assert dialect.loaded(client, "tiny") == set()


def test_loading(kind: str, stage: Any, parts: Any, recorded: Any, client: HttpClient) -> None:
    dialect = DIALECTS[kind]
    replay(stage, parts, recorded, "load", "load_again", "load_nowhere", "unload", "unload_unknown")
    dialect.load(client, ADAPTER, timeout=5)
    with pytest.raises(GenerationError, match=r"refuses the adapter ADAPTER \(HTTP 400\): .*already"):
        dialect.load(client, ADAPTER, timeout=5)
    with pytest.raises(GenerationError, match=r"refuses the adapter ADAPTER \(HTTP 40[04]\): .*nowhere"):
        dialect.load(client, ADAPTER, timeout=5)
    dialect.unload(client, "one", timeout=5)
    dialect.unload(client, "two", timeout=5)  # not there is what was wanted
    assert stage.asked[0] == (recorded["load"]["route"], {"lora_name": "one", "lora_path": "ADAPTER"})
    assert stage.asked[3] == (recorded["unload"]["route"], {"lora_name": "one"})


def test_a_vllm_that_was_started_without_the_routes(stage: Any, parts: Any, client: HttpClient) -> None:
    stage.on("/v1/load_lora_adapter", parts.answer(404, {"detail": "Not Found"}))
    with pytest.raises(GenerationError, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING"):
        VLLMDialect().load(client, ADAPTER, timeout=5)


def test_a_cut_that_nobody_asked_for_is_found(recorded: Any, kind: str) -> None:
    """vLLM silently shortens an answer that does not fit; SGLang refuses."""
    asked = Asked(model="tiny", max_tokens=64, prompt_ids=[5] * 511, exact_room=True, exact_model=True)
    if recorded["too_long"]["status"] == 200:
        with pytest.raises(GenerationError, match="'length' after 1 tokens, but must be all 64"):
            read_answer(recorded["too_long"]["body"], asked, Numbers())
    else:
        assert "context length" in recorded["too_long"]["body"]["message"]


def test_an_adapter_that_was_never_loaded_is_refused_by_both(recorded: Any) -> None:
    assert recorded["adapter_never_loaded"]["status"] in (400, 404)
