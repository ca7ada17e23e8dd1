"""How to repeat a run: options with their origins, versions, fingerprints, commands."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft.report.story import RunStory


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionRow:
    """One option in every run of the page."""

    name: str
    values: tuple[str | None, ...]
    """As JSON; None where a run did not record it."""
    origins: tuple[str | None, ...]

    @property
    def is_set(self) -> bool:
        """Whether any run got it from elsewhere than the defaults."""
        return any(origin not in (None, "default") for origin in self.origins)

    @property
    def differs(self) -> bool:
        """Whether the runs have different values."""
        return len(set(self.values)) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A line to type, and what it does."""

    what: str
    line: str


def option_rows(stories: Sequence[RunStory]) -> list[OptionRow]:
    """Every option that any of the runs recorded."""
    configs = [story.part("config") for story in stories]
    names = dict.fromkeys(name for config in configs for name in config)
    return [
        OptionRow(
            name=name,
            values=tuple(_value(config.get(name)) for config in configs),
            origins=tuple(_origin(config.get(name)) for config in configs),
        )
        for name in names
    ]


def _value(entry: Any) -> str | None:
    return plain(entry.get("value")) if isinstance(entry, Mapping) else None


def _origin(entry: Any) -> str | None:
    return str(entry.get("origin", "not recorded")) if isinstance(entry, Mapping) else None


def plain(value: Any) -> str:
    """A value as JSON writes it, texts without their quotation marks."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """An object's values by their dotted names."""
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += flat(value, f"{before}{name}.")
        else:
            found.append((f"{before}{name}", value))
    return found


def machine_rows(story: RunStory) -> list[tuple[str, Any]]:
    """What it ran on and by which means; empty where nothing of it was recorded."""
    device, processes, kernels = (story.part(name) for name in ("device", "processes", "kernels"))
    if not device and not processes and not kernels:
        return []
    more = [f"{device['memory_gib']} GiB"] if device.get("memory_gib") else []
    more += [f"{device['threads']} threads"] if device.get("threads") else []
    return [
        ("device", ", ".join(str(one) for one in (device.get("type"), device.get("name"), *more) if one)),
        ("processes", processes.get("num_processes")),
        ("strategy", processes.get("strategy")),
        ("precision", processes.get("precision")),
        ("exchange between processes", processes.get("backend")),
        ("model class", processes.get("wrapper")),
        ("attention", kernels.get("attention")),
        ("products of matrices", kernels.get("products")),
        ("loss", kernels.get("loss")),
    ]


def train_command(story: RunStory) -> Command | None:
    """What started the run, as it was recorded."""
    command = story.part("command")
    words = command.get("words")
    if not isinstance(words, list) or not words:
        return None
    processes = story.part("processes").get("num_processes")
    many = f", in {processes} processes by their launcher" if isinstance(processes, int) and processes > 1 else ""
    typed = [str(word) for word in words]
    if len(typed) > 1 and Path(typed[1]).name == "sft":  # the command that pip made, run by its Python
        typed = ["sft", *typed[2:]]
    return Command(what=f"train it again (in {command.get('folder')}{many})", line=shlex.join(typed))


def best_model(story: RunStory, last: Path) -> tuple[str, int] | None:
    """Folder and step of the best evaluated model, where it is kept and is not the last one."""
    best, entries = story.history.best_trained, [entry for entry in story.history.entries if entry.failure is None]
    if story.best_kept is None or best is None or best is entries[-1]:
        return None
    return str(last.parent / story.best_kept), best.step


def commands_after(story: RunStory) -> list[Command]:
    """What can be done with the saved model; empty before there is one."""
    result = story.part("result")
    model, merged = result.get("model_path"), result.get("merged_path")
    if not isinstance(model, str):
        return []
    best = best_model(story, Path(model))
    if best is not None:
        what, last = f"talk to the best, of step {best[1]:,}", merged if isinstance(merged, str) else model
        found = [Command(what=what, line=f"sft chat --model {shlex.quote(best[0])}")]
        found.append(Command(what="talk to the last", line=f"sft chat --model {shlex.quote(last)}"))
        model, merged = best[0], None
    whole = merged if isinstance(merged, str) else None if story.option("use_lora") else model
    if best is None:
        found = [Command(what="talk to it", line=f"sft chat --model {shlex.quote(whole or model)}")]
    merges = whole is None
    if whole is None:
        whole = str(Path(model).parent / "merged")
        base = shlex.quote(str(story.option("model_name_or_path")))
        found.append(
            Command(
                what="merge the adapter into its base model",
                line=f"sft merge --base_model {base} --adapter_path {shlex.quote(model)} "
                f"--output_path {shlex.quote(whole)}",
            )
        )
    after = " (after merging)" if merges else ""
    found.append(Command(what=f"serve it{after}", line=f"vllm serve {shlex.quote(whole)}"))
    found.append(
        Command(what=f"or without an engine of its own{after}", line=f"transformers serve {shlex.quote(whole)}")
    )
    return found
