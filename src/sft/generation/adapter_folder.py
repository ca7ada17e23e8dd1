"""An adapter as a served engine sees it: a folder, and a name that no other weights share."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft.errors import GenerationError

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"

Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class AdapterFolder:
    """A PEFT adapter on disk, as it was when it was read."""

    path: Path
    """Absolute."""

    name: str
    """The folder's name and a hash of its files: other weights, other name, so no server confuses the two."""

    config: Mapping[str, Any]
    stamp: Stamp
    """Name, size and time of change of each file."""

    def check_unchanged(self) -> None:
        """Raise GenerationError if the files are no longer those that were read.

        A server may read an adapter again at any time (SGLang does after it dropped one), under the old name.
        """
        if _stamp(self.path) != self.stamp:
            raise GenerationError(
                f"The adapter folder {self.path} has changed since it was loaded as {self.name!r}. Tell the engine of "
                "it again, and write each adapter to a folder of its own."
            )


@dataclass(frozen=True, slots=True)
class LoraShape:
    """What a server must reserve room for before it is told of adapters."""

    rank: int
    """The highest rank."""

    target_modules: tuple[str, ...]
    """Names of the adapted layers, such as ``q_proj``; empty: any."""


def read_adapter_folder(path: str | Path) -> AdapterFolder:
    """Read and name an adapter.

    Raises:
        GenerationError: there is no adapter there.
    """
    folder = Path(path).expanduser().resolve()
    stamp = _stamp(folder)
    try:
        config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    except ValueError as error:
        raise GenerationError(f"{folder / CONFIG_NAME} is no JSON ({error}). Save the adapter again.") from error
    digest = hashlib.sha256()
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        with (folder / name).open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    label = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.name)
    adapter = AdapterFolder(folder, f"{label}-{digest.hexdigest()[:16]}", config, stamp)
    adapter.check_unchanged()
    return adapter


def read_lora_shape(path: str | Path) -> LoraShape:
    """The shape of one adapter on disk."""
    config = read_adapter_folder(path).config
    targets = config.get("target_modules")
    rank = max([int(config.get("r") or 0), *(config.get("rank_pattern") or {}).values()])
    return LoraShape(rank, () if not isinstance(targets, list) else tuple(sorted(layer_names(targets))))


def layer_names(targets: list[str]) -> set[str]:
    """``["model.layers.0.self_attn.q_proj", "v_proj"]`` -> ``{"q_proj", "v_proj"}``."""
    return {target.rpartition(".")[2] for target in targets}


def special_features(config: Mapping[str, Any]) -> list[str]:
    """What an adapter has beyond two matrices per layer at one scale; servers refuse it, or leave it out in silence."""
    checks = {
        f"peft_type {config.get('peft_type')}": config.get("peft_type") != "LORA",
        "use_dora": config.get("use_dora"),
        "use_rslora": config.get("use_rslora"),
        "modules_to_save": config.get("modules_to_save"),
        "trainable_token_indices": config.get("trainable_token_indices"),
        "target_parameters": config.get("target_parameters"),
        "bias": config.get("bias", "none") != "none" or config.get("lora_bias"),
        "rank_pattern": config.get("rank_pattern"),
        "alpha_pattern": config.get("alpha_pattern"),
    }
    return [name for name, present in checks.items() if present]


def _stamp(folder: Path) -> Stamp:
    try:
        files = [(name, (folder / name).stat()) for name in (CONFIG_NAME, WEIGHTS_NAME)]
    except OSError as error:
        raise GenerationError(
            f"There is no adapter at {folder}: {error.strerror} ({Path(str(error.filename)).name}). An adapter folder "
            f"holds {CONFIG_NAME} and {WEIGHTS_NAME}."
        ) from error
    return tuple((name, status.st_size, status.st_mtime_ns) for name, status in files)
