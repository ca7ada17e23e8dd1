"""What is said and refused before any data is read: all that the config and the machine alone can tell."""

from __future__ import annotations

import socket
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from sft.config import SFTConfig, require_data
from sft.data.conversations import MoreRows
from sft.data.prepare import PreparedData, prepare
from sft.data.preparer import prepare_in_windows
from sft.errors import ConfigError
from sft.generation.installed import require_server
from sft.models.saved_quantization import refuse_saved_quantization
from sft.training.also_write import require_what_is_written
from sft.training.arguments import require_trackers
from sft.training.attention_choice import refuse_packing_by_family
from sft.training.checkpoints import clear_run, find_checkpoint, remove_leftovers
from sft.training.checkpoints.find import describe_damage
from sft.training.checkpoints.lock import hold_folder
from sft.training.checkpoints.manifest import damage
from sft.training.dpo_run import require_trl
from sft.training.fewer_bits import refuse_fewer_bits
from sft.training.launch import advise_all_devices, announce, is_main_process, local_rank, refuse_lost_processes
from sft.training.parallel import trains_on_cpu
from sft.training.peers import told_by_first
from sft.training.questions import read_questions
from sft.training.strategy import AskedStrategy, asked_strategy
from sft.training.upload import require_hub


def refuse_early(config: SFTConfig) -> AskedStrategy:
    """How the processes shall share the work, if a run of this config can begin at all.

    Raises:
        UserError: no data, a package or server that is not there, a model that cannot be packed, processes that are
            lost.
    """
    require_data(config)
    require_trl(config)
    require_what_is_written(config)
    require_trackers(config)
    require_eval_server(config)
    if config.gen_questions_file is not None:
        read_questions(config.gen_questions_file)
    strategy = ask_strategy(config)
    refuse_packing_by_family(config)
    refuse_saved_quantization(config)
    refuse_fewer_bits(config)
    require_hub(config)
    for note in config.notes:
        announce(f"note: {note}")
    return strategy


def require_eval_server(config: SFTConfig) -> None:
    """Refuse a server that is to be started and is not installed. The first process starts it; so it alone looks.

    Raises:
        ConfigError: nothing of it is there.
    """
    if config.eval_tasks and config.eval_engine_url is None and is_main_process():
        require_server(config.eval_engine, config.eval_engine_python, prefix="eval_")


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
    """Take output_dir for this run, make room in it if that was asked for, and find the checkpoint to go on from.

    The first process does it for all (``checkpoint_for_all``).

    Raises:
        ConfigError: it cannot be written to, another run is in it, or the checkpoint asked for is none.
    """
    if not is_main_process():
        return None
    folder = Path(config.output_dir)
    hold_folder(folder)
    remove_leftovers(folder)
    if config.overwrite_output_dir:
        clear_run(folder)
    anew = config.overwrite_output_dir and config.resume_from_checkpoint == "auto"
    return None if anew else find_checkpoint(config.resume_from_checkpoint, folder)


def checkpoint_for_all(config: SFTConfig, found: Path | None) -> Path | None:
    """What the first process found (``open_folder``), on every process.

    Raises:
        ConfigError: a process does not see it.
    """
    folder = Path(config.output_dir)
    told = "" if found is None else found.name if found.parent == folder else str(found)
    told = told_by_first(told)
    if not told:
        return None
    checkpoint = folder / told
    if not is_main_process() and (wrong := damage(checkpoint, hashes=False)):
        raise ConfigError(
            f"the first process goes on from {told}, which this one ({socket.gethostname()}) does not see as it is: "
            f"{describe_damage(wrong)}. Give all machines an output_dir that they share."
        )
    return checkpoint


def prepare_for_run(
    config: SFTConfig, tokenizer: PreTrainedTokenizerBase, more: MoreRows | None = None
) -> PreparedData:
    """The data of a run: all of them, or with ``stream_preparation`` the first window of them.

    Raises:
        DataError: they cannot be used as they are.
    """
    quiet = not is_main_process()
    if not config.stream_preparation:
        return prepare(prepared_once(config), tokenizer, more=more, quiet=quiet)
    return prepare_in_windows(config, tokenizer, more=more, is_first=local_rank() == 0, quiet=quiet, say=announce)


def prepared_once(config: SFTConfig) -> SFTConfig:
    """Let one process of a machine prepare anew what overwrite_cache says; the others take what it prepared."""
    return config.replace(overwrite_cache=False) if config.overwrite_cache and local_rank() > 0 else config
