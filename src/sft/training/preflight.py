"""What is said and refused before any data is read: all that the config and the machine alone can tell."""

from __future__ import annotations

from pathlib import Path

import torch

from sft.config import SFTConfig, require_data
from sft.training.also_write import require_what_is_written
from sft.training.arguments import require_trackers
from sft.training.build import refuse_packing_by_family
from sft.training.checkpoints import clear_run, find_checkpoint
from sft.training.dpo_run import require_trl
from sft.training.fewer_bits import refuse_fewer_bits
from sft.training.launch import advise_all_devices, announce, is_main_process, local_rank, refuse_lost_processes
from sft.training.parallel import trains_on_cpu
from sft.training.strategy import AskedStrategy, asked_strategy


def refuse_early(config: SFTConfig) -> AskedStrategy:
    """How the processes shall share the work, if a run of this config can begin at all.

    Raises:
        UserError: no data, a package that is not there, a model that cannot be packed, processes that are lost.
    """
    require_data(config)
    require_trl(config)
    require_what_is_written(config)
    require_trackers(config)
    strategy = ask_strategy(config)
    refuse_packing_by_family(config)
    refuse_fewer_bits(config)
    for note in config.notes:
        announce(f"note: {note}")
    return strategy


def ask_strategy(config: SFTConfig) -> AskedStrategy:
    """How the processes shall share the work; says what of it is not as written, and what is left unused.

    Raises:
        ConfigError: the launcher or the options ask for what cannot be.
    """
    refuse_lost_processes()
    asked = asked_strategy(config, on_cpu=trains_on_cpu())
    for note in () if asked.deepspeed is None else asked.deepspeed.notes:
        announce(f"note: {note}")
    if advice := advise_all_devices(torch.cuda.device_count()):
        announce(advice)
    return asked


def open_folder(config: SFTConfig) -> Path | None:
    """Make room in output_dir if that was asked for, and find the checkpoint to go on from."""
    folder = Path(config.output_dir)
    if config.overwrite_output_dir and is_main_process():
        clear_run(folder)
    anew = config.overwrite_output_dir and config.resume_from_checkpoint == "auto"
    return None if anew else find_checkpoint(config.resume_from_checkpoint, folder)


def prepared_once(config: SFTConfig) -> SFTConfig:
    """Let one process of a machine prepare anew what overwrite_cache says; the others take what it prepared."""
    return config.replace(overwrite_cache=False) if config.overwrite_cache and local_rank() > 0 else config
