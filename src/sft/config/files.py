"""Configuration files: found, decoded and parsed into raw values that know their lines."""

from __future__ import annotations

import os
from pathlib import Path

from sft.config.json_file import parse_json
from sft.config.secrets import refuse_secrets
from sft.config.toml_file import parse_toml
from sft.config.values import RawValue
from sft.errors import ConfigError

SUFFIXES = (".yaml", ".yml", ".json", ".toml")
DATA_SUFFIXES = (".jsonl", ".csv", ".parquet", ".gz", ".zst")
MAX_BYTES = 1024 * 1024


def read_file(path: str | Path) -> dict[str, RawValue]:
    """The values of a YAML, JSON or TOML file, ours or a foreign one, unchecked.

    Raises:
        ConfigError: the file is missing, unreadable, of another kind, not what its suffix says, or holds a secret.
    """
    values = _parse(path)
    refuse_secrets(values)
    return values


def _parse(path: str | Path) -> dict[str, RawValue]:
    shown, file = str(path), Path(os.path.expanduser(path))
    text = _read_text(shown, file)
    suffix = file.suffix.lower()
    if suffix == ".json":
        return parse_json(text, shown)
    if suffix == ".toml":
        return parse_toml(text, shown)
    from sft.config.yaml_file import parse_yaml  # PyYAML is loaded for YAML only

    return parse_yaml(text, shown)


def _read_text(shown: str, file: Path) -> str:
    try:
        problem = _unusable(file)
        if problem:
            raise ConfigError(f"{shown}: {problem}")
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{shown}: cannot be read: {error.strerror}.") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{shown}:{line}: not UTF-8 text (byte {error.start} is 0x{content[error.start]:02x}). Save it as UTF-8."
        ) from None


def _unusable(file: Path) -> str | None:
    """Why a path cannot be a configuration file; None where it can."""
    suffix = file.suffix.lower()
    if file.is_dir():
        return "is a folder. Give the configuration file in it."
    if suffix in DATA_SUFFIXES:
        return f"is data, not a configuration. Write --data_path {file}."
    if suffix not in SUFFIXES:
        return f"a configuration file ends with {', '.join(SUFFIXES)}. Options are written --name value."
    if not file.exists():
        return "there is no such file. Its path is taken from the current folder."
    if not file.is_file():
        return "is no regular file."
    if file.stat().st_size > MAX_BYTES:
        return f"is larger than {MAX_BYTES // 1024**2} MiB and cannot be a configuration. Data goes with --data_path."
    return None
