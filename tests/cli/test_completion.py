"""`sft completion`: what the shells themselves make of the scripts."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sft.cli.main import VERBS, main
from sft.config.catalog import OPTIONS

Complete = Callable[[str], list[str]]
"""A line that is being typed -> what the shell offers for its last word."""

BASH = """
source "$1"
[ "$(complete -p sft)" = 'complete -o default -F _sft sft' ] || exit 9
while IFS= read -r line; do
    COMP_WORDS=() COMP_LINE=$line
    for word in $line; do COMP_WORDS+=("$word"); done
    case $line in *' ') COMP_WORDS+=('') ;; esac
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _sft sft "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
    echo "${COMPREPLY[*]}"
done
"""

ZSH = """
compdef() { }
_describe() { local item; for item in "${(@P)argv[-1]}"; do found+=("${item%%:*}"); done }
compadd() { found+=("${(@P)argv[-1]}") }
_files() { found+=(FILES) }
source "$1"
while IFS= read -r line; do
    words=(${(s: :)line})
    [[ $line == *' ' ]] && words+=('')
    found=() CURRENT=$#words PREFIX=$words[-1]
    _sft
    print -r -- ${(M)found:#($PREFIX*|FILES)}
done
"""

FISH = """
source $argv[1]
while read --local line
    echo (complete -C "$line" | string replace -r '\\t.*' '')
end
"""

SHELLS = {"bash": (BASH, ["-c"]), "zsh": (ZSH, ["-f", "-c"]), "fish": (FISH, ["--no-config", "-c"])}


@pytest.fixture(params=SHELLS)
def complete(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Complete:
    shell = shutil.which(request.param)
    if shell is None:
        pytest.skip(f"{request.param} is not installed here")
    assert main(["completion", request.param]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out, encoding="utf-8")
    program, options = SHELLS[request.param]
    zeroth = [] if request.param == "fish" else [request.param]

    def offered(line: str) -> list[str]:
        done = subprocess.run(
            [shell, *options, program, *zeroth, str(script)],
            input=f"{line}\n",
            capture_output=True,
            text=True,
            env={**os.environ, "HOME": str(tmp_path)},
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout.split()

    return offered


def test_verbs(complete: Complete) -> None:
    assert set(complete("sft ")) == set(VERBS)
    assert complete("sft tra") == ["train", "translate"]


def test_options_of_a_verb_that_takes_a_configuration(complete: Complete) -> None:
    expected = {f"--{name}" for name in OPTIONS} | {"--json", "--dialect"}
    assert set(complete("sft train config.yaml --")) == expected
    assert complete("sft plan --lora_al") == ["--lora_alpha"]
    assert complete("sft inspect --sea") == ["--search"]
    assert complete("sft plan --sea") == []


def test_options_of_one_that_takes_none(complete: Complete) -> None:
    assert complete("sft chat --adap") == ["--adapter"]
    assert complete("sft chat --lora_r") == []


def test_values(complete: Complete) -> None:
    assert set(complete("sft train --stage ")) == {"sft", "pretrain", "dpo"}
    assert complete("sft train --use_lora tr") == ["true"]
    assert set(complete("sft chat --dtype ")) == {"auto", "float32", "bfloat16", "float16"}
    assert complete("sft plan --dialect llama") == ["llama_factory"]
    assert set(complete("sft completion ")) == {"bash", "zsh", "fish"}


def test_bash_takes_a_name_and_its_value_apart(complete: Complete, request: pytest.FixtureRequest) -> None:
    if "[bash]" not in request.node.name:
        pytest.skip("bash alone does")
    assert complete("sft train --stage = dp") == ["dpo"]
    assert complete("sft train --stage =") == ["sft", "pretrain", "dpo"]


def test_a_shell_that_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 2
    assert "tcsh" in capsys.readouterr().err
