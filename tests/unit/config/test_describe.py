from __future__ import annotations

from pathlib import Path
from typing import Any

from sft.config.catalog import OPTIONS
from sft.config.decided import DECIDED, REFUSED
from sft.config.describe import help_text, json_schema, reference
from sft.config.renamed import RENAMED
from sft.config.training_arguments import installed_fields

ROOT = Path(__file__).resolve().parents[3]


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """A small part of JSON Schema: type, enum and bounds of one value."""
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    name = "null" if value is None else names[type(value)]
    types = schema["type"]
    if name not in types and not (name == "integer" and "number" in types):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    low, above, high = (schema.get(key) for key in ("minimum", "exclusiveMinimum", "maximum"))
    return (low is None or value >= low) and (above is None or value > above) and (high is None or value <= high)


def test_schema_knows_every_name_that_is_taken_and_no_other() -> None:
    schema = json_schema()
    taken = (
        OPTIONS.keys() | RENAMED.keys() | (installed_fields().keys() - DECIDED.keys() - REFUSED.keys() - {"local_rank"})
    )
    assert schema["properties"].keys() == taken
    assert schema["additionalProperties"] is False
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_schema_fits_defaults_and_not_what_is_out_of_range() -> None:
    properties = json_schema()["properties"]
    for name, entry in OPTIONS.items():
        assert fits(entry.default, properties[name]), name
        assert properties[name]["default"] == entry.default
    for name, value in [("lora_r", 0), ("learning_rate", 0), ("learning_rate", 1e6), ("train_on", "x"), ("packing", 1)]:
        assert not fits(value, properties[name]), name


def test_schema_marks_old_names() -> None:
    properties = json_schema()["properties"]
    assert properties["warmup_ratio"] == {"deprecated": True, "description": "Now warmup_steps."}


def test_help_keeps_to_its_width() -> None:
    assert max(len(line) for line in help_text(width=80).splitlines() if not line.startswith("  --")) <= 80


def test_help_names_type_range_and_default() -> None:
    text = " ".join(help_text(width=200).split())
    assert "--lora_r INT [8] Width of the LoRA matrices" in text
    assert "(At least 1.)" in text
    assert "--train_on {answers,last_answer,everything} [answers]" in text
    assert "--packing [BOOL] [false]" in text
    assert "--columns JSON [{}]" in text


def test_the_reference_page_is_up_to_date() -> None:
    written = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert written == reference(), "run: sft schema --markdown > docs/options.md"
