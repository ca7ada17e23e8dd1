"""`sft chat --model M [--adapter A]`: talks to a model in the terminal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from sft.cli.bits import add_bits
from sft.errors import EXIT_DONE, UserError
from sft.terminal.plain import as_json, plain
from sft.terminal.screen import SCREEN

if TYPE_CHECKING:
    from sft.cli.chat_session import ChatSession
    from sft.generation import Completion

HELP = "talk to a model or adapter in the terminal"
COMMANDS = "/reset forgets the conversation, /exit or Ctrl-D leaves, Ctrl-C stops an answer"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this verb."""
    parser.add_argument(
        "--model", required=True, metavar="M", help="folder or hub name of a model, or folder of an adapter"
    )
    parser.add_argument("--adapter", metavar="A", help="folder or hub name of an adapter for the model")
    parser.add_argument("--system", metavar="TEXT", help="system message")
    parser.add_argument("--prompt", metavar="TEXT", help="ask this once and leave")
    parser.add_argument("--max_new_tokens", type=int, default=512, metavar="N", help="most tokens in an answer (512)")
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.0,
        metavar="T",
        help="0 (default): always the likeliest token; else drawn",
    )
    parser.add_argument(
        "--top_p", type=float, default=1.0, metavar="P", help="draw among the likeliest P of tokens (1)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the drawing (0)")
    parser.add_argument(
        "--chat_template", metavar="NAME", help="in place of the model's own: a name sft ships, or a .jinja file"
    )
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16", "float16"],
                        help="precision of the weights; auto (default): as saved")  # fmt: skip
    add_bits(parser)
    parser.add_argument("--trust_remote_code", action="store_true", help="run Python code that the model brings along")
    parser.add_argument("--json", action="store_true", help="print one object per answer")


def run(args: argparse.Namespace) -> int:
    """Ask the one prompt, or every line that comes in."""
    from transformers.utils import logging

    from sft.cli.chat_session import ChatSession, load_for_chat
    from sft.generation import Sampling

    sampling = Sampling(
        max_new_tokens=args.max_new_tokens, temperature=args.temperature, top_p=args.top_p, seed=args.seed
    )
    logging.disable_progress_bar()
    model, tokenizer = load_for_chat(
        args.model,
        adapter=args.adapter,
        dtype=args.dtype,
        bits=args.bits,
        chat_template=args.chat_template,
        trust_remote_code=args.trust_remote_code,
    )
    session = ChatSession(model, tokenizer, sampling, system=args.system)
    answer = _answer_in_json if args.json else _answer_in_text
    if args.prompt is not None:
        answer(session, args.prompt)
        return EXIT_DONE
    return talk(session, answer, _questions(sys.stdin.isatty() and not args.json))


def talk(session: ChatSession, answer: Callable[[ChatSession, str], None], questions: Iterator[str]) -> int:
    """Answer line after line. A question that cannot be asked, or an interrupted answer, does not end it."""
    for question in questions:
        if question == "/exit":
            break
        if question == "/reset":
            session.reset()
            _say("the conversation starts anew")
        elif question:
            try:
                answer(session, question)
            except KeyboardInterrupt:
                print()
                _say("stopped")
            except UserError as error:
                _say(f"{error} (/reset forgets the conversation)")
    return EXIT_DONE


def _answer_in_text(session: ChatSession, question: str) -> None:
    completion = session.ask(question, lambda piece: print(plain(piece), end="", flush=True))
    print(flush=True)
    if completion.finished == "length":
        _say(_cut_message(completion))


def _answer_in_json(session: ChatSession, question: str) -> None:
    completion = session.ask(question, lambda piece: None)
    values = {
        "prompt": question,
        "answer": completion.text,
        "num_tokens": completion.num_tokens,
        "finished": completion.finished,
    }
    print(as_json(values), flush=True)


def _cut_message(completion: Completion) -> str:
    return (
        f"the answer did not end: it was cut after {completion.num_tokens} tokens "
        "(--max_new_tokens allows more, as far as the model's context reaches)"
    )


def _questions(at_terminal: bool) -> Iterator[str]:
    """Lines as they are typed or piped in, until the input ends."""
    if not at_terminal:
        yield from (line.strip() for line in sys.stdin)
        return
    _enable_line_editing()
    _say(COMMANDS)
    while True:
        try:
            yield input("\n> ").strip()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()
            _say(COMMANDS)


def _enable_line_editing() -> None:
    """Cursor keys and history in ``input``, where Python was built with it."""
    try:
        import readline  # noqa: F401
    except ImportError:
        return


def _say(message: str) -> None:
    """A remark that is no part of an answer."""
    SCREEN.say(f"[{message}]", must_be_heard=True)
