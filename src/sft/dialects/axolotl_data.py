"""The data of an axolotl configuration: what is read, the text it becomes, and which tokens are trained.

``type`` says all three there. A list of data sets may hold several types; one template and one mask hold here for all
of them, so that types which cannot share them are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sft.config.values import RawValue
from sft.data.templates import template_names
from sft.dialects.axolotl_entry import DataSets, translate_entry
from sft.dialects.translation import Draft, Values, is_true

WITHOUT_TEMPLATE = {"completion", "tokens"}
OWN_TEMPLATE = "own"
TEMPLATES = {
    "phi_3": "phi3",
    "phi_35": "phi3",
    "qwen_25": "qwen2.5",
    "mistral_v1": "mistral_v1",
    "mistral_v2v3": "mistral",
    "deepseek_v3": "deepseek3",
}


def translate_data(draft: Draft, values: Values) -> None:
    """Settle datasets, test_datasets, val_set_size, chat_template and what belongs to them."""
    found = DataSets()
    for key, target in (("datasets", "data_path"), ("test_datasets", "eval_data_path")):
        if key in values:
            sources = _translate_list(draft, key, values[key], found)
            if sources:
                draft.give(key, replace(values[key], value=sources), target)
    _translate_held_out(draft, values)
    _translate_mask(draft, values, found)
    _translate_template(draft, values, found)


def _translate_list(draft: Draft, key: str, raw: RawValue, found: DataSets) -> list[Any]:
    if not isinstance(raw.value, list) or not all(isinstance(entry, Mapping) for entry in raw.value):
        draft.refuse(key, "is a list of mappings, each with path and type", raw.origin)
        return []
    sources: list[Any] = []
    for number, entry in enumerate(raw.value, 1):
        sources += translate_entry(draft, f"{key}[{number}]", raw.origin, entry, found)
    return sources


def _translate_held_out(draft: Draft, values: Values) -> None:
    raw = values.get("val_set_size")
    if raw is not None:
        draft.give("val_set_size", raw, "validation_size")


def _translate_mask(draft: Draft, values: Values, found: DataSets) -> None:
    raw = values.get("train_on_inputs")
    everything = is_true(raw)
    if raw is not None and everything and not found.kinds <= WITHOUT_TEMPLATE:
        draft.give("train_on_inputs", replace(raw, value="everything"), "train_on")
    elif raw is not None:
        draft.ignore(
            "train_on_inputs",
            raw,
            "prompts are not trained; a plain text is trained whole and token ids have labels of their own, either way",
        )
    if not everything and "last_answer" in found.masks:
        if found.masks == {"last_answer"}:
            draft.default("train_on", "last_answer", "roles_to_train and train_on_eos are empty")
        else:
            draft.refuse("datasets", "some train the last answer, others every one. Say the same for all of them")


def _translate_template(draft: Draft, values: Values, found: DataSets) -> None:
    """One text for all: the type's own, or the template that is named."""
    asked = {
        name: values[name] for name in ("chat_template", "chat_template_jinja") if name in values
    } or found.templates
    kinds = found.kinds - WITHOUT_TEMPLATE
    if found.kinds == WITHOUT_TEMPLATE:
        draft.refuse("datasets", "type completion is cut into blocks, token ids are not. Train one of them")
        return
    if len(kinds) > 1:
        draft.refuse("datasets", f"types {', '.join(map(repr, sorted(kinds)))} need a template each. Train one of them")
        return
    kind = next(iter(kinds or found.kinds), "completion")
    if kind == "chat_template" or (kind == "tokens" and asked):
        _name_template(draft, asked)
        return
    for name, raw in asked.items():
        draft.ignore(name, raw, "the type of the data says the text, and that template is saved with the model")
    if kind in WITHOUT_TEMPLATE:
        if "completion" in found.kinds:
            draft.default("stage", "pretrain", "type: completion trains every token of a text, a long one in pieces")
            draft.default("isolate_documents", True, "texts that share a block do not see each other")
        return
    draft.default("chat_template", kind, "the text of the data's type; it is saved with the model")
    if len(found.separators) == 1:
        draft.default(
            "input_separator", next(iter(found.separators)), "what stands between instruction and input there"
        )
    if len(found.systems) == 1:
        draft.default("system_prompt", next(iter(found.systems)), "as system_prompt of the type says")


def _name_template(draft: Draft, asked: Mapping[str, RawValue]) -> None:
    text = asked.get("chat_template_jinja")
    name = asked.get("chat_template")
    if text is not None and (name is None or name.value == "jinja"):
        draft.give("chat_template_jinja", text, "chat_template")
        if name is not None:
            draft.join("chat_template", name, "chat_template", "chat_template_jinja says it")
        return
    if text is not None:
        draft.ignore("chat_template_jinja", text, "chat_template names another one")
    if name is None:
        draft.default("chat_template", OWN_TEMPLATE, "the tokenizer's own; an error where it has none, as in axolotl")
        return
    written = str(name.value)
    ours = TEMPLATES.get(written, written)
    if written == "tokenizer_default":
        draft.give("chat_template", replace(name, value=OWN_TEMPLATE), "chat_template")
    elif written.startswith("tokenizer_default_fallback_"):
        draft.ignore("chat_template", name, "the tokenizer's own template is taken; without one, chatml or default")
    elif ours in template_names():
        draft.give("chat_template", replace(name, value=ours), "chat_template")
    else:
        reason = "the family's own template, which its tokenizers bring along; an error where there is none"
        draft.give("chat_template", replace(name, value=OWN_TEMPLATE), "chat_template", reason)
