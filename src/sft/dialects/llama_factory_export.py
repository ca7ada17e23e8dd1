"""What ``llamafactory-cli export FILE`` and ``llamafactory-cli chat FILE`` are told, in our words.

Names, defaults and meanings: https://github.com/hiyouga/LLaMA-Factory, ``hparams/model_args.py`` at ff6d4d12.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sft.config.suggestions import nearest
from sft.config.values import RawValue
from sft.dialects import llama_factory_keys as keys
from sft.dialects.llama_factory_values import listed, number
from sft.dialects.translation import Values, is_true
from sft.errors import ConfigError

DTYPES = ("auto", "float32", "bfloat16", "float16")
READ = (
    "model_name_or_path", "adapter_name_or_path", "model_revision", "template", "trust_remote_code", "infer_dtype",
    "export_dir", "export_size", "export_device", "export_hub_model_id",
)  # fmt: skip
"""Keys that an export, or a chat, has a use for."""

UNUSED = (
    *keys.NAMES, *keys.LORA_NAMES, *keys.QUANTIZATION_NAMES, *keys.IGNORED, *keys.SWITCHES, *keys.ALLOWED_VALUES,
    "enable_thinking", "export_quantization_dataset", "export_quantization_nsamples",
    "export_quantization_maxlen", "flash_attn", "dataset", "dataset_dir", "do_train", "output_dir",
)  # fmt: skip
"""Keys of LLaMA-Factory that it has none for."""

OTHER_PARTS = tuple(prefix for prefix in keys.PREFIXES if prefix != "export_")
"""Beginnings of such keys."""

REFUSED: Mapping[str, str] = {
    "export_legacy_format": "weights are written as safetensors only; the older files can run programs when loaded",
    "export_quantization_bit": "a model is not quantised here. Export it, and quantise the result with a tool for that",
    "quantization_bit": "an adapter is merged into weights of full precision, never into quantised ones. Leave it out",
    "hf_hub_token": "a token does not belong into a file. Set the environment variable HF_TOKEN",
    "create_new_adapter": "there is nothing to create on export",
    "use_kt": "KTransformers is not used here",
}


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """One export, or the model that a chat is about."""

    model: str
    adapter: str | None = None
    revision: str | None = None
    template: str | None = None
    """Chat template by our name."""

    trust_remote_code: bool = False
    dtype: str | None = None
    """Precision of the written weights; None: the model's own, float32 as bfloat16."""

    output: str | None = None
    max_shard_size: str = "5GB"
    hub_model_id: str | None = None
    notes: tuple[str, ...] = ()
    """Keys that are not used, with the reason."""


def read_export(values: Values, *, needs_output: bool = True) -> ExportRequest:
    """Understand a file for ``export`` or, without ``needs_output``, for ``chat``.

    Raises:
        ConfigError: every key that cannot be honoured or is missing.
    """
    given = {key: raw for key, raw in values.items() if raw.value not in (None, "")}
    problems: list[str] = []
    notes = [note for key, raw in given.items() if (note := _unused(key, raw, problems))]
    for key in ("model_name_or_path", *(("export_dir",) if needs_output else ())):
        if key not in given:
            problems.append(f"{key} is missing")
    template = _text(given, "template")
    request = ExportRequest(
        model=_text(given, "model_name_or_path") or "",
        adapter=_adapter(given, problems),
        revision=_text(given, "model_revision"),
        template=None if template is None else keys.TEMPLATES.get(template, template),
        trust_remote_code=is_true(given.get("trust_remote_code")),
        dtype=_dtype(given, problems),
        output=_text(given, "export_dir"),
        max_shard_size=_shard_size(given, problems),
        hub_model_id=_text(given, "export_hub_model_id"),
        notes=tuple(notes),
    )
    if problems:
        raise ConfigError(problems)
    return request


def _unused(key: str, raw: RawValue, problems: list[str]) -> str:
    """Why a key is not used; refused and unknown ones become problems."""
    place = f"{key} ({raw.origin})"
    is_switch = str(raw.value).lower() in ("true", "false")
    if key in REFUSED:
        if is_switch and not is_true(raw):
            return ""
        problems.append(f"{place}: {REFUSED[key]}")
    elif key == "export_device" and raw.value != "cpu":
        return f"{place} is not used: the merge is computed in float32 on the CPU, layer by layer"
    elif key in (*READ, "finetuning_type", "stage"):
        return ""
    elif key in UNUSED or key.startswith(OTHER_PARTS):
        return f"{place} is not used by an export"
    else:
        near = nearest(key, (*READ, *REFUSED, *UNUSED, "finetuning_type"))
        problems.append(f"{place}: there is no such key.{f' Did you mean {near}?' if near else ''}")
    return ""


def _text(given: Values, key: str) -> str | None:
    return str(given[key].value) if key in given else None


def _adapter(given: Values, problems: list[str]) -> str | None:
    names = listed(given["adapter_name_or_path"].value) if "adapter_name_or_path" in given else []
    if len(names) > 1:
        problems.append(
            f"adapter_name_or_path ({given['adapter_name_or_path'].origin}): several adapters. Export with the first, "
            "then name that export_dir as model_name_or_path for the next"
        )
    return names[0] if names else None


def _dtype(given: Values, problems: list[str]) -> str | None:
    dtype = _text(given, "infer_dtype") or "auto"
    if dtype not in DTYPES:
        problems.append(f"infer_dtype ({given['infer_dtype'].origin}) is {dtype!r}; known are {', '.join(DTYPES)}")
    return None if dtype == "auto" else dtype


def _shard_size(given: Values, problems: list[str]) -> str:
    size: Any = given["export_size"].value if "export_size" in given else 5
    found = number(size)
    if found is None or found <= 0:
        problems.append(f"export_size ({given['export_size'].origin}) is {size!r}; it is a number of gigabytes")
        return "5GB"
    return f"{found:g}GB" if found >= 1 else f"{found * 1e6:.0f}KB"
