"""transformers' own server, started by us: its greedy texts are those of the in-process engine, adapters included."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from sft.errors import GenerationError
from sft.export.merge import merge_adapter
from sft.generation import Sampling
from sft.generation.in_process import InProcessEngine
from sft.generation.launch import LaunchOptions
from sft.generation.probe import make_probe
from sft.generation.proof import prove_weights
from sft.generation.server_engine import ServerEngine
from sft.generation.transformers_serve import transformers_server

MISSING = [name for name in ("uvicorn", "fastapi", "openai") if importlib.util.find_spec(name) is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.skipif(bool(MISSING), reason=f"transformers serve needs {', '.join(MISSING)}; pip install '.[test]'"),
]

PROMPTS = [
    "<|im_start|>user\nWhat is the capital of Spain?<|im_end|>\n<|im_start|>assistant\n",
    "Write a short poem about the sea",
    "one two three four five " * 12,
    "é",
]


@pytest.fixture(scope="module")
def folders(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A random model that says many things, and an adapter that makes it say others."""
    folder = tmp_path_factory.mktemp("served")
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.5)
    model.save_pretrained(folder / "model")
    AutoTokenizer.from_pretrained(tiny_model_folder).save_pretrained(folder / "model")
    adapted = get_peft_model(
        model, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    adapted.save_pretrained(folder / "adapter")
    return folder / "model", folder / "adapter"


@pytest.fixture(scope="module")
def engine(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerEngine]:
    base, _ = folders

    def merge(adapter: Path, output: Path) -> None:
        merge_adapter(base_model=str(base), adapter_path=adapter, output_path=output, max_difference=0.01)

    engine = transformers_server(
        str(base),
        AutoTokenizer.from_pretrained(base),
        LaunchOptions(log_file=tmp_path_factory.mktemp("log") / "server.log", start_timeout=120),
        request_timeout=60,
        make_merged=merge,
    )
    yield engine
    engine.stop()


def in_process(folders: tuple[Path, Path], *, with_adapter: bool) -> Any:
    model = AutoModelForCausalLM.from_pretrained(folders[0], dtype=torch.float32)
    return PeftModel.from_pretrained(model, folders[1]) if with_adapter else model


def test_base_and_adapter_say_what_they_say_in_process(folders: tuple[Path, Path], engine: ServerEngine) -> None:
    tokenizer = engine.tokenizer
    adapted = in_process(folders, with_adapter=True)
    probe = make_probe(adapted, tokenizer)
    sampling = Sampling(max_new_tokens=24)
    texts = {}
    for asked, path in (("base", None), ("adapter", folders[1])):
        engine.use_adapter(path)
        live = InProcessEngine(in_process(folders, with_adapter=path is not None), tokenizer)
        expected = [answer.text for answer in live.complete(PROMPTS, sampling)]
        assert [answer.text for answer in engine.complete(PROMPTS, sampling)] == expected
        assert len(set(expected)) == len(PROMPTS)
        texts[asked] = expected
        proof = prove_weights(engine, probe, asked=asked)  # type: ignore[arg-type]
        assert (proof.shown_by, proof.num_as_expected) == ("tokens", proof.num_prompts)
        with pytest.raises(GenerationError, match="Nothing it says is used"):
            prove_weights(engine, probe, asked="adapter" if asked == "base" else "base")
    assert all(one != other for one, other in zip(texts["base"], texts["adapter"], strict=True))


def test_stop_tokens_of_our_own(folders: tuple[Path, Path], engine: ServerEngine) -> None:
    engine.use_adapter(None)
    live = InProcessEngine(in_process(folders, with_adapter=False), engine.tokenizer)
    first = live.complete(PROMPTS[:1], Sampling(max_new_tokens=24))[0]
    ids = engine.tokenizer.encode(first.text, add_special_tokens=False)
    stopping = Sampling(max_new_tokens=24, stop_token_ids=(ids[5],))
    expected = live.complete(PROMPTS, stopping)
    assert expected[0].finished == "stop"
    found = engine.complete(PROMPTS, stopping)
    assert [answer.num_tokens for answer in found] == [answer.num_tokens for answer in expected]
    assert [answer.finished for answer in found] == [answer.finished for answer in expected]
