from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, MambaConfig, MambaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from sft.errors import ConfigError, DataError
from sft.generation import Sampling
from sft.generation.in_process import InProcessEngine, complete, generate
from sft.generation.prompts import encode_prompt

PROMPTS = [
    "<s>Once upon a time",
    "<s>One day, a little girl named Lily found a needle in her room. She knew it was difficult to play with it",
    "<s>Tom",
    "<s>The big dog wanted to",
    '<s>Once there was a bird. It could not fly. "Why", said',
]


def alone(model: Any, ids: list[int], max_new_tokens: int) -> list[int]:
    """What ``model.generate`` writes for one prompt without padding."""
    prompt = torch.tensor([ids])
    output = model.generate(
        input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=max_new_tokens, do_sample=False
    )
    return output[0, len(ids) :].tolist()


@pytest.mark.parametrize("max_batch_tokens", [1, 200, 16_384])
def test_greedy_answers_equal_generate_one_prompt_at_a_time(stories: tuple[Any, Any], max_batch_tokens: int) -> None:
    model, tokenizer = stories
    expected = [
        tokenizer.decode(alone(model, tokenizer.encode(prompt, add_special_tokens=False), 40), skip_special_tokens=True)
        for prompt in PROMPTS
    ]
    answers = generate(model, tokenizer, PROMPTS, max_new_tokens=40, max_batch_tokens=max_batch_tokens)
    assert answers == expected
    assert len(set(answers)) == len(PROMPTS)


def tiny_models() -> list[Any]:
    torch.manual_seed(5)
    common = {"vocab_size": 512, "initializer_range": 0.4, "bos_token_id": None, "eos_token_id": None}
    qwen3 = Qwen3Config(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        **common,
    )
    gpt2 = GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=128, **common)
    mamba = MambaConfig(hidden_size=32, num_hidden_layers=2, state_size=8, **common)
    return [Qwen3ForCausalLM(qwen3), GPT2LMHeadModel(gpt2), MambaForCausalLM(mamba)]


@pytest.mark.parametrize("place", range(3), ids=["qwen3", "gpt2", "mamba"])
def test_padding_does_not_reach_an_answer_in_other_model_families(stories: tuple[Any, Any], place: int) -> None:
    model = tiny_models()[place].eval()
    prompts = [[7, 8, 9], list(range(20, 45)), [100], [300, 12, 300, 12, 4, 91]]
    completions = complete(model, stories[1], prompts, Sampling(max_new_tokens=12))
    tokenizer = stories[1]
    assert [completion.text for completion in completions] == [
        tokenizer.decode(alone(model, ids, 12), skip_special_tokens=True) for ids in prompts
    ]


def train(model: Any, steps: int, between: Any) -> dict[str, torch.Tensor]:
    """A few steps of training with dropout, ``between`` called after each."""
    torch.manual_seed(11)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        ids = torch.randint(0, 512, (2, 16))
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        between(model)
    return model.state_dict()


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_training_goes_on_bit_for_bit_as_without_generation(stories: tuple[Any, Any], temperature: float) -> None:
    first = tiny_models()[1]  # GPT-2 has dropout everywhere
    first.config.use_cache = False
    getattr(
        first, "activation_checkpointing_enable", first.gradient_checkpointing_enable
    )()  # its name from transformers 5.2x on
    second = copy.deepcopy(first)
    flags: list[list[bool]] = []

    def answer(model: Any) -> None:
        model.transformer.h[1].attn.eval()  # someone froze a part's dropout on purpose
        before = [module.training for module in model.modules()]
        generate(model, stories[1], [[5, 6], [7]], max_new_tokens=5, temperature=temperature, seed=3)
        flags.extend([before, [module.training for module in model.modules()]])

    def freeze_only(model: Any) -> None:
        model.transformer.h[1].attn.eval()

    straight = train(first, 3, freeze_only)
    interrupted = train(second, 3, answer)
    assert all(torch.equal(straight[name], interrupted[name]) for name in straight)
    assert flags[0] == flags[1]
    assert not all(flags[0])
    assert second.config.use_cache is False
    assert any(getattr(module, "gradient_checkpointing", False) for module in second.modules())


def test_an_error_while_generating_also_leaves_the_model_training(stories: tuple[Any, Any]) -> None:
    model = tiny_models()[0].train()

    def fail(done: int, asked: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(model, stories[1], [[1, 2]], max_new_tokens=2, on_progress=fail)
    assert all(module.training for module in model.modules())


def test_a_rendered_prompt_gets_no_second_bos(stories: tuple[Any, Any]) -> None:
    tokenizer = stories[1]
    assert encode_prompt(tokenizer, "<s>Once upon a time") == tokenizer.encode("Once upon a time")
    assert encode_prompt(tokenizer, "Once upon a time") == tokenizer.encode("Once upon a time")[1:]
    assert encode_prompt(tokenizer, (1, 403)) == [1, 403]


def test_an_answer_ends_at_trained_and_own_stop_tokens(stories: tuple[Any, Any]) -> None:
    model, tokenizer = stories
    ids = tokenizer.encode(PROMPTS[0], add_special_tokens=False)
    written = alone(model, ids, 30)
    stop = written[6]
    first = written.index(stop)
    [completion] = complete(model, tokenizer, [ids], Sampling(max_new_tokens=30, stop_token_ids=(stop,)))
    assert completion.finished == "stop"
    assert completion.num_tokens == first + 1
    assert completion.text == tokenizer.decode(written[:first])

    model = copy.deepcopy(model)
    model.generation_config.eos_token_id = [2, stop]
    short, long = complete(model, tokenizer, [ids, PROMPTS[1]], Sampling(max_new_tokens=8))
    assert (short.finished, short.num_tokens) == ("stop", first + 1)
    assert (long.finished, long.num_tokens) == ("length", 8)


def test_sampling_is_repeatable_and_seeded(stories: tuple[Any, Any]) -> None:
    engine = InProcessEngine(*stories)
    hot = Sampling(max_new_tokens=20, temperature=1.5, seed=1)
    first = engine.complete(PROMPTS, hot)
    assert first == engine.complete(PROMPTS, hot)
    assert first != engine.complete(PROMPTS, Sampling(max_new_tokens=20, temperature=1.5, seed=2))
    narrow = Sampling(max_new_tokens=20, temperature=1.5, top_k=1, seed=1)
    assert engine.complete(PROMPTS, narrow) == engine.complete(PROMPTS, Sampling(max_new_tokens=20))


def test_progress_counts_up_to_all_prompts(stories: tuple[Any, Any]) -> None:
    seen: list[tuple[int, int]] = []
    generate(*stories, PROMPTS, max_new_tokens=3, max_batch_tokens=40, on_progress=lambda *done: seen.append(done))
    assert seen[-1] == (5, 5)
    assert len(seen) > 1
    assert seen == sorted(seen)


def test_a_prompt_without_room_is_refused_and_a_short_room_is_used_up(stories: tuple[Any, Any]) -> None:
    model, tokenizer = stories
    with pytest.raises(DataError, match=r"Prompt 2 has 512 tokens.*holds 512"):
        generate(model, tokenizer, ["<s>Tom", [5] * 512], max_new_tokens=4)
    with pytest.raises(DataError, match="Prompt 1 is empty"):
        generate(model, tokenizer, [""], max_new_tokens=4)
    full, free = complete(model, tokenizer, [[1] + [403] * 508, [1, 403]], Sampling(max_new_tokens=9))
    assert (full.num_tokens, full.finished) == (3, "length")
    assert free.num_tokens == 9


def test_sampling_says_all_that_is_wrong_with_it() -> None:
    with pytest.raises(ConfigError) as error:
        Sampling(max_new_tokens=0, temperature=-1, top_p=0)
    assert len(error.value.problems) == 3
