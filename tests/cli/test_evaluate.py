"""`sft evaluate` on real rows: a tiny real model, its adapter, and transformers' own server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from sft.cli.main import main
from sft.errors import EXIT_DONE, EXIT_OURS, EXIT_USER
from sft.export.save import quiet_peft
from sft.generation.transformers_serve import transformers_server
from sft.tasks.scoring import score_file

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}"
    "{{ eos_token if m['role'] == 'assistant' }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.fixture(scope="module")
def model(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The story teller with a chat template and a longer context."""
    source, folder = shared_data / "models" / "stories260K-hf", tmp_path_factory.mktemp("evaluate") / "model"
    teller = AutoModelForCausalLM.from_pretrained(source)
    teller.config.max_position_embeddings = 2048
    teller.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(model: Path) -> Path:
    """An adapter that says other things than its base model."""
    torch.manual_seed(3)
    base = AutoModelForCausalLM.from_pretrained(model)
    with quiet_peft():
        adapted = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    folder = model.parent / "adapter"
    with quiet_peft():
        adapted.save_pretrained(folder)
    return folder


@pytest.fixture
def places(shared_data: Path, tmp_path: Path) -> list[str]:
    """Options that name the real rows; of TruthfulQA the first dozen."""
    lines = (shared_data / "truthfulqa" / "TruthfulQA-817.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "few.csv").write_text("".join(lines[:13]), encoding="utf-8")
    return [
        *("--longbench_dir", str(shared_data / "longbench")),
        *("--qmsum_dir", str(shared_data / "qmsum")),
        *("--truthfulqa_file", str(tmp_path / "few.csv")),
    ]


@pytest.fixture
def evaluate(capsys: pytest.CaptureFixture[str], places: list[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*words: str) -> tuple[int, str, str]:
        code = main(["evaluate", *words, *places])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def predictions(folder: Path, task: str) -> list[str]:
    [path] = folder.glob(f"*_{task}_temp0.0_predictions.jsonl")
    return [json.loads(line)["prediction"] for line in path.read_text(encoding="utf-8").splitlines()]


def greedy(model: Any, tokenizer: Any, ids: list[int], max_new_tokens: int) -> str:
    prompt = torch.tensor([ids])
    written = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=max_new_tokens, do_sample=False
    )
    return tokenizer.decode(written[0, len(ids) :], skip_special_tokens=True)


def test_json_files_and_table_say_the_same(model: Path, evaluate: Callable[..., Any], tmp_path: Path) -> None:
    words = ["--model", str(model), "--tasks", "qmsum,truthfulqa", "--samples", "2", "--output", str(tmp_path / "out")]
    code, printed, said = evaluate(*words, "--json")
    assert code == EXIT_DONE, said
    found = json.loads(printed)
    truthful, qmsum = found["tasks"]["truthfulqa"], found["tasks"]["qmsum"]
    assert (qmsum["metric"], qmsum["count"], qmsum["scorer"]) == ("rougeL", 2, "rouge_score, stemmed")
    assert {truthful["engine"], qmsum["engine"]} == {"in_process"}
    assert found["combined_score"] == truthful["score"] + qmsum["score"] + truthful["results"]["avg_max_score"]
    for task in ("truthfulqa", "qmsum"):
        [path] = (tmp_path / "out").glob(f"*_{task}_temp0.0_predictions.jsonl")
        assert score_file(task, str(path)).score == found["tasks"][task]["score"]
        assert path.name.startswith(str(model).replace("/", "_"))
    assert "truthfulqa: 2/2 answered" in said
    code, printed, _ = evaluate(*words)
    assert code == EXIT_DONE
    assert f"{found['combined_score']:.4f}" in printed
    assert "2 of 12" in printed


def test_answers_of_an_adapter_are_those_of_peft(
    model: Path, adapter: Path, evaluate: Callable[..., Any], tmp_path: Path
) -> None:
    named = {
        "base": ["--model", str(model)],
        "alone": ["--model", str(adapter)],
        "pair": ["--model", str(model), "--adapter", str(adapter)],
    }
    for name, words in named.items():
        code, _, said = evaluate(*words, "--tasks", "truthfulqa", "--samples", "3", "--output", str(tmp_path / name))
        assert code == EXIT_DONE, said
    tokenizer = AutoTokenizer.from_pretrained(model)
    base = AutoModelForCausalLM.from_pretrained(model)
    questions = [
        row["question"] for row in map(json.loads, next((tmp_path / "base").glob("*.jsonl")).read_text().splitlines())
    ]
    prompts = [tokenizer(f"Q: {question}\nA:")["input_ids"] for question in questions]
    assert predictions(tmp_path / "base", "truthfulqa") == [greedy(base, tokenizer, ids, 128) for ids in prompts]
    with quiet_peft():
        adapted = PeftModel.from_pretrained(base, adapter)
    expected = [greedy(adapted, tokenizer, ids, 128) for ids in prompts]
    assert predictions(tmp_path / "pair", "truthfulqa") == predictions(tmp_path / "alone", "truthfulqa") == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tasks", "qmsun"], "did you mean 'qmsum'"),
        (["--tasks", ","], "names no task"),
        (["--tasks", "qmsum", "--samples", "0"], "--samples is 0, but it must be at least 1"),
        (["--tasks", "qmsum", "--engine", "openai"], "needs its address: engine_url"),
        (["--tasks", "qmsum", "--engine_url", "http://127.0.0.1:1"], "engine in_process has no server"),
        (
            ["--tasks", "qmsum", "--engine", "vllm", "--engine_url", "127.0.0.1:1", "--engine_python", "x"],
            "runs already",
        ),
        (["--tasks", "qmsum", "--engine", "vllm", "--engine_python", "/no/python"], "/no/python: is no program"),
        (["--tasks", "qmsum,hotpotqa"], "'hotpotqa' is asked for"),
        (["--tasks", "qmsum", "--chat_template_kwargs", "[1]"], "no JSON object"),
        (["--tasks", "truthfulqa", "--truthfulqa_scorer", "bleurt"], "needs a checkpoint"),
    ],
)
def test_mistakes_are_found_before_a_model_is_loaded(
    words: list[str], message: str, evaluate: Callable[..., Any]
) -> None:
    code, printed, said = evaluate("--model", "/no/such/model", *words)
    assert code == EXIT_USER
    assert message in said
    assert printed == ""
    assert "Traceback" not in said


def test_a_server_that_is_not_there_is_no_traceback(model: Path, evaluate: Callable[..., Any]) -> None:
    words = ["--tasks", "truthfulqa", "--samples", "1", "--engine", "openai", "--engine_url", "http://127.0.0.1:9"]
    code, _, said = evaluate("--model", str(model), *words)
    assert code == EXIT_OURS
    assert "nobody listens there" in said
    assert "Traceback" not in said


@pytest.fixture(scope="module")
def address(model: Path) -> Iterator[str]:
    """transformers' own server with that model."""
    with transformers_server(str(model), AutoTokenizer.from_pretrained(model)) as engine:
        yield engine.server.client.address


@pytest.mark.slow
def test_a_real_server_gives_the_texts_of_this_process(
    model: Path, address: str, evaluate: Callable[..., Any], tmp_path: Path
) -> None:
    words = ["--model", str(model), "--tasks", "truthfulqa,qmsum", "--samples", "2", "--output"]
    served = ["--engine", "openai", "--engine_url", address]
    for where, more in (("here", []), ("served", served)):
        code, printed, said = evaluate(*words, str(tmp_path / where), *more, "--max_prompt_tokens", "300", "--json")
        assert code == EXIT_DONE, said
    assert json.loads(printed)["tasks"]["qmsum"]["engine"] == "openai"
    for task in ("truthfulqa", "qmsum"):
        assert predictions(tmp_path / "served", task) == predictions(tmp_path / "here", task)


@pytest.mark.slow
def test_a_server_that_answers_from_other_weights_is_not_believed(
    model: Path, adapter: Path, address: str, evaluate: Callable[..., Any], tmp_path: Path
) -> None:
    words = ["--model", str(model), "--adapter", str(adapter), "--tasks", "truthfulqa", "--samples", "2"]
    code, printed, said = evaluate(
        *words, "--engine", "openai", "--engine_url", address, "--output", str(tmp_path / "o")
    )
    assert code == EXIT_OURS
    assert "Other weights answer than were asked for" in said
    assert printed == ""
    assert not list(tmp_path.glob("o/*"))
