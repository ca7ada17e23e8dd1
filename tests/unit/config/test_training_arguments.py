"""What is read from the source of transformers equals what importing it gives."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from sft.config.catalog import OPTIONS
from sft.config.decided import BOUNDED, DECIDED, IGNORED, REFUSED
from sft.config.renamed import RENAMED
from sft.config.suggestions import ELSEWHERE
from sft.config.training_arguments import (
    NOT_WRITTEN,
    installed_enumerations,
    installed_fields,
    installed_help,
    installed_trackers,
)


@pytest.fixture(scope="module")
def real_fields() -> dict[str, dataclasses.Field]:
    from transformers import TrainingArguments

    return {field.name: field for field in dataclasses.fields(TrainingArguments) if field.init}


def test_names(real_fields: dict[str, dataclasses.Field]) -> None:
    assert installed_fields().keys() | set(NOT_WRITTEN) == real_fields.keys()


def test_defaults_have_the_declared_types(real_fields: dict[str, dataclasses.Field]) -> None:
    from enum import Enum

    for name, declared in installed_fields().items():
        default = real_fields[name].default
        if default is dataclasses.MISSING or isinstance(default, Enum):
            continue
        if default is None:
            assert declared.optional, name
        else:
            kind = type(default).__name__
            assert kind in declared.kinds or (kind == "int" and "float" in declared.kinds), name


def test_help_texts(real_fields: dict[str, dataclasses.Field]) -> None:
    for name, text in installed_help().items():
        given = real_fields[name].metadata.get("help")
        assert given is None or " ".join(given.split())[:40] == text[:40], name


def test_enumerations() -> None:
    from transformers.trainer_utils import SchedulerType
    from transformers.training_args import OptimizerNames

    assert set(installed_enumerations()["SchedulerType"]) == {member.value for member in SchedulerType}
    assert set(installed_enumerations()["OptimizerNames"]) == {member.value for member in OptimizerNames}


def test_trackers() -> None:
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    assert set(installed_trackers()) == set(INTEGRATION_TO_CALLBACK)


def test_our_options_of_the_same_name_have_a_compatible_type(real_fields: dict[str, dataclasses.Field]) -> None:
    for name in OPTIONS.keys() & real_fields.keys():
        assert OPTIONS[name].declared.kinds <= installed_fields()[name].kinds | {"list"}, name


def test_reading_the_source_imports_nothing_heavy() -> None:
    program = (
        "import sys; from sft.config.training_arguments import installed_fields; assert len(installed_fields()) > 80; "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_tables_name_fields_that_exist() -> None:
    fields = installed_fields().keys() | set(NOT_WRITTEN)
    assert DECIDED.keys() <= fields
    assert REFUSED.keys() <= fields
    assert BOUNDED.keys() <= fields
    assert IGNORED.keys() <= fields
    assert not (DECIDED.keys() | REFUSED.keys() | BOUNDED.keys()) & OPTIONS.keys()


def test_renames_lead_from_names_that_are_gone_to_names_that_are_there() -> None:
    fields = installed_fields().keys()
    for old, rename in RENAMED.items():
        assert old not in OPTIONS
        assert old not in fields or old.startswith("activation_checkpointing")
        assert rename.new is None or rename.new in OPTIONS or rename.new in fields


def test_suggested_names_are_no_options() -> None:
    assert not ELSEWHERE.keys() & (OPTIONS.keys() | installed_fields().keys() | RENAMED.keys())
    for meant in ELSEWHERE.values():
        if meant.isidentifier():
            assert meant in OPTIONS
