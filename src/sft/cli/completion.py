"""`sft completion bash|zsh|fish`: a script that lets the shell complete verbs, options and their values."""

from __future__ import annotations

import argparse

HELP = "print a script that completes verbs and options in bash, zsh or fish"
SHELLS = ("bash", "zsh", "fish")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this verb."""
    parser.add_argument(
        "shell",
        choices=SHELLS,
        help="bash: source <(sft completion bash); zsh: the same with zsh, after compinit; "
        "fish: sft completion fish | source",
    )


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    from sft.cli.flags import config_flags, read_verbs
    from sft.cli.main import VERBS
    from sft.cli.shells import bash_script, fish_script, zsh_script

    write = {"bash": bash_script, "zsh": zsh_script, "fish": fish_script}[args.shell]
    print(write(read_verbs(VERBS), config_flags()), end="")
    return 0
