"""Templates of strangers: none runs code, none writes for ever, and honest ones write what they always wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
from transformers.utils import chat_template_utils

from sft.data.chat_template import CANNOT_COPE
from sft.data.template_limits import MAX_SOURCE, compile_limited, limit_chat_templates
from sft.data.template_prices import TooMuch
from sft.data.templates import read_template

NAMESPACE = "{% set ns = namespace(x='ab', y=[1, 2]) %}"
SPENDERS = {
    "loops in loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "loops that write": "{% for a in range(99999) %}{% for b in range(99999) %}xxxxxxxxxxx{% endfor %}{% endfor %}",
    "a long product": "{{ 'a' * 4000000000 }}",
    "a product the other way": "{{ 4000000000 * 'a' }}",
    "a power": "{{ 10 ** 1000000000 }}",
    "center filter": "{{ 'a' | center(1000000000) }}",
    "ljust": "{{ 'a'.ljust(1000000000) }}",
    "zfill": "{{ 'a'.zfill(1000000000) }}",
    "percent": "{{ '%1000000000d' % 5 }}",
    "percent with a star": "{{ '%*d' % (1000000000, 5) }}",
    "format filter": "{{ '%1000000000d' | format(5) }}",
    "format": "{{ '{:>1000000000}'.format('x') }}",
    "format with a width inside": "{{ '{:>{}}'.format('x', 1000000000) }}",
    "doubling by tilde": NAMESPACE + "{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "doubling by plus": NAMESPACE + "{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "doubling a list": NAMESPACE + "{% for i in range(60) %}{% set ns.y = ns.y + ns.y %}{% endfor %}",
    "doubling a block": NAMESPACE
    + "{% for i in range(60) %}{% set b %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = b %}{% endfor %}",
    "replace": "{% set a = 'a' * 100000 %}{{ a.replace('a', a) }}",
    "replace nothing": "{% set a = 'a' * 100000 %}{{ a.replace('', a) }}",
    "replace filter": "{% set a = 'a' * 100000 %}{{ a | replace('a', a) }}",
    "join": "{% set a = 'a' * 100000 %}{{ a.join(a) }}",
    "join what is made while joining": "{% set a = 'a' * 1000000 %}{{ a.join(range(99999) | map('string')) }}",
    "join filter": "{% set a = 'a' * 100000 %}{{ a | join(a) }}",
    "indent": "{{ ('a\n' * 100000) | indent(1000000) }}",
    "wordwrap": "{{ ('a ' * 1000000) | wordwrap(1, true, 'x' * 100000) }}",
    "tojson": "{{ (range(99999) | list) | tojson(indent=1000000) }}",
    "batch": "{{ [1] | batch(1000000000, 'x') | list }}",
    "slice": "{{ [1] | slice(1000000000, 'x') | list }}",
    "center of many": "{{ range(99999) | map('string') | map('center', 1000000) | list }}",
    "expandtabs": "{{ ('\t' * 1000).expandtabs(1000000) }}",
    "a macro that calls itself twice": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
    "{{ f(60) }}",
    "comparing long texts": "{% set a = 'a' * 9000000 %}{% set b = 'a' * 9000000 %}"
    "{% for i in range(99999) %}{% if a == b %}{% endif %}{% endfor %}",
    "turning long texts round": "{% set a = 'a' * 9000000 %}"
    "{% for i in range(99999) %}{% set b = a[::-1] %}{% endfor %}",
    "nested brackets": "{{ " + "(" * 2000 + "1" + ")" * 2000 + " }}",
    "a template without end": "x" * (MAX_SOURCE + 1),
}
ESCAPES = {
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ messages.__init__.__globals__ }}",
    "a builtin's module": "{{ cycler.__init__.__globals__.os.system('touch canary') }}",
    "changing the messages": "{{ messages.append(1) }}",
    "a file": "{% include '/etc/passwd' %}",
    "an import": "{% import 'os' as os %}{{ os.system('touch canary') }}",
    "private names in a namespace": "{% set ns = namespace(__class__=1) %}",
    "endless recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a loop over itself": "{% for x in [messages] recursive %}{{ loop([x, x]) }}{% endfor %}",
}
TURNS = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "How are you?\n  Zwölf Boxkämpfer {{ 1 }}"},
    {"role": "assistant", "content": "Fine, thank you."},
]


@pytest.fixture(autouse=True)
def limits() -> Iterator[None]:
    before = chat_template_utils._compile_jinja_template
    limit_chat_templates()
    yield
    chat_template_utils._compile_jinja_template = before


def render(source: str, **variables: Any) -> str:
    texts, _ = chat_template_utils.render_jinja_template(conversations=[TURNS], chat_template=source, **variables)
    return str(texts[0])


@pytest.mark.parametrize("name", SPENDERS)
def test_a_template_that_wants_too_much_is_stopped(name: str) -> None:
    with pytest.raises(TooMuch):
        render(SPENDERS[name])


@pytest.mark.parametrize("name", ESCAPES)
def test_a_template_gets_at_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((jinja2.TemplateError, *CANNOT_COPE)):
        render(ESCAPES[name])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["chatml", "qwen3", "llama3", "gemma", "mistral", "deepseek3", "phi4", "default"])
@pytest.mark.parametrize("asked", [False, True])
def test_an_honest_template_writes_the_same(name: str, asked: bool) -> None:
    source = read_template(name)
    turns = TURNS[1:] if name in ("gemma", "mistral") else TURNS
    values = {"messages": turns, "tools": None, "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": asked}
    plain = chat_template_utils._cached_compile_jinja_template(source)
    assert compile_limited(source).render(values) == plain.render(values)


def test_what_messages_allow_grows_with_them() -> None:
    long = [{"role": "user", "content": "long text " * 500_000}]
    texts, _ = chat_template_utils.render_jinja_template(conversations=[long], chat_template=read_template("chatml"))
    assert len(texts[0]) > 5_000_000


def test_each_rendering_has_an_allowance_of_its_own() -> None:
    source = "{% for i in range(99999) %}{{ 'abcdefgh' }}{% endfor %}"
    assert [len(render(source)) for _ in range(12)] == [799_992] * 12
