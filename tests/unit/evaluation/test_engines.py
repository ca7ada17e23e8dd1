"""What is chosen, and that nothing is asked before it is proven whose weights answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sft.errors import ConfigError, GenerationError
from sft.evaluation.engines import EngineChoice, ServedModel, open_server
from sft.evaluation.prompting import PromptWriter
from sft.evaluation.run import evaluate_tasks
from sft.generation import Completion, Prompt, Sampling
from sft.generation.launch import LaunchOptions
from sft.generation.proof import FirstToken, Probe, ProbePrompt
from sft.tasks import TaskOptions, open_tasks

SAMPLING = Sampling(max_new_tokens=4)
PROBE = Probe(
    tuple(
        ProbePrompt(
            ids=(1, 2, number),
            tokens={"adapter": " yes", "base": " no"},
            logprobs={"adapter": {" yes": -0.1, " no": -3.0}, "base": {" yes": -4.0, " no": -0.2}},
            margin=2.9,
        )
        for number in range(4)
    )
)


@dataclass
class Weights:
    """A server whose adapters say yes and whose base model says no; it may forget to switch."""

    switches: bool = True
    adapter: str | None = None
    told: list[str | None] = field(default_factory=list)

    def use_adapter(self, path: Path | None) -> None:
        self.told.append(None if path is None else path.name)
        if self.switches:
            self.adapter = self.told[-1]

    def first_tokens(self, prompts: Sequence[Prompt]) -> list[FirstToken]:
        return [FirstToken(" no" if self.adapter is None else " yes", None)] * len(prompts)

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling, **_: Any) -> list[Completion]:
        return [Completion(str(self.adapter), 1, "stop")] * len(prompts)


def test_each_adapter_is_told_and_proven_before_it_is_asked() -> None:
    server = Weights()
    engine = ServedModel("sglang", server)  # type: ignore[arg-type, unused-ignore]
    with pytest.raises(GenerationError, match="has not shown whose weights answer"):
        engine.complete([[1]], SAMPLING)
    engine.use(None, PROBE)
    assert engine.complete([[1]], SAMPLING)[0].text == "None"
    engine.use(Path("run/adapter_step_5"), PROBE)
    assert engine.complete([[1]], SAMPLING)[0].text == "adapter_step_5"
    assert server.told == [None, "adapter_step_5"]
    assert engine.proof is not None
    assert (engine.proof.asked, engine.proof.num_as_expected, engine.proof.shown_by) == ("adapter", 4, "tokens")


def test_after_a_failed_proof_nothing_is_asked_until_one_succeeds() -> None:
    server = Weights()
    engine = ServedModel("vllm", server)  # type: ignore[arg-type, unused-ignore]
    engine.use(None, PROBE)
    server.switches = False
    with pytest.raises(GenerationError, match="Other weights answer"):
        engine.use(Path("adapter_step_5"), PROBE)
    with pytest.raises(GenerationError, match="has not shown"):
        engine.complete([[1]], SAMPLING)
    assert engine.proof is None
    server.switches = True
    engine.use(Path("adapter_step_5"), PROBE)
    assert engine.complete([[1]], SAMPLING)[0].text == "adapter_step_5"


def test_an_adapter_without_a_probe_is_refused() -> None:
    server = Weights()
    with pytest.raises(GenerationError, match="without a probe"):
        ServedModel("vllm", server).use(Path("adapter_step_5"), None)  # type: ignore[arg-type, unused-ignore]
    assert server.told == []


def test_the_proof_stands_in_the_results(stories_tokenizer: Any, places: TaskOptions) -> None:
    engine = ServedModel("sglang", Weights())  # type: ignore[arg-type, unused-ignore]
    engine.use(Path("adapter_step_5"), PROBE)
    tasks, prompts = open_tasks("truthfulqa", places), PromptWriter(stories_tokenizer)
    results = evaluate_tasks(tasks, engine, prompts, samples=2, folder=None, stem="")["truthfulqa"]
    assert results["engine"] == "sglang"
    assert (results["proof"]["asked"], results["proof"]["adapter"]) == ("adapter", "adapter_step_5")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "trt"}, "there is no engine 'trt'"),
        ({"python": "x"}, "engine_python is set, but engine in_process has no server"),
        ({"name": "openai"}, "needs its address: engine_url"),
        ({"name": "sglang", "url": "h:1", "arguments": ("--tp",)}, "engine_args is set, but the server runs already"),
        ({"name": "sglang", "served_model": "m"}, "engine_model is set, but the server is started by us"),
    ],
)
def test_options_that_mean_nothing_together_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EngineChoice(**values)


@pytest.mark.parametrize("name", ["sglang", "vllm"])
def test_a_server_starts_with_the_interpreter_it_was_given_and_only_when_used(name: str, tmp_path: Path) -> None:
    choice = EngineChoice(name=name, python=str(tmp_path / "bin" / "python"))
    with open_server(choice, "model", None, LaunchOptions()) as engine:
        with pytest.raises(GenerationError, match="bin/python' is no program that can be run"):
            engine.use(None, None)
        with pytest.raises(GenerationError, match="has not shown"):
            engine.complete([[1]], SAMPLING)


def test_a_wrong_address_is_a_mistake_in_the_options() -> None:
    with pytest.raises(ConfigError, match="is no address of a server"):
        open_server(EngineChoice(name="openai", url="http://"), "model", None)
