"""An answer from other weights than were asked for is found; one from the right weights passes, rounded or not."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from sft.errors import GenerationError
from sft.generation.probe import make_probe
from sft.generation.proof import DECISIVE_MARGIN, FirstToken, Probe, prove_weights

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


class Live:
    """Answers a probe as a faithful server would, from a model in this process."""

    def __init__(self, model: Any, tokenizer: Any, *, noise: float = 0.0, tells_logprobs: bool = True) -> None:
        self.model = copy.deepcopy(model).eval()
        self.tokenizer = tokenizer
        self.noise = noise
        self.tells_logprobs = tells_logprobs
        self.adapter = "adapter-0123"

    def first_tokens(self, prompts: Sequence[Any]) -> list[FirstToken]:
        torch.manual_seed(1)
        return [self._first(list(prompt)) for prompt in prompts]

    @torch.no_grad()
    def _first(self, ids: list[int]) -> FirstToken:
        logits = self.model(input_ids=torch.tensor([ids])).logits[0, -1].float()
        logprobs = torch.log_softmax(logits + self.noise * torch.randn_like(logits), -1)
        token = int(logprobs.argmax())
        text = self.tokenizer.decode([token], skip_special_tokens=True)
        return FirstToken(text, float(logprobs[token]) if self.tells_logprobs else None)


def adapted(folder: Path, *, seed: int, size: float) -> Any:
    """The tiny model with an adapter whose B is random, times ``size``."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # a fresh model likes all tokens alike
        model = get_peft_model(
            model,
            LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"]),
        )
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn_like(parameter) * size)
    return model


def base_of(model: Any) -> Any:
    return copy.deepcopy(model).unload()


@pytest.fixture(scope="module")
def trained(tiny_model_folder: Path) -> Any:
    return adapted(tiny_model_folder, seed=1, size=1.0)


@pytest.fixture(scope="module")
def probe(trained: Any, tokenizer: Any) -> Probe:
    return make_probe(trained, tokenizer)


def test_the_probe_is_where_they_firmly_disagree(trained: Any, tokenizer: Any, probe: Probe) -> None:
    assert len(probe.decisive) == len(probe.prompts) == 12
    for prompt in probe.prompts:
        ids = list(prompt.ids)
        for model, weights in ((trained, "adapter"), (base_of(trained), "base")):
            assert Live(model, tokenizer).first_tokens([ids])[0].text == prompt.tokens[weights]
            with torch.no_grad():
                logprobs = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0, -1].float(), -1)
            first, second = logprobs.topk(2).values.tolist()
            assert first == pytest.approx(prompt.logprobs[weights][prompt.tokens[weights]], abs=1e-4)
            assert first - second >= prompt.margin - 1e-4 >= DECISIVE_MARGIN - 1e-4


@pytest.mark.parametrize("tells_logprobs", [True, False])
def test_the_right_weights_pass(trained: Any, tokenizer: Any, probe: Probe, tells_logprobs: bool) -> None:
    proof = prove_weights(Live(trained, tokenizer, tells_logprobs=tells_logprobs), probe, asked="adapter")
    assert (proof.shown_by, proof.num_as_expected, proof.num_prompts) == ("tokens", 12, 12)
    assert proof.adapter == "adapter-0123"
    if tells_logprobs:
        assert proof.logprob_difference < 1e-4 < 0.5 < proof.logprob_difference_to_other  # type: ignore[operator]
    assert proof.to_dict()["asked"] == "adapter"
    base = Live(base_of(trained), tokenizer, tells_logprobs=tells_logprobs)
    assert prove_weights(base, probe, asked="base").num_as_expected == 12


@pytest.mark.parametrize("tells_logprobs", [True, False])
def test_the_base_model_in_the_adapters_place_is_found(
    trained: Any, tokenizer: Any, probe: Probe, tells_logprobs: bool
) -> None:
    base = Live(base_of(trained), tokenizer, tells_logprobs=tells_logprobs)
    with pytest.raises(
        GenerationError, match=r"Asked for the adapter adapter-0123, .* after 0 of 12 .* base model after 12"
    ):
        prove_weights(base, probe, asked="adapter")
    with pytest.raises(GenerationError, match="Asked for the base model"):
        prove_weights(Live(trained, tokenizer, tells_logprobs=tells_logprobs), probe, asked="base")


def test_another_adapter_is_found(tiny_model_folder: Path, tokenizer: Any, probe: Probe) -> None:
    other = adapted(tiny_model_folder, seed=2, size=1.0)
    with pytest.raises(GenerationError, match="Other weights answer"):
        prove_weights(Live(other, tokenizer), probe, asked="adapter")


def test_an_adapter_at_another_scale_is_found(trained: Any, tokenizer: Any, probe: Probe) -> None:
    scaled = copy.deepcopy(trained)
    for module in scaled.modules():
        if hasattr(module, "scaling") and isinstance(module.scaling, dict):
            module.scaling["default"] *= 0.25
    with pytest.raises(GenerationError, match="weights"):
        prove_weights(Live(scaled, tokenizer), probe, asked="adapter")


def test_rounding_is_no_fault(trained: Any, tokenizer: Any, probe: Probe) -> None:
    proof = prove_weights(Live(trained, tokenizer, noise=0.1), probe, asked="adapter")
    assert proof.shown_by == "tokens"
    half = copy.deepcopy(trained).to(torch.bfloat16)
    assert prove_weights(Live(half, tokenizer), probe, asked="adapter").shown_by == "tokens"


def test_an_untrained_adapter_equals_both_and_it_is_said(tiny_model_folder: Path, tokenizer: Any) -> None:
    untrained = adapted(tiny_model_folder, seed=1, size=0.0)
    probe = make_probe(untrained, tokenizer)
    assert probe.decisive == ()
    for model in (untrained, base_of(untrained)):
        assert prove_weights(Live(model, tokenizer), probe, asked="adapter").shown_by == "equality"
    with pytest.raises(GenerationError, match="Other weights answer"):
        prove_weights(Live(adapted(tiny_model_folder, seed=2, size=1.0), tokenizer), probe, asked="adapter")


def test_an_adapter_that_changes_no_token_is_told_by_probabilities(tiny_model_folder: Path, tokenizer: Any) -> None:
    little = adapted(tiny_model_folder, seed=1, size=0.01)
    probe = make_probe(little, tokenizer, num_prompts=100)
    probe = Probe(tuple(prompt for prompt in probe.prompts if prompt.margin < DECISIVE_MARGIN)[:12])
    assert len(probe.prompts) == 12
    assert probe.decisive == ()
    assert prove_weights(Live(little, tokenizer), probe, asked="adapter").shown_by == "probabilities"
    with pytest.raises(GenerationError, match="log probabilities are"):
        prove_weights(Live(base_of(little), tokenizer), probe, asked="adapter")


def test_a_model_without_adapter_is_probed_too(tiny_model_folder: Path, tokenizer: Any, trained: Any) -> None:
    model = base_of(trained)
    probe = make_probe(model, tokenizer)
    assert prove_weights(Live(model, tokenizer), probe, asked="base").num_as_expected == 12
    with pytest.raises(GenerationError, match="asked for"):
        prove_weights(Live(trained, tokenizer), probe, asked="base")


def test_a_model_in_training_is_left_as_it_was(tiny_model_folder: Path, tokenizer: Any) -> None:
    model = adapted(tiny_model_folder, seed=1, size=1.0).train()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    needs_grad = [parameter.requires_grad for parameter in model.parameters()]
    state = torch.random.get_rng_state()
    make_probe(model, tokenizer)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    assert needs_grad == [parameter.requires_grad for parameter in model.parameters()]
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    assert model.active_adapters == ["default"]


def test_prompts_too_short_to_probe(trained: Any, tokenizer: Any) -> None:
    with pytest.raises(GenerationError, match="none of 2 texts has 4 tokens"):
        make_probe(trained, tokenizer, [[5, 6], [7]])
