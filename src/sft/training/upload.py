"""`push_to_hub`: the repository is opened before a run begins, and has the finished model and its card at the end.

What the hub gets meanwhile is decided by ``hub_strategy`` (``upload_while_training.py``).
"""

from __future__ import annotations

from pathlib import Path

from sft.config import SFTConfig
from sft.training.launch import announce, is_main_process
from sft.training.save import SavedModel

ADAPTER = ("adapter_config.json", "adapter_model.*")
"""What saves have put where a merged model is to stand. A loader would take the two for a base and its adapter."""


def repository_of(config: SFTConfig) -> str:
    """The name that was given, or the folder's."""
    return str(config.training_arguments.get("hub_model_id") or Path(config.output_dir).absolute().name)


def require_hub(config: SFTConfig) -> None:
    """Open the repository of a run that will push to it, so that a missing login costs a second and not the run.

    Raises:
        ConfigError, ExportError: the name, the login, the right or the network is not there.
    """
    if config.training_arguments.get("push_to_hub") and is_main_process():
        from sft.export.hub import open_repository  # imports the hub's client, which other runs do not need

        name = open_repository(repository_of(config), private=is_private(config))
        announce(f"note: the trained model will be uploaded as {name}")


def upload(config: SFTConfig, saved: SavedModel) -> str | None:
    """Upload the merged model if there is one, else the model or adapter; its address, None where none was asked for.

    Raises:
        ExportError: the hub does not take it. Everything is saved here.
    """
    if not config.training_arguments.get("push_to_hub"):
        return None
    from sft.export.hub import push_folder

    address = push_folder(
        saved.merged or saved.model,
        repository_of(config),
        private=is_private(config),
        remove=ADAPTER if saved.merged else (),
    )
    announce(f"uploaded: {address}")
    return address


def uploads_while_training(config: SFTConfig) -> bool:
    """Whether the hub is to have more than the end of a run."""
    return bool(config.training_arguments.get("push_to_hub")) and config.training_arguments.get("hub_strategy") != "end"


def is_private(config: SFTConfig) -> bool:
    return bool(config.training_arguments.get("hub_private_repo"))
