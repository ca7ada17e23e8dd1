"""Names of the shipped templates, what else may be given, and that a template can carry defaults for its variables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from sft.data.render import Renderer
from sft.data.templates import (
    FOLDER,
    describe_templates,
    is_left_to_tokenizer,
    read_template,
    template_names,
    with_bos,
    with_default_kwargs,
)
from sft.data.templates.catalogue import SHIPPED
from sft.data.types import Conversation, Message, Source
from sft.errors import ConfigError

MESSAGES = (
    Message(role="system", content="Be short."),
    Message(role="user", content="What is two?"),
    Message(role="assistant", content="one one"),
    Message(role="user", content="And three?"),
    Message(role="assistant", content="two one"),
)
CONVERSATION = Conversation(messages=MESSAGES, source=Source("rows.jsonl", 1))


# Names


@pytest.mark.parametrize(
    "names",
    [
        ("qwen", "qwen2.5"),
        ("qwen1.5", "qwen2"),
        ("gemma", "gemma2", "gemma3"),
        ("llama3.1", "llama3.2", "llama3.3"),
        ("mistral_v1", "mixtral"),
        ("phi", "phi3"),
        ("zephyr", "mamba"),
        ("chatml", "yi", "minicpm3", "smollm"),
        ("firefly_mistral", "firefly_mixtral"),
    ],
)
def test_names_that_share_a_text(names: tuple[str, ...]) -> None:
    assert len({read_template(name) for name in names}) == 1


def test_every_file_has_a_name_and_every_name_a_file() -> None:
    files = {path.stem for path in FOLDER.glob("*.jinja")}
    assert files == {shipped.file for shipped in SHIPPED.values()}
    assert set(describe_templates()) == set(template_names())
    assert all(describe_templates().values())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("qwen2_vl", "for models with images, video or sound; sft trains on text. Leave chat_template out"),
        ("gpt_oss", "sft has no file for it. Leave chat_template out"),
        ("firefly_mamba", "Take mamba"),
    ],
)
def test_names_of_other_tools_get_advice(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        read_template(name)
    assert is_left_to_tokenizer(name) == (name != "firefly_mamba")


def test_no_name_is_both_shipped_and_left_to_the_tokenizer() -> None:
    assert not any(is_left_to_tokenizer(name) for name in template_names())
    assert not is_left_to_tokenizer("something else")


def test_a_variable_of_a_name_can_be_given(tokenizer_of: Any) -> None:
    turns = [{"role": "user", "content": "Q"}]
    write = tokenizer_of("qwen2").apply_chat_template
    assert write(turns, tokenize=False).startswith("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n")
    assert write(turns, tokenize=False, default_system="Be kind.").startswith("<|im_start|>system\nBe kind.<|im_end|>")


@pytest.mark.parametrize("name", ["qwen", "qwen2", "alpaca", "vicuna", "llama2_zh", "firefly_llama2", "chatml_de"])
def test_a_system_prompt_takes_the_place_of_the_templates_own(tokenizer_of: Any, name: str) -> None:
    """Whether it is the row's or ``system_prompt``'s, which becomes a message before this."""
    tokenizer = tokenizer_of(name)
    turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    own = tokenizer.apply_chat_template(turns, tokenize=False)
    given = tokenizer.apply_chat_template([{"role": "system", "content": "SYS"}, *turns], tokenize=False)
    assert "SYS" in given
    assert len(given) < len(own)


@pytest.mark.parametrize("name", ["chatml", "qwen3", "qwen3_nothink", "llama3", "gemma", "zephyr", "mistral", "yi"])
def test_no_system_message_is_made_up_where_the_vendor_has_none(tokenizer_of: Any, name: str) -> None:
    written = tokenizer_of(name).apply_chat_template([{"role": "user", "content": "Q"}], tokenize=False)
    assert "system" not in written.lower()
    assert "You are" not in written


# Reading


def test_a_template_may_be_a_file_or_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text("{{ messages[0].content }}", encoding="utf-8")
    assert read_template(str(path)) == "{{ messages[0].content }}"
    assert read_template("{{ messages }}") == "{{ messages }}"


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="Did you mean zephyr"):
        read_template("zefyr")


# Defaults


@pytest.mark.parametrize(
    "template",
    [
        "{{ a }}|{{ b }}|{{ messages[0].content }}",
        "\n  {% if a %}yes{% endif %}\n{{ b }}",
        "  {%- for m in messages %}{{ a }}{{ m.content }}{% if b is defined %}{{ b }}{% endif %}{% endfor %}\n",
        "text {% set c = a %}{{ c }}{{ b }}",
        "{% macro m() %}{{ a }}{% endmacro %}{{ m() }}{{ b }}",
    ],
)
@pytest.mark.parametrize("value", [False, True, None, 3, 1.5, 'it\'s "x" \\ \n {{ é', ["a", {"b": None}]])
def test_a_default_writes_what_the_variable_writes(new_tokenizer: Any, template: str, value: Any) -> None:
    turns = [message.for_template() for message in MESSAGES]
    kwargs = {"a": value, "b": "B"}
    given = new_tokenizer(template).apply_chat_template(turns, tokenize=False, **kwargs)
    changed = new_tokenizer(with_default_kwargs(template, kwargs))
    assert changed.apply_chat_template(turns, tokenize=False) == given
    other = new_tokenizer(template).apply_chat_template(turns, tokenize=False, a="other", b="B")
    assert changed.apply_chat_template(turns, tokenize=False, a="other") == other


def test_a_saved_default_gives_everyone_the_trained_prompt(new_tokenizer: Any) -> None:
    tokenizer = new_tokenizer("qwen3")
    renderer = Renderer(tokenizer)
    renderer.render(CONVERSATION)
    asked = [message.for_template() for message in MESSAGES[:4]]
    trained_prompt = renderer.generation_prompt(MESSAGES[:4])
    assert tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True) != trained_prompt
    tokenizer.chat_template = with_default_kwargs(tokenizer.chat_template, renderer.generation_kwargs)
    assert tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True) == trained_prompt


def test_a_saved_default_can_be_trained_away_again(new_tokenizer: Any) -> None:
    tokenizer = new_tokenizer(with_default_kwargs(read_template("qwen3"), {"enable_thinking": False}))
    renderer = Renderer(tokenizer)
    thoughtful = (MESSAGES[1], Message(role="assistant", content="one one", reasoning="one and one"))
    [example] = renderer.render(Conversation(messages=thoughtful, source=Source("rows.jsonl", 1)))
    assert example.trained_text == ("<think>\none and one\n</think>\n\none one<|im_end|>",)
    assert renderer.generation_kwargs == {"enable_thinking": True}


def test_with_bos(new_tokenizer: Any) -> None:
    tokenizer = new_tokenizer(with_bos(read_template("default")), special=("<s>", "</s>"), eos="</s>", bos="<s>")
    turns = [message.for_template() for message in MESSAGES[:3]]
    assert tokenizer.apply_chat_template(turns, tokenize=False) == (
        "<s>System: Be short.\n\nUser: What is two?\nAssistant: one one</s>\n"
    )
