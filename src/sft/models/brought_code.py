"""Models and adapters come from strangers too: what their folders say is read before any library acts on it.

Weights and words may come with a model, code may not, unless ``trust_remote_code`` says so. transformers has such a
switch of its own, and keys of a config.json have got past it more than once (CVE-2026-4372, CVE-2026-5241); so those
keys are refused by name before it reads them. Sizes are believed where the weight files bear them out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from sft.errors import ModelError
from sft.models.weight_header import count_elements

MAX_BYTES = 16 * 2**20
"""Of a config file. tokenizer.json is no config and may be larger."""

KERNEL_KEYS = ("attn_implementation", "experts_implementation", "use_kernels", "kernel_config")
"""Ends of keys whose value may name kernels on the hub, which are code."""

LAYER_KEYS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers")
WIDTH_KEYS = ("hidden_size", "n_embd", "d_model", "dim")
ROW_KEYS = ("vocab_size", "intermediate_size", "n_inner", "ffn_dim")
NATIVE_FILES = ("config.json", "tokenizer_config.json", "generation_config.json", "processor_config.json")
ADAPTER_LIBRARIES = ("transformers", "peft")
SPARE = 8
"""How many times the weights that the files hold a config may describe: quantised files hold several in one number."""


def refuse_brought_code(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> None:
    """Refuse a model whose files would have code run, or describe another model than its weights.

    Args:
        name: a folder, or a name on the Hugging Face hub (of which only ``config.json`` is looked at).

    Raises:
        ModelError: the file and the key are named.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        configs = {file: read_config(folder / file) for file in NATIVE_FILES if (folder / file).is_file()}
    else:
        configs = {"config.json": _config_on_hub(name, revision)}
    if not trust_remote_code:
        for file, config in configs.items():
            _refuse_keys(name, file, config)
        _refuse_unknown_type(name, configs.get("config.json", {}))
    if folder.is_dir():
        refuse_false_sizes(folder, configs.get("config.json", {}))


def refuse_foreign_adapter(folder: Path) -> None:
    """Refuse an adapter whose config would import a module of its choice, or that has no weights as safetensors.

    Raises:
        ModelError: the file and the key are named.
    """
    file = folder / "adapter_config.json"
    if not file.is_file():
        return  # no folder here, or no adapter; who loads it says so
    config = read_config(file)
    _refuse_keys(str(folder), file.name, config)
    for key in ("megatron_config", "megatron_core"):
        if config.get(key) not in (None, "megatron.core"):
            raise _refused(str(folder), file.name, key, config[key], "it names a module to import")
    mapping = config.get("auto_mapping")
    library = mapping.get("parent_library") if isinstance(mapping, Mapping) else None
    if library is not None and str(library).partition(".")[0] not in ADAPTER_LIBRARIES:
        raise _refused(str(folder), file.name, "auto_mapping", library, "it names a module to import")
    if not (folder / "adapter_model.safetensors").is_file():
        raise ModelError(
            f"the adapter {folder} has no adapter_model.safetensors; weights in pickle files (.bin, .pt) can run code "
            "and are not read. Save it again with PEFT's save_pretrained."
        )
    count_elements([folder / "adapter_model.safetensors"])


def read_config(path: Path) -> dict[str, Any]:
    """A JSON object of a model's folder.

    Raises:
        ModelError: the file is none.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path} has {path.stat().st_size:,} bytes; no {path.name} has. Download the model again.")
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is no JSON that can be read: {error}. Download the model again.") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object. Download the model again.")
    return value


def refuse_false_sizes(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a config that describes far more than the weight files hold: memory would be taken for nothing."""
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        return
    tensors, elements = count_elements(paths)
    for key, value in _items(config):
        if key.rpartition(".")[2] in LAYER_KEYS and type(value) is int and value > max(tensors, 1):
            raise _refused(str(folder), "config.json", key, value, f"the weight files hold {tensors} tensors")
    for key, number in _matrix_sizes(config):
        if number > SPARE * elements:
            raise _refused(
                str(folder), "config.json", key, number, f"the weight files hold {elements:,} weights in all"
            )


def _matrix_sizes(config: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Elements of the matrices that a config speaks of: rows for each word, and for each unit between two layers."""
    for part in (config, *(value for value in config.values() if isinstance(value, Mapping))):
        width = next((part[key] for key in WIDTH_KEYS if type(part.get(key)) is int), 1)
        for key in ROW_KEYS:
            if type(part.get(key)) is int:
                yield f"{key} x width", part[key] * width


def _refuse_keys(name: str, file: str, config: Mapping[str, Any]) -> None:
    for key, value in _items(config):
        last = key.rpartition(".")[2]
        if last == "trust_remote_code" and value:
            raise _refused(name, file, key, value, "only you can allow code, not the model")
        if last == "_attn_implementation_internal" or (last.endswith(KERNEL_KEYS) and _names_code(value)):
            raise _refused(name, file, key, value, "it would fetch kernels, which are code, from the hub")
        if last == "auto_map" and "." in key:
            raise _refused(name, file, key, value, "it would run code that comes with the model")


def _refuse_unknown_type(name: str, config: Mapping[str, Any]) -> None:
    """A model that transformers does not know can only be built by its own code."""
    kind = config.get("model_type")
    if "auto_map" in config and kind not in CONFIG_MAPPING:
        raise _refused(
            name, "config.json", "auto_map", config["auto_map"], f"transformers has no model {kind!r} itself"
        )


def _items(config: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every key of a nested config, dotted, with its value."""
    for key, value in config.items():
        yield f"{prefix}{key}", value
        if isinstance(value, Mapping) and depth < 16:
            yield from _items(value, f"{prefix}{key}.", depth + 1)


def _names_code(value: Any) -> bool:
    """Whether a choice of kernels is a repository ('owner/name'), alone or in a mapping; built-in ones are not."""
    if isinstance(value, Mapping):
        return any(_names_code(item) for item in value.values())
    return "/" in value if isinstance(value, str) else value is True


def _config_on_hub(name: str, revision: str | None) -> dict[str, Any]:
    try:
        return _fetched(name, revision)
    except (OSError, ValueError):
        return {}  # the loader says why, with all that it tried


@lru_cache(maxsize=16)
def _fetched(name: str, revision: str | None) -> dict[str, Any]:
    """Tokenizer, config and model are asked for one after the other; a failure is not remembered."""
    config, _ = PreTrainedConfig.get_config_dict(name, revision=revision)
    return dict(config)


def _refused(name: str, file: str, key: str, value: Any, why: str) -> ModelError:
    shown = ascii(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return ModelError(
        f"{name}: {file} has {key} = {shown}: {why}. It is refused before anything of it runs. If you have read the "
        "model's code and trust it, say --trust_remote_code true; else remove the key, or use another copy."
    )
