"""A ``Modelfile`` for Ollama: the model's chat template in the words of Go's ``text/template``.

Ollama's template sees ``.System`` and ``.Messages`` (https://github.com/ollama/ollama, docs/template.mdx). A chat
template is a program, and Ollama's another, so nothing is translated word by word: the template is asked to write some
conversations, what stands around their contents is taken out, and the pieces must write other conversations exactly
alike. A template that does more than put pieces around contents has no such Modelfile, and that is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

Messages = Sequence[Mapping[str, str]]
Write = Callable[[Messages, bool], str]
"""(messages, whether the head of an answer follows) -> text. Raises ValueError where the template refuses."""

NAME = "Modelfile"
CONTEXT = 4096
"""Tokens of context that Ollama is told to hold, or the model's own where that is less."""

SYSTEM, FIRST, ANSWER, SECOND = "Sys\ue001tem", "Que\ue002stion", "Ans\ue003wer", "Ano\ue004ther"


class NotExpressible(Exception):
    """The template cannot be written so. The text says why."""


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """What a chat template writes around the contents of messages."""

    bos: str
    """Beginning of every text. Ollama's tokenizer writes it itself, so it stands in no Modelfile."""

    before_question: str
    after_question: str
    before_answer: str
    """Of an answer that is there already."""

    after_answer: str
    prompt: str
    """The head of the answer that is to come."""

    before_system: str = ""
    after_system: str = ""
    system_is_folded: bool = False
    """Whether the system message stands inside the first question and not before it."""

    knows_system: bool = True
    default_system: str = ""
    """System message where a conversation has none."""


def modelfile_for(write: Write, *, bos: str, stops: Sequence[str], context: int | None, weights: str = ".") -> str:
    """The Modelfile of a model in the same folder.

    Args:
        write: the chat template.
        bos: text of the beginning-of-sequence token; empty where there is none.
        stops: texts that end an answer.
        context: longest text the model can read, in tokens.
        weights: what Ollama reads them from: the folder itself, or a GGUF file in it.

    Raises:
        NotExpressible: the template does more than Ollama's words can say.
    """
    pieces = find_pieces(write, bos)
    if bos and not pieces.bos and pieces.before_system.startswith(bos):
        raise NotExpressible("only some of its texts begin with bos_token")
    for messages in _probes(pieces):
        if compose(pieces, messages) != write(messages, True):
            raise NotExpressible("it does more than put pieces of text around the contents of messages")
    return render(pieces, stops=stops, context=min(CONTEXT, context or CONTEXT), weights=weights)


def find_pieces(write: Write, bos: str) -> Pieces:
    """Take the pieces out of a few conversations.

    Raises:
        NotExpressible: a content is not where it must be.
    """
    question = {"role": "user", "content": FIRST}
    answer = {"role": "assistant", "content": ANSWER}
    another = {"role": "user", "content": SECOND}
    try:
        bare = write([question], False)
        asked = write([question], True)
        answered = write([question, answer], False)
        long = write([question, answer, another], True)
    except ValueError as error:
        raise NotExpressible(f"it refuses a plain conversation: {error}") from error
    bos = bos if bos and asked.startswith(bos) else ""
    head, after_question = _around(bare.removeprefix(bos), FIRST)
    prompt = _behind(asked, FIRST)[len(after_question) :]
    between = long[long.index(FIRST) + len(FIRST) : long.index(ANSWER)]
    after_answer = _behind(answered, ANSWER)
    before_question = _between(long, ANSWER, SECOND)[len(after_answer) :]
    if bos and before_question.startswith(bos):  # of later questions: it closes the answer before them
        before_question, after_answer = before_question.removeprefix(bos), after_answer + bos
    if not (asked.endswith(after_question + prompt) and between.startswith(after_question)):
        raise NotExpressible("what it writes after a question depends on what follows")
    pieces = Pieces(
        bos=bos,
        before_question=before_question,
        after_question=after_question,
        before_answer=between[len(after_question) :],
        after_answer=after_answer,
        prompt=prompt,
    )
    return _with_system(pieces, write, head)


def _with_system(pieces: Pieces, write: Write, head: str) -> Pieces:
    """Find the system message's pieces, and the default one in ``head``, which stands before the first question."""
    default = head.removesuffix(pieces.before_question) if head.endswith(pieces.before_question) else None
    try:
        text = write([{"role": "system", "content": SYSTEM}, {"role": "user", "content": FIRST}], False)
    except ValueError:
        text = ""
    if SYSTEM not in text:
        if default:
            raise NotExpressible("it begins with a text that is no system message")
        return replace(pieces, knows_system=False)
    before, after = _around(text.removeprefix(pieces.bos), SYSTEM)
    after = after[: after.index(FIRST)]
    if after.endswith(pieces.before_question) and default is not None:
        found = replace(pieces, before_system=before, after_system=after.removesuffix(pieces.before_question))
        inside = default.startswith(found.before_system) and default.endswith(found.after_system) and default
        said = default[len(found.before_system) : len(default) - len(found.after_system)] if inside else ""
        if default and not said:
            raise NotExpressible("it begins with a text that is no system message")
        return replace(found, default_system=said)
    if before.startswith(pieces.before_question) and not default:
        folded = before.removeprefix(pieces.before_question)
        return replace(pieces, before_system=folded, after_system=after, system_is_folded=True)
    raise NotExpressible("it moves the system message")


def _around(text: str, content: str) -> tuple[str, str]:
    before, found, after = text.partition(content)
    if not found:
        raise NotExpressible("it changes the contents of messages")
    return before, after


def _behind(text: str, content: str) -> str:
    return _around(text, content)[1]


def _between(text: str, first: str, second: str) -> str:
    return _around(_behind(text, first), second)[0]


def _probes(pieces: Pieces) -> list[Messages]:
    """Conversations that the pieces were not taken from."""
    turns = [
        {"role": "user", "content": "What is 1 + 1?"},
        {"role": "assistant", "content": "Two.\n\nOr 2."},
        {"role": "user", "content": "And\ttwice that?"},
        {"role": "assistant", "content": "Four"},
        {"role": "user", "content": "Thanks"},
    ]
    system = [{"role": "system", "content": "Be brief.\nBe kind."}] if pieces.knows_system else []
    return [turns[:1], turns[:3], turns, *([*system, *turns[:count]] for count in (1, 3, 5) if system)]


def compose(pieces: Pieces, messages: Messages) -> str:
    """What Ollama makes of the Modelfile, bos included, for a conversation that ends with a question."""
    system = next((message["content"] for message in messages if message["role"] == "system"), pieces.default_system)
    folded = pieces.before_system + system + pieces.after_system if system else ""
    written = pieces.bos + ("" if pieces.system_is_folded else folded)
    for message in messages:
        if message["role"] == "user":
            inside = folded if pieces.system_is_folded else ""
            written += pieces.before_question + inside + message["content"] + pieces.after_question
            folded = ""
        elif message["role"] == "assistant":
            written += pieces.before_answer + message["content"] + pieces.after_answer
    return written + pieces.prompt


def render(pieces: Pieces, *, stops: Sequence[str], context: int, weights: str = ".") -> str:
    """The text of the Modelfile.

    Raises:
        NotExpressible: a piece holds what neither Go's templates nor a Modelfile can quote.
    """
    said = (*pieces.__dict__.values(), *stops)
    if any(isinstance(text, str) and ("{{" in text or '"""' in text) for text in said):
        raise NotExpressible("it writes curly brackets or three quotes, which a Modelfile cannot hold")
    lines = ["# The chat template of this model in Ollama's words; tools are not in it.", f"FROM {weights}"]
    lines.append(f'TEMPLATE """{go_template(pieces)}"""')
    if pieces.default_system:
        lines.append(f'SYSTEM """{pieces.default_system}"""')
    lines += [f'PARAMETER stop "{stop}"' for stop in dict.fromkeys(stops) if stop]
    lines.append(f"PARAMETER num_ctx {context}")
    return "\n\n".join(lines) + "\n"


def go_template(pieces: Pieces) -> str:
    """The pieces as a Go template. A variable remembers whether the folded system message has been written."""

    def system(name: str) -> str:
        return f"{pieces.before_system}{{{{ {name} }}}}{pieces.after_system}"

    before = inside = ""
    if pieces.knows_system and pieces.system_is_folded:
        before = "{{ $system := .System }}"
        inside = "{{ if $system }}" + system("$system") + '{{ $system = "" }}{{ end }}'
    elif pieces.knows_system:
        before = "{{ if .System }}" + system(".System") + "{{ end }}"
    question = f"{pieces.before_question}{inside}{{{{ .Content }}}}{pieces.after_question}"
    answer = f"{pieces.before_answer}{{{{ .Content }}}}{pieces.after_answer}"
    turns = f'{{{{ if eq .Role "user" }}}}{question}{{{{ else if eq .Role "assistant" }}}}{answer}{{{{ end }}}}'
    return f"{before}{{{{ range .Messages }}}}{turns}{{{{ end }}}}{pieces.prompt}"
