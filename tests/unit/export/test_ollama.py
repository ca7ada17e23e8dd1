"""The Modelfile against the chat template itself: what Go's template engine makes of it is the text of the template.

The engine here is a small one for the words that are used (if, else if, range, variables), as text/template documents
them; .System and .Messages are what Ollama hands over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jinja2
import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from sft.data.templates import read_template, template_names
from sft.export.ollama import NotExpressible, modelfile_for

BOS, EOS = "<s>", "</s>"
NOT_EXPRESSIBLE = {
    "chatglm2": "numbers rounds",
    "chatglm3": "a text before everything",
    "firefly_chatglm2": "numbers rounds",
    "firefly_llama3": "bos_token before a system message only",
    "llama2_zh": "a default system message inside the first question",
    "llama3.1": "dates in the system turn",
    "llama3.2": "dates in the system turn",
    "llama3.3": "dates in the system turn",
}


def writer(template: str) -> Any:
    def write(messages: Sequence[Mapping[str, str]], is_asked: bool) -> str:
        try:
            texts, _ = render_jinja_template(
                conversations=[list(messages)],
                chat_template=template,
                add_generation_prompt=is_asked,
                bos_token=BOS,
                eos_token=EOS,
                pad_token="<pad>",
            )
        except jinja2.TemplateError as error:
            raise ValueError(str(error)) from error
        return str(texts[0])

    return write


# ---- a small engine for Go's text/template ---------------------------------------------------------------------------

Tokens = list[tuple[bool, str]]


def go_render(template: str, system: str, messages: Sequence[Mapping[str, str]]) -> str:
    parts = re.split(r"\{\{ (.*?) \}\}", template)
    tokens = [(place % 2 == 1, part) for place, part in enumerate(parts)]
    capitals = [{name.capitalize(): text for name, text in message.items()} for message in messages]
    out: list[str] = []
    walk(tokens, 0, {".System": system, ".Messages": capitals}, out)
    return "".join(out)


def value_of(word: str, scope: Mapping[str, Any]) -> Any:
    return word[1:-1] if word.startswith('"') else scope[word]


def is_true(condition: str, scope: Mapping[str, Any]) -> bool:
    if condition.startswith("eq "):
        _, one, other = condition.split()
        return bool(value_of(one, scope) == value_of(other, scope))
    return bool(value_of(condition, scope))


def branches(tokens: Tokens, place: int) -> Iterator[tuple[str, int]]:
    """The conditions of an if with the places after them, and ("end", place) at last."""
    depth = 0
    yield tokens[place][1].removeprefix("if "), place + 1
    for here in range(place + 1, len(tokens)):
        is_action, text = tokens[here]
        if not is_action:
            continue
        if text.startswith(("if ", "range ")):
            depth += 1
        elif text == "end" and not depth:
            yield "end", here
            return
        elif text == "end":
            depth -= 1
        elif text.startswith("else if ") and not depth:
            yield text.removeprefix("else if "), here + 1


def walk(tokens: Tokens, place: int, scope: dict[str, Any], out: list[str]) -> int:
    """Write from a place on to the end of its block; gives the place of that end."""
    while place < len(tokens):
        is_action, text = tokens[place]
        if not is_action:
            out.append(text)
        elif text == "end" or text.startswith("else "):
            return place
        elif text.startswith("if "):
            found = list(branches(tokens, place))
            chosen = next((start for condition, start in found[:-1] if is_true(condition, scope)), None)
            if chosen is not None:
                walk(tokens, chosen, scope, out)
            place = found[-1][1]
        elif text.startswith("range "):
            end = list(branches(tokens, place))[-1][1]
            for message in scope[text.removeprefix("range ")]:
                scope.update({f".{name}": content for name, content in message.items()})
                walk(tokens, place + 1, scope, out)
            place = end
        elif match := re.fullmatch(r"(\$\w+) :?= (.+)", text):
            scope[match[1]] = value_of(match[2], scope)
        else:
            out.append(str(scope[text]))
        place += 1
    return place


# ---- the tests -------------------------------------------------------------------------------------------------------

TALK = [
    {"role": "user", "content": "How far is the moon?"},
    {"role": "assistant", "content": "384,400 km."},
    {"role": "user", "content": "And the sun?\nIn words."},
]


@pytest.mark.parametrize("name", template_names())
def test_the_modelfile_writes_what_the_chat_template_writes(name: str) -> None:
    write = writer(read_template(name))
    if name in NOT_EXPRESSIBLE:
        with pytest.raises(NotExpressible):
            modelfile_for(write, bos=BOS, stops=[EOS], context=None)
        return
    modelfile = modelfile_for(write, bos=BOS, stops=[EOS], context=None)
    template = re.findall(r'^TEMPLATE """(.*?)"""$', modelfile, re.DOTALL | re.MULTILINE)[0]
    default = "".join(re.findall(r'^SYSTEM """(.*?)"""$', modelfile, re.DOTALL | re.MULTILINE))
    conversations = [("", TALK[:1]), ("", TALK)]
    if ".System" in template:
        conversations += [("Answer in metres.", TALK[:1]), ("Answer in metres.", TALK)]
    for system, talk in conversations:
        given = [{"role": "system", "content": system}, *talk] if system else talk
        # Ollama puts the Modelfile's system message where a conversation has none, and leaves it among the messages
        written = go_render(template, system or default, given)
        assert written == write(given, True).removeprefix(BOS)


def test_what_stands_beside_the_template() -> None:
    modelfile = modelfile_for(
        writer(read_template("qwen")), bos="", stops=["<|im_end|>", "<|endoftext|>", "<|im_end|>"], context=32768
    )
    lines = modelfile.splitlines()
    assert "FROM ." in lines
    assert [line for line in lines if line.startswith("PARAMETER")] == [
        'PARAMETER stop "<|im_end|>"', 'PARAMETER stop "<|endoftext|>"', "PARAMETER num_ctx 4096",
    ]  # fmt: skip
    assert 'SYSTEM """You are Qwen, created by Alibaba Cloud. You are a helpful assistant."""' in lines
    assert "num_ctx 512" in modelfile_for(writer(read_template("chatml")), bos="", stops=[], context=512)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "changes the contents"),
        (
            "{% for m in messages %}{{ m.content }}{% if loop.index > 4 %}!{% endif %};{% endfor %}",
            "does more than put",
        ),
        ("{{ raise_exception('no') }}", "refuses a plain conversation"),
        ("{% for m in messages %}{{ '{{' + m.content }}{% endfor %}", "curly brackets"),
        ("note {% for m in messages %}[{{ m.content }}]{% endfor %}", "no system message"),
    ],
)
def test_templates_that_ollama_cannot_say(template: str, says: str) -> None:
    with pytest.raises(NotExpressible, match=says):
        modelfile_for(writer(template), bos="", stops=[], context=None)
