"""Uploads a finished folder to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id

from sft.errors import ConfigError, ExportError


def check_name(model_id: str) -> None:
    """Refuse a repository name that the hub would refuse, before hours of work and not after.

    Raises:
        ConfigError: it is no OWNER/NAME.
    """
    try:
        validate_repo_id(model_id)
    except HFValidationError as error:
        raise ConfigError(f"hub_model_id {model_id!r} is no name for a repository. Give OWNER/NAME. {error}") from error


def push_folder(folder: Path, model_id: str, *, private: bool = False) -> str:
    """Create the repository if need be, upload every file, and return its address.

    Raises:
        ExportError: the hub refuses, or cannot be reached. The folder stays as it is.
    """
    api = HfApi()
    try:
        repository = api.create_repo(model_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository.repo_id, folder_path=folder)
    except Exception as error:  # the hub client has many: offline, no token, no right, bad name, connection
        reason = " ".join(str(error).split())[:300]
        raise ExportError(
            f"Cannot push {str(folder)!r} to the hub as {model_id!r}: {reason} The folder is complete; log in with "
            "`hf auth login` and upload it, or push again."
        ) from error
    return str(repository)
