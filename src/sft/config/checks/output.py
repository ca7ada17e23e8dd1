"""Rules about the folders and files that a run writes, and who is told of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import PurePath

from sft.config.candidate import Candidate
from sft.config.output import ALSO_WRITTEN
from sft.config.training_arguments import installed_trackers


def merged_folder_over_adapter(candidate: Candidate) -> Iterator[str]:
    if candidate.merged_dir is not None and _same_path(candidate.merged_dir, candidate.model_dir):
        yield (
            f"{candidate.at('merged_dir')} and {candidate.at('model_dir')} are one folder, so that the merged model "
            "would overwrite the adapter. Use two folders, such as model_dir: adapter and merged_dir: merged."
        )


def folders_outside_run(candidate: Candidate) -> Iterator[str]:
    for name in ("model_dir", "merged_dir"):
        folder = getattr(candidate, name)
        if folder is None:
            continue
        path = PurePath(folder)
        if path.is_absolute() or ".." in path.parts or folder.startswith(("~", "\\")):
            yield f"{candidate.at(name)} leaves output_dir. Write a folder inside of it, such as final_model."
        elif path.parts and path.parts[0].startswith("checkpoint-"):
            yield f"{candidate.at(name)} looks like a checkpoint, which resuming would take it for. Use another name."


def output_over_input(candidate: Candidate) -> Iterator[str]:
    for name in ("model_name_or_path", "tokenizer_name_or_path", "adapter_name_or_path"):
        given = getattr(candidate, name)
        if given is not None and _same_path(given, candidate.output_dir):
            yield f"{candidate.at('output_dir')} is {name}: the run would write over its own input. Use another folder."


def resume_from_what_is_removed(candidate: Candidate) -> Iterator[str]:
    checkpoint = candidate.resume_from_checkpoint
    if not candidate.overwrite_output_dir or checkpoint in (None, "auto"):
        return
    if _is_inside(checkpoint, candidate.output_dir):
        yield (
            f"{candidate.at('resume_from_checkpoint')} is in output_dir, whose checkpoints "
            f"{candidate.at('overwrite_output_dir')} removes. Keep one of the two."
        )


def unknown_files(candidate: Candidate) -> Iterator[str]:
    for name in candidate.also_write:
        if name not in ALSO_WRITTEN:
            yield f"{candidate.at('also_write')}: {name} is none of {', '.join(ALSO_WRITTEN)}."


def unknown_trackers(candidate: Candidate) -> Iterator[str]:
    asked = candidate.report_to if isinstance(candidate.report_to, list) else [candidate.report_to]
    if asked in (["none"], ["all"]):
        return
    known = installed_trackers()
    for tracker in asked:
        if tracker in ("none", "all"):
            yield f"{candidate.at('report_to')}: {tracker} stands alone, not in a list."
        elif known and tracker not in known:
            yield f"{candidate.at('report_to')}: {tracker} is no tracker. Known are: {', '.join(known)}, all, none."


def _same_path(first: str, second: str) -> bool:
    return os.path.normpath(first) == os.path.normpath(second)


def _is_inside(path: str, folder: str) -> bool:
    inner, outer = PurePath(os.path.normpath(path)), PurePath(os.path.normpath(folder))
    return inner == outer or outer in inner.parents


OUTPUT_RULES = (
    merged_folder_over_adapter,
    folders_outside_run,
    output_over_input,
    resume_from_what_is_removed,
    unknown_files,
    unknown_trackers,
)
