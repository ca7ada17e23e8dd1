"""Rules on what options name: files, folders and models. Nothing here looks whether they are there."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sft.config.candidate import Candidate

LOCAL = ("data_path", "eval_data_path", "output_dir", "cache_dir", "resume_from_checkpoint", "gen_questions_file")
"""Options that name files and folders of this machine (data sets of the hub go by their names)."""

MODELS = ("model_name_or_path", "tokenizer_name_or_path", "adapter_name_or_path")
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
PLACEHOLDER = re.compile(r"\$\{[^}]*\}|\{\{[^}]*\}\}")


def addresses(candidate: Candidate) -> Iterator[str]:
    for name in (*LOCAL, *MODELS):
        if any(ADDRESS.match(value) for value in _texts(getattr(candidate, name))):
            what = "a folder or a name on the Hugging Face hub" if name in MODELS else "a path on this machine"
            yield f"{candidate.at(name)}: nothing is fetched from, or sent to, an address. Give {what}."


def placeholders(candidate: Candidate) -> Iterator[str]:
    for name in (*LOCAL, *MODELS):
        if any(PLACEHOLDER.search(value) for value in _texts(getattr(candidate, name))):
            yield (
                f"{candidate.at(name)}: nothing is filled in here, so that a file means the same everywhere. "
                f"Write the value out, or give it on the command line, where the shell fills it in: --{name} VALUE."
            )


def _texts(value: object) -> list[str]:
    """The texts of an option that takes one or several, each perhaps with more told of it."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [part for part in (value.get("path"),) if isinstance(part, str)]
    return [text for part in value for text in _texts(part)] if isinstance(value, list) else []


PATH_RULES = (addresses, placeholders)
