"""The command `sft`: finds the verb, imports its file, turns errors into messages and exit codes.

A verb is one file in this folder with three things:

    HELP: str                                                one line, shown by `sft --help` and `sft VERB --help`
    configure(parser: argparse.ArgumentParser) -> None       declares flags; must need no heavy import
    run(args: argparse.Namespace) -> int                     does the work, importing what it needs; gives the exit code

and a line in VERBS. ``args.owns_process`` tells whether this is the command's own process, or a program that called
``main``. A verb that takes a configuration (`[FILE] [--key value ...]`) calls ``add_config_arguments`` in
``configure`` and ``config_from(args)`` in ``run``, both of ``sft.cli.options``; the words that are no flags of the verb
itself are then left to them. Such a verb has no positional arguments of its own.

Whatever a user can change is raised as an error of sft/errors.py; it is shown without a traceback.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from sft.errors import EXIT_DONE, EXIT_OURS, ConfigError, SftError, TrainingStopped
from sft.terminal.folding import folded
from sft.terminal.plain import message
from sft.terminal.screen import SCREEN, columns, is_terminal, takes_colour
from sft.training.launch import let_first_speak

VERBS: dict[str, tuple[str, str]] = {
    "train": ("sft.cli.train", "train a model on your data, save it, and record what was done"),
    "plan": ("sft.cli.plan", "prepare the data and say what training would do and need, without training"),
    "inspect": ("sft.cli.inspect", "show rendered examples with the trained tokens coloured"),
    "report": ("sft.cli.report", "write the page of a run, or of several laid over each other"),
    "merge": ("sft.cli.merge", "merge an adapter into its base model, and compare the two"),
    "export": ("sft.cli.export", "merge or convert a model as an export file of LLaMA-Factory says"),
    "chat": ("sft.cli.chat", "talk to a model or adapter in the terminal"),
    "evaluate": ("sft.cli.evaluate", "ask a model the rows of tasks, and score its answers"),
    "score": ("sft.cli.score", "score a file of predictions"),
    "translate": ("sft.cli.translate", "explain a configuration of another tool in our words"),
    "schema": ("sft.cli.schema", "print the JSON Schema or the reference of all options"),
    "doctor": ("sft.cli.doctor", "say what this machine has, and what is missing for what"),
    "completion": ("sft.cli.completion", "print a script that completes verbs and options in bash, zsh or fish"),
}
"""Verb -> file, and the line that `sft --help` shows: kept here so that no verb has to be imported for it."""

EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


QUIETENED = ("bitsandbytes", "transformers.integrations.hub_kernels", "torchao", "torch.utils._pytree")
"""Loggers that speak of each kernel that is not installed; training says so itself where it matters."""


class VerbParser(argparse.ArgumentParser):
    """Reports a wrong command line as every other mistake in the configuration is reported."""

    @property
    def takes_config(self) -> bool:
        return self.get_default("config_words") is not None

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}. `{self.prog} --help` shows what it takes.")

    def format_help(self) -> str:
        """The verb's own flags, then every option of the configuration where it takes one."""
        if not self.takes_config:
            return super().format_help()
        from sft.config.describe import help_text

        return f"{super().format_help()}\n{help_text()}\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: this process's) and return its exit code. Never raises for a user's mistake."""
    owns_process = argv is None
    words = list(sys.argv[1:] if argv is None else argv)
    for name in QUIETENED:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        code = _dispatch(words, owns_process)
        sys.stdout.flush()
        return code
    except SftError as error:
        _report(error)
        return error.exit_code
    except KeyboardInterrupt:
        SCREEN.leave()
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return EXIT_BROKEN_PIPE
    except Exception:
        let_first_speak()
        SCREEN.leave()
        print(message(traceback.format_exc()), end="", file=sys.stderr)
        print("sft: this is a fault of sft-kit, not of your input. Please report the lines above.", file=sys.stderr)
        return EXIT_OURS


def _dispatch(words: list[str], owns_process: bool) -> int:
    if words and words[0].startswith("--local_rank="):  # `deepspeed --module sft train ...` puts it first
        words = words[1:]
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return EXIT_DONE
    if words[0] in ("-V", "--version"):
        from sft import __version__

        print(f"sft-kit {__version__}")
        return EXIT_DONE
    if words[0] not in VERBS:
        raise ConfigError(_unknown_verb(words[0]))
    module = importlib.import_module(VERBS[words[0]][0])
    try:
        args = _parse(words[0], module, words[1:])
    except SystemExit as exit_:  # argparse leaves this way after --help
        return int(exit_.code or 0)
    args.owns_process = owns_process
    code: int = module.run(args)
    return code


def _parse(verb: str, module: ModuleType, words: list[str]) -> argparse.Namespace:
    parser = VerbParser(
        prog=f"sft {verb}",
        description=f"{module.HELP[:1].upper()}{module.HELP[1:]}.",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.configure(parser)
    args, rest = parser.parse_known_args(words)
    if parser.takes_config:
        args.config_words = rest
    elif rest:
        known = [option for action in parser._actions for option in action.option_strings]
        raise ConfigError(f"sft {verb} does not take {rest[0]}.{_did_you_mean(rest[0], known)}")
    return args


def _overview() -> str:
    width = max(len(verb) for verb in VERBS)
    lines = [f"  {verb:<{width}}  {line}" for verb, (_, line) in VERBS.items()]
    return "\n".join(
        [
            "usage: sft VERB [FILE] [--key value ...]",
            "",
            "Fine-tunes causal language models, and proves what it did.",
            "",
            *lines,
            "",
            "`sft VERB --help` shows a verb's options. `sft --version` shows the version.",
        ]
    )


def _unknown_verb(word: str) -> str:
    if word.startswith("-") or word.endswith((".yaml", ".yml", ".json", ".toml")):
        return f"the verb is missing before {word}. To train, write: sft train {word}"
    return f"there is no verb {word!r}.{_did_you_mean(word, VERBS)} Verbs are {', '.join(VERBS)}."


def _did_you_mean(word: str, known: Sequence[str] | dict[str, tuple[str, str]]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {near[0]}?" if near else ""


def _report(error: SftError) -> None:
    label = "sft: " if isinstance(error, TrainingStopped) else "sft: error: "
    speaker = let_first_speak()
    label += "" if str(error).startswith("rank ") else speaker
    SCREEN.leave()
    text = message(f"{label}{error}")
    if is_terminal(sys.stderr):
        text = folded(text, columns(sys.stderr))
    if takes_colour(sys.stderr):
        text = f"\x1b[31m{label}\x1b[0m{text[len(label) :]}"
    print(text, file=sys.stderr)


def _silence_stdout() -> None:
    """Keep the interpreter from complaining once more when it flushes stdout at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return


if __name__ == "__main__":
    sys.exit(main())
