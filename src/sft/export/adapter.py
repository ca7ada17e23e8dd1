"""Reads what an adapter folder says of itself: its config and the shapes of its tensors, no weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from sft.errors import ExportError, ModelError
from sft.export.checkpoint import read_header
from sft.models.brought_code import refuse_foreign_adapter
from sft.models.residual import is_drawn

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "spiece.model")

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """An adapter folder, read but not loaded."""

    path: Path
    name: str
    """As the user named it."""

    config: Any
    """The PeftConfig."""

    shapes: Mapping[str, Shape]
    """Shape per tensor in the weights file."""

    @property
    def base_model(self) -> str | None:
        """The base model that the adapter names as its own."""
        return self.config.base_model_name_or_path or None

    @property
    def base_revision(self) -> str | None:
        """The revision of the base model that the adapter was trained on, where it names one."""
        return getattr(self.config, "revision", None) or None

    @property
    def has_tokenizer(self) -> bool:
        """Whether a tokenizer was saved with the adapter."""
        return any((self.path / name).is_file() for name in TOKENIZER_FILES)


def is_adapter(path: str | Path) -> bool:
    """Whether a folder holds an adapter."""
    return (Path(path).expanduser() / CONFIG_NAME).is_file()


def read_adapter(name: str) -> Adapter:
    """Read the config and the tensor shapes of an adapter, a folder or a repository on the hub.

    Raises:
        ExportError: there is no adapter there, or one that cannot be merged into weights.
    """
    path = _find(name)
    if not (path / CONFIG_NAME).is_file():
        raise ExportError(_no_adapter(name, path))
    if not (path / WEIGHTS_NAME).is_file():
        raise ExportError(
            f"The adapter {name!r} has {CONFIG_NAME} but no {WEIGHTS_NAME}; weights in pickle files are not read. "
            "Save the adapter as safetensors, or name the folder of a save that ended well."
        )
    try:
        from peft import PeftConfig  # takes a second, and runs without an adapter import this file too

        refuse_foreign_adapter(path)
        config = PeftConfig.from_pretrained(str(path))
    except ModelError as error:
        raise ExportError(str(error)) from error
    except (ValueError, TypeError, KeyError) as error:
        raise ExportError(f"{path / CONFIG_NAME} is not a PEFT config that can be read: {error}") from error
    start = getattr(config, "init_lora_weights", True)
    if is_drawn(start):
        raise ExportError(
            f"The adapter {name!r} was saved over the weights that {start} left at its start, which cannot be computed "
            "again. Use the folder that the run saved at its end (final_model), or convert the adapter to a plain LoRA "
            "(PEFT: save_pretrained with path_initial_model_for_weight_conversion)."
        )
    if config.is_prompt_learning:
        raise ExportError(
            f"The adapter {name!r} is of the kind {config.peft_type.value}, which puts tokens before the prompt and "
            "changes no weights, so there is nothing to merge. Use it with its base model."
        )
    return Adapter(path=path, name=name, config=config, shapes=read_shapes(path / WEIGHTS_NAME))


def read_shapes(path: Path) -> dict[str, Shape]:
    """Shape per tensor from the header of a safetensors file (https://github.com/huggingface/safetensors#format)."""
    header, _ = read_header(path)
    return {name: held.shape for name, held in header.items()}


def names_other_base(adapter: Adapter, base_model: str) -> bool:
    """Whether the adapter names a base model that is not the one given."""
    named = adapter.base_model
    if named is None or named == base_model:
        return False
    paths = [Path(name).expanduser() for name in (named, base_model)]
    return not all(path.exists() for path in paths) or paths[0].resolve() != paths[1].resolve()


def _find(name: str) -> Path:
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ExportError(f"There is no adapter folder {name!r}.")
    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.model", "*.md"]))
    except Exception as error:  # the hub client has many: offline, not found, not allowed, connection
        reason = " ".join(str(error).split())[:200]
        raise ExportError(f"There is no adapter folder {name!r}, and the hub does not give one: {reason}") from error


def _no_adapter(name: str, path: Path) -> str:
    inside = sorted(str(found.parent.relative_to(path)) for found in path.glob(f"*/{CONFIG_NAME}"))
    if inside:
        hint = f"It holds adapters in: {', '.join(inside)}. Name one of them."
    elif (path / "config.json").is_file():
        hint = "It holds a whole model, which needs no merging: use it as it is."
    else:
        hint = "Name the folder that sft or PEFT saved an adapter in."
    return f"{name!r} has no {CONFIG_NAME}, so it is no adapter. {hint}"
