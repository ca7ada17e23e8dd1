"""Rules about rows, their templates and tokens, and how rows are put together."""

from __future__ import annotations

from collections.abc import Iterator

from sft.config.candidate import Candidate
from sft.config.data import COLUMN_NAMES, ROLE_MEANINGS
from sft.config.model import SPECIAL_TOKENS


def unusable_sources(candidate: Candidate) -> Iterator[str]:
    for name in ("data_path", "eval_data_path"):
        sources = getattr(candidate, name)
        if sources == []:
            yield f"{candidate.at(name)}: the list is empty. Give a file, folder or hub data set, or leave it out."
        for number, source in enumerate(sources if isinstance(sources, list) else [], start=1):
            has_path = isinstance(source, dict) and isinstance(source.get("path"), str) and source["path"]
            if not has_path and not (isinstance(source, str) and source):
                yield f"{candidate.at(name)}: entry {number} must be a path, or a mapping with path."


def unknown_columns(candidate: Candidate) -> Iterator[str]:
    for key in candidate.columns:
        if key not in COLUMN_NAMES:
            yield (
                f"{candidate.at('columns')}: {key} is no column of any format. Keys are {', '.join(COLUMN_NAMES)}; "
                "values are the names in your data."
            )


def unknown_roles(candidate: Candidate) -> Iterator[str]:
    for role, meaning in candidate.role_names.items():
        if meaning not in ROLE_MEANINGS:
            yield (
                f"{candidate.at('role_names')}: {role} cannot mean {meaning}. Values are {', '.join(ROLE_MEANINGS)}; "
                "keys are the names in your data."
            )


def unknown_special_tokens(candidate: Candidate) -> Iterator[str]:
    for key, token in candidate.special_tokens.items():
        if key not in SPECIAL_TOKENS:
            yield f"{candidate.at('special_tokens')}: {key} is no part. Keys are {', '.join(SPECIAL_TOKENS)}."
        elif not token:
            yield f"{candidate.at('special_tokens')}: {key} is empty. Name a token, or leave {key} out."


def token_added_twice(candidate: Candidate) -> Iterator[str]:
    plain, special = candidate.added_tokens or [], candidate.added_special_tokens or []
    for token in dict.fromkeys([*plain, *special]):
        if (plain + special).count(token) > 1:
            yield f"added_tokens, added_special_tokens: {token!r} is given twice. Keep one."
    if not all([*plain, *special]):
        yield "added_tokens, added_special_tokens: a token cannot be empty."


def template_without_chat_template(candidate: Candidate) -> Iterator[str]:
    for name in ("chat_template", "chat_template_kwargs"):
        if getattr(candidate, name) and not candidate.use_chat_template:
            yield (
                f"{candidate.at(name)} with {candidate.at('use_chat_template')} would be ignored. Keep one of the two."
            )


def fallback_without_packing(candidate: Candidate) -> Iterator[str]:
    if candidate.is_given("packing_fallback") and candidate.packing_fallback != "refuse" and not candidate.packing:
        yield (
            f"{candidate.at('packing_fallback')} without packing would be ignored: nothing is packed. Set packing, or "
            "leave packing_fallback out."
        )


def two_held_out_sets(candidate: Candidate) -> Iterator[str]:
    if candidate.validation_size and candidate.eval_data_path:
        yield (
            f"{candidate.at('validation_size')} and {candidate.at('eval_data_path')}: the evaluation data comes from "
            "one of them. Leave the other out."
        )


def lengths_that_leave_nothing(candidate: Candidate) -> Iterator[str]:
    if candidate.min_length > candidate.max_length:
        yield (
            f"{candidate.at('min_length')} is more than {candidate.at('max_length')}, so that no example is left. Make "
            "min_length smaller, or max_length larger."
        )


def evaluation_on_training_data(candidate: Candidate) -> Iterator[str]:
    if candidate.eval_data_path and candidate.eval_data_path == candidate.data_path:
        yield f"{candidate.at('eval_data_path')} is the training data too: its loss says nothing about new data"


DATA_RULES = (
    unusable_sources,
    unknown_columns,
    unknown_roles,
    unknown_special_tokens,
    token_added_twice,
    template_without_chat_template,
    fallback_without_packing,
    two_held_out_sets,
    lengths_that_leave_nothing,
)
DATA_REMARKS = (evaluation_on_training_data,)
