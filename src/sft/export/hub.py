"""Uploads a finished folder to the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id

from sft.errors import ConfigError, ExportError

SHOWN = 300
"""Characters of what the hub's client says."""


def check_name(model_id: str) -> None:
    """Refuse a repository name that the hub would refuse, before hours of work and not after.

    Raises:
        ConfigError: it is no OWNER/NAME.
    """
    try:
        validate_repo_id(model_id)
    except HFValidationError as error:
        raise ConfigError(f"hub_model_id {model_id!r} is no name for a repository. Give OWNER/NAME. {error}") from error


def open_repository(model_id: str, *, private: bool = False) -> str:
    """Create the repository if need be, and return its whole name: what shows that an upload will be let in.

    Raises:
        ConfigError: it is no name.
        ExportError: the hub refuses, or cannot be reached.
    """
    check_name(model_id)
    try:
        return str(HfApi().create_repo(model_id, private=private, exist_ok=True).repo_id)
    except Exception as error:  # the hub client has many: offline, no token, no right, connection
        raise ExportError(
            f"push_to_hub: the repository {model_id!r} cannot be opened on the hub: {said(error)} Log in with "
            "`hf auth login` or set HF_TOKEN, see that the token may write and the network is there, or leave "
            "push_to_hub out and upload the finished folder later."
        ) from error


def push_folder(folder: Path, model_id: str, *, private: bool = False, remove: Sequence[str] = ()) -> str:
    """Create the repository if need be, upload every file, and return its address.

    Args:
        remove: patterns of files that leave the repository, unless they are among those that come.

    Raises:
        ExportError: the hub refuses, or cannot be reached. The folder stays as it is.
    """
    api = HfApi()
    try:
        repository = api.create_repo(model_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository.repo_id, folder_path=folder, delete_patterns=list(remove) or None)
    except Exception as error:  # as above
        raise ExportError(
            f"Cannot push {str(folder)!r} to the hub as {model_id!r}: {said(error)} The folder is complete; log in "
            f"with `hf auth login` and upload it with `hf upload {model_id} {folder}`, or push again."
        ) from error
    return str(repository)


def begin_push(folder: Path, model_id: str, *, message: str) -> Future[Any]:
    """The same into a repository that is there, in a thread; what it raises stands in what is returned."""
    return HfApi().upload_folder(repo_id=model_id, folder_path=folder, commit_message=message, run_as_future=True)


def said(error: BaseException) -> str:
    """What the hub's client says, on one line, without the token that it might repeat."""
    text = " ".join(str(error).split())[:SHOWN]
    token = get_token()
    return text.replace(token, "(token)") if token else text
