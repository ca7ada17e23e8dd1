"""Verbs and flags as scripts of the shells. Nothing of sft runs while one completes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sft.cli.flags import Flag, Verb

BASH = """\
# Completes sft in bash. To have it in every shell: sft completion bash > ~/.local/share/bash-completion/completions/sft
_sft() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
    local verb=${{COMP_WORDS[1]}} values= flags=
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{verbs}" -- "$current"))
        return
    fi
    if [ "$current" = "=" ]; then  # bash takes --name=value apart
        current=
    elif [ "$before" = "=" ]; then
        before=${{COMP_WORDS[COMP_CWORD-2]}}
    fi
    case $verb in
{flags}
    esac
    case $verb:$before in
{values}
    esac
    case $verb in
    {config_verbs})
        flags="$flags {config_flags}"
        [ -n "$values" ] || case $before in
{config_values}
        esac
        ;;
    esac
    case $current in
    --*) COMPREPLY=($(compgen -W "$flags" -- "$current")) ;;
    *) COMPREPLY=($(compgen -W "$values" -- "$current")) ;;
    esac
}}
complete -o default -F _sft sft
"""

ZSH = """\
#compdef sft
# Completes sft in zsh. To have it in every shell, write it to a file named _sft in a folder of $fpath.
_sft() {{
    local before=${{words[CURRENT-1]}} verb=${{words[2]}}
    local -a verbs flags values
    verbs=(
{verbs}
    )
    if (( CURRENT == 2 )); then
        _describe -t verbs 'verb' verbs
        return
    fi
    case $verb in
{flags}
    esac
    case $verb:$before in
{values}
    esac
    case $verb in
    {config_verbs})
        flags+=(
{config_flags}
        )
        (( $#values )) || case $before in
{config_values}
        esac
        ;;
    esac
    if [[ $PREFIX == --* ]]; then
        _describe -t options 'option' flags
    elif (( $#values )); then
        compadd -a values
    else
        _files
    fi
}}
compdef _sft sft
"""

FISH = """\
# Completes sft in fish. To have it in every shell: sft completion fish > ~/.config/fish/completions/sft.fish
"""


def bash_script(verbs: Sequence[Verb], config: Sequence[Flag]) -> str:
    """For bash 3.2 and newer."""
    shape = '{}) values="{}" ;;'
    return BASH.format(
        verbs=_names(verbs),
        config_verbs=_config_verbs(verbs),
        config_flags=_names(config),
        flags=_lines(4, (f'{verb.name}) flags="{_names(verb.flags)}" ;;' for verb in verbs)),
        values=_lines(4, _values_of_verbs(verbs, shape)),
        config_values=_lines(8, _values(config, shape)),
    )


def zsh_script(verbs: Sequence[Verb], config: Sequence[Flag]) -> str:
    """For zsh 5 and newer."""
    shape = "{}) values=({}) ;;"
    return ZSH.format(
        verbs=_lines(8, map(_described, verbs)),
        config_verbs=_config_verbs(verbs),
        config_flags=_lines(12, map(_described, config)),
        flags=_lines(4, (f"{verb.name}) flags=({' '.join(map(_described, verb.flags))}) ;;" for verb in verbs)),
        values=_lines(4, _values_of_verbs(verbs, shape)),
        config_values=_lines(8, _values(config, shape)),
    )


def fish_script(verbs: Sequence[Verb], config: Sequence[Flag]) -> str:
    """For fish 3 and newer."""
    lines = [f"complete -c sft -n __fish_use_subcommand -f -a {verb.name} -d {_quoted(verb.help)}" for verb in verbs]
    for verb in verbs:
        lines += [f"complete -c sft -n {_seen([verb])} -f -a {_quoted(' '.join(verb.words))}"] if verb.words else []
        lines += [_fish_flag(flag, [verb]) for flag in verb.flags]
    taking = [verb for verb in verbs if verb.takes_config]
    lines += [_fish_flag(flag, taking) for flag in config]
    return FISH + "\n".join(lines) + "\n"


def _fish_flag(flag: Flag, verbs: Sequence[Verb]) -> str:
    takes = f" -x -a {_quoted(' '.join(flag.values))}" if flag.values else " -r" if flag.takes_value else ""
    return f"complete -c sft -n {_seen(verbs)} -l {flag.name.removeprefix('--')}{takes} -d {_quoted(flag.help)}"


def _seen(verbs: Sequence[Verb]) -> str:
    return _quoted(f"__fish_seen_subcommand_from {_names(verbs)}")


def _names(named: Iterable[Verb | Flag]) -> str:
    return " ".join(one.name for one in named)


def _config_verbs(verbs: Sequence[Verb]) -> str:
    return " | ".join(verb.name for verb in verbs if verb.takes_config)


def _values_of_verbs(verbs: Sequence[Verb], shape: str) -> Iterator[str]:
    """A branch of a ``case`` for all that can stand after a verb, or after a flag of it."""
    yield from (shape.format(f"{verb.name}:*", " ".join(verb.words)) for verb in verbs if verb.words)
    for verb in verbs:
        yield from _values(verb.flags, shape, before=f"{verb.name}:")


def _values(flags: Iterable[Flag], shape: str, before: str = "") -> Iterator[str]:
    return (shape.format(before + flag.name, " ".join(flag.values)) for flag in flags if flag.values)


def _described(named: Verb | Flag) -> str:
    """``name:help`` for zsh's ``_describe``."""
    return _quoted(f"{named.name}:{named.help}", "'\\''")


def _quoted(text: str, quote: str = "\\'") -> str:
    """In single quotes; ``quote`` is how the shell writes one of them within."""
    return "'" + text.replace("'", quote) + "'"


def _lines(indent: int, lines: Iterable[str]) -> str:
    return "\n".join(" " * indent + line for line in lines)
