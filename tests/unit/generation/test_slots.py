from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from sft.generation import Sampling
from sft.generation import slots as slots_module
from sft.generation.in_process import InProcessEngine, complete, undisturbed
from sft.generation.slot_check import examine
from sft.generation.slot_layout import Limits, Request
from sft.generation.slots import SlotDecoder
from sft.generation.token_choice import TokenChoice

VOCABULARY = 512
COMMON = {"vocab_size": VOCABULARY, "initializer_range": 0.4, "bos_token_id": None, "eos_token_id": None}
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    **COMMON,
}


def make_model(family: str) -> Any:
    torch.manual_seed(5)
    made = {
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
        "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(head_dim=8, **SHAPE)),
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=512, **COMMON)),
        "gemma2": lambda: Gemma2ForCausalLM(  # soft-capped, every other layer sees 16 tokens, shorter than most prompts
            Gemma2Config(head_dim=8, sliding_window=16, query_pre_attn_scalar=8, attn_implementation="eager", **SHAPE)
        ),
        "mistral": lambda: MistralForCausalLM(MistralConfig(sliding_window=16, **SHAPE)),
        "mamba": lambda: MambaForCausalLM(MambaConfig(hidden_size=32, num_hidden_layers=2, state_size=8, **COMMON)),
    }
    return made[family]().eval()


ATTENDING = ("llama", "qwen3", "gpt2", "gemma2", "mistral")


def make_prompts(count: int, longest: int = 400, seed: int = 0) -> list[list[int]]:
    """Random ids, of very different lengths; the shortest has one."""
    generator = torch.Generator().manual_seed(seed)
    lengths = (1 + (longest - 1) * torch.rand(count, generator=generator) ** 3).long()
    lengths[0], lengths[1] = 1, longest
    return [torch.randint(3, VOCABULARY, (int(length),), generator=generator).tolist() for length in lengths]


def alone(model: Any, ids: Sequence[int], **options: Any) -> list[int]:
    """What ``model.generate`` writes for one prompt without padding."""
    prompt = torch.tensor([ids])
    output = model.generate(input_ids=prompt, attention_mask=torch.ones_like(prompt), do_sample=False, **options)
    return output[0, len(ids) :].tolist()


def in_slots(model: Any, requests: Sequence[Request], sampling: Sampling, **options: Any) -> dict[int, list[int]]:
    """Tokens by the request's number, or a failed test where the model does not answer in slots."""
    settings = {"slots": 4, "tokens": 10**6, "stops": (), "penalty": 1.0, "spare": 256} | options
    with undisturbed(model, seed=0):
        prompts = [request.ids for request in requests]
        template = examine(model, NoTokenizer(), prompts, sampling)
        assert template.reason is None
        choice = TokenChoice(sampling, settings["stops"], settings["penalty"])
        limits = Limits(settings["slots"], settings["tokens"], settings["spare"])
        decoder = SlotDecoder(model, template.template, choice, limits=limits, pad_token_id=0)
        answers = list(decoder.answer(requests))
    assert len(answers) == len(requests)
    return dict(answers)


class NoTokenizer:
    """All of a tokenizer that answering in token ids needs."""

    pad_token_id = 0
    eos_token_id = None

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return " ".join(map(str, ids))


@pytest.mark.parametrize("family", ATTENDING)
@pytest.mark.parametrize(("slots", "tokens"), [(4, 10**6), (5, 1200)], ids=["free", "tight"])
def test_answers_are_those_of_generate_one_prompt_at_a_time(family: str, slots: int, tokens: int) -> None:
    model = make_model(family)
    rooms = [1, 25, 7, 40, 3, 90, 12, 2, 33, 18, 5, 60, 21, 9]
    requests = [Request(ids, room) for ids, room in zip(make_prompts(len(rooms)), rooms, strict=True)]
    answers = in_slots(model, requests, Sampling(max_new_tokens=90), slots=slots, tokens=tokens)
    for number, request in enumerate(requests):
        assert answers[number] == alone(model, request.ids, max_new_tokens=request.room), number


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_looking_less_often_changes_no_answer(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    model = make_model("qwen3")
    requests = [Request(ids, 40) for ids in make_prompts(12, longest=50)]
    stops = tuple(range(0, VOCABULARY, 16))
    monkeypatch.setattr(slots_module, "STEPS_ON_CPU", steps)
    answers = in_slots(model, requests, Sampling(max_new_tokens=40), stops=stops, spare=1)
    assert len({len(tokens) for tokens in answers.values()}) > 3
    for number, request in enumerate(requests):
        assert answers[number] == alone(model, request.ids, max_new_tokens=40, eos_token_id=list(stops), pad_token_id=0)


def test_stop_tokens_wait_for_the_least_number_of_tokens_of_each_row() -> None:
    model = make_model("llama")
    stops = tuple(range(0, VOCABULARY, 4))
    requests = [Request(ids, 30) for ids in make_prompts(9, longest=60)]
    free = in_slots(model, requests, Sampling(max_new_tokens=30), stops=stops)
    answers = in_slots(model, requests, Sampling(max_new_tokens=30, min_new_tokens=6), stops=stops)
    assert min(map(len, free.values())) < 6 < min(map(len, answers.values()))
    for number, request in enumerate(requests):
        expected = alone(
            model, request.ids, max_new_tokens=30, min_new_tokens=6, eos_token_id=list(stops), pad_token_id=0
        )
        assert answers[number] == expected


def test_the_models_own_repetition_penalty_holds() -> None:
    model = make_model("qwen3")
    requests = [Request(ids, 25) for ids in make_prompts(9, longest=60)]
    plain = in_slots(model, requests, Sampling(max_new_tokens=25))
    answers = in_slots(model, requests, Sampling(max_new_tokens=25), penalty=1.3)
    assert answers != plain
    for number, request in enumerate(requests):
        assert answers[number] == alone(model, request.ids, max_new_tokens=25, repetition_penalty=1.3)

    model.generation_config.repetition_penalty = 1.3
    completions = complete(model, NoTokenizer(), [request.ids for request in requests], Sampling(max_new_tokens=25))
    assert [completion.text for completion in completions] == [
        " ".join(map(str, answers[number])) for number in range(9)
    ]


def test_real_stories_with_prompts_of_all_lengths(stories: tuple[Any, Any]) -> None:
    model, tokenizer = stories
    tale = tokenizer.encode("Once upon a time there was a bird. It could not fly. " * 40)
    generator = torch.Generator().manual_seed(1)
    prompts = [tale[: int(length)] for length in torch.randint(1, 401, (14,), generator=generator)]
    stops = (tokenizer.encode("<s>.", add_special_tokens=False)[-1],)
    engine = InProcessEngine(model, tokenizer, max_rows=6)
    completions = engine.complete(prompts, Sampling(max_new_tokens=60, stop_token_ids=stops))
    for ids, completion in zip(prompts, completions, strict=True):
        expected = alone(model, ids, max_new_tokens=60, eos_token_id=[1, 2, *stops], pad_token_id=0)
        ended = expected[-1] in (1, 2, *stops)
        assert completion.text == tokenizer.decode(expected[:-1] if ended else expected, skip_special_tokens=True)
        assert (completion.num_tokens, completion.finished) == (len(expected), "stop" if ended else "length")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_an_adapter_is_live_and_training_goes_on_undisturbed() -> None:
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"], lora_dropout=0.5)
    model = get_peft_model(make_model("qwen3"), lora)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=1.0)
    model.train()
    requests = [Request(ids, 12) for ids in make_prompts(10, longest=40)]
    state = torch.get_rng_state()
    answers = in_slots(model, requests, Sampling(max_new_tokens=12))
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    assert any(parameter.requires_grad for parameter in model.parameters())
    model.eval()
    for number, request in enumerate(requests):
        assert answers[number] == alone(model, request.ids, max_new_tokens=12)
    with model.disable_adapter():
        assert answers[1] != alone(model, requests[1].ids, max_new_tokens=12)


def test_a_model_in_bfloat16_answers_in_slots() -> None:
    model = make_model("llama").to(torch.bfloat16)
    requests = [Request(ids, 20) for ids in make_prompts(10, longest=40)]
    answers = in_slots(model, requests, Sampling(max_new_tokens=20))
    same = sum(
        answers[number][:3] == alone(model, request.ids, max_new_tokens=3) for number, request in enumerate(requests)
    )
    assert same >= 9  # rounding may decide a tie otherwise


def test_what_is_drawn_depends_on_seed_and_prompt_only() -> None:
    model = make_model("llama")
    requests = [Request(ids, 30) for ids in make_prompts(10, longest=40)]
    requests[7] = requests[3]
    hot = Sampling(max_new_tokens=30, temperature=1.3, top_p=0.9, top_k=50, seed=4)
    answers = in_slots(model, requests, hot)
    assert answers == in_slots(model, requests, hot, slots=2, spare=1)
    assert answers[3] != answers[7]
    other = in_slots(model, requests, Sampling(max_new_tokens=30, temperature=1.3, top_p=0.9, top_k=50, seed=5))
    assert all(answers[number] != other[number] for number in range(10))


def test_one_step_draws_as_often_as_the_model_says() -> None:
    model = make_model("llama")
    ids = [5, 6, 7]
    sampling = Sampling(max_new_tokens=1, temperature=2.0, top_k=8, top_p=0.95)
    drawn = in_slots(model, [Request(ids, 1)] * 2000, sampling, slots=64)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -1] / 2.0
    top = logits.topk(8)
    probabilities = top.values.softmax(-1)
    kept = probabilities.cumsum(-1) - probabilities < 0.95
    probabilities = torch.where(kept, probabilities, 0.0) / probabilities[kept].sum()
    counts = torch.bincount(torch.tensor([tokens[0] for tokens in drawn.values()]), minlength=VOCABULARY)
    assert counts[top.indices].sum() == 2000
    assert torch.allclose(counts[top.indices] / 2000, probabilities, atol=0.04)


def test_progress_counts_answers_and_an_error_leaves_the_model_training() -> None:
    model = make_model("gpt2").train()
    prompts = make_prompts(12, longest=30)
    seen: list[tuple[int, int]] = []
    complete(model, NoTokenizer(), prompts, Sampling(max_new_tokens=5), on_progress=lambda *done: seen.append(done))
    assert seen == [(done, 12) for done in range(1, 13)]

    def fail(done: int, asked: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        complete(model, NoTokenizer(), prompts, Sampling(max_new_tokens=5), on_progress=fail)
    assert all(module.training for module in model.modules())


class WithItsOwnGenerate(LlamaForCausalLM):
    def generate(self, *args: Any, **kwargs: Any) -> Any:
        return super().generate(*args, **kwargs)


def own_generate(model: Any) -> None:
    model.__class__ = WithItsOwnGenerate


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda model: setattr(model.generation_config, "no_repeat_ngram_size", 2), "sets no_repeat_ngram_size"),
        (lambda model: setattr(model.generation_config, "suppress_tokens", [4]), "sets suppress_tokens"),
        (lambda model: model.config.rope_parameters.update(rope_type="dynamic"), "longest row of a batch"),
        (lambda model: setattr(model.lm_head.weight, "ds_id", 1), "weights are sharded"),
        (own_generate, "generate of its own"),
    ],
)
def test_what_a_model_is_may_speak_against_slots(change: Any, reason: str) -> None:
    model = make_model("llama")
    prompts, sampling = make_prompts(8), Sampling(max_new_tokens=3)
    with undisturbed(model, seed=0):
        assert examine(model, NoTokenizer(), prompts, sampling).reason is None
        change(model)
        assert reason in str(examine(model, NoTokenizer(), prompts, sampling).reason)


def test_mamba_says_once_why_it_answers_in_batches(caplog: pytest.LogCaptureFixture) -> None:
    model = make_model("mamba")
    prompts = make_prompts(9, longest=30)
    with caplog.at_level(logging.WARNING):
        completions = complete(model, NoTokenizer(), prompts, Sampling(max_new_tokens=8))
        complete(model, NoTokenizer(), prompts, Sampling(max_new_tokens=2))
    assert [completion.text for completion in completions] == [
        " ".join(map(str, alone(model, ids, max_new_tokens=8))) for ids in prompts
    ]
    [record] = [record for record in caplog.records if record.name.startswith("sft")]
    assert "MambaForCausalLM answers in batches by model.generate" in record.getMessage()
    assert "cache is not one of keys and values" in record.getMessage()


def forget_position(_: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Number a token in a slot as the first of its text: a fault that only running the model shows."""
    if type(kwargs.get("past_key_values")).__name__ == "SlotCache":
        kwargs["position_ids"] = torch.zeros_like(kwargs["position_ids"])
    return args, kwargs


def test_a_model_whose_slots_answer_otherwise_is_found_out(caplog: pytest.LogCaptureFixture) -> None:
    model = make_model("llama")
    model.register_forward_pre_hook(forget_position, with_kwargs=True)
    prompts = make_prompts(9, longest=30)
    completions = complete(model, NoTokenizer(), prompts, Sampling(max_new_tokens=8))
    assert "differs there from the answer of model.generate in token 2" in caplog.text
    assert [completion.text for completion in completions] == [
        " ".join(map(str, alone(model, ids, max_new_tokens=8))) for ids in prompts
    ]
