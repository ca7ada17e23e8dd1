"""What the command `sft train` imports before it trains, and what it leaves out, so that the first step comes soon.

transformers, accelerate and PEFT import whatever of their partners is installed: bitsandbytes, torchao, DeepSpeed,
datasets. A plain run uses none of them and would wait two to four seconds for them. Where a configuration shows that a
package has no part in the run, it is treated as one that is not installed: ``sys.modules[name] = None`` is Python's own
way of saying so. Some stay hidden for the life of the process; the others only while transformers looks around.

Only for a process that is ours: a program that uses `sft` as a library imports what it likes.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

from sft.config import SFTConfig
from sft.config.fewer_bits import FewerBitsOptions
from sft.training.launch import has_launcher

WITHOUT_PARTNERS = ("adamw_torch", "adamw_torch_fused", "sgd", "adagrad", "rmsprop", "adafactor")
"""Optimizers that need no package beside PyTorch and transformers."""

WHILE_IMPORTING = ("datasets", "sklearn", "peft")
"""Hidden only until transformers is imported; our own code may import them afterwards."""

MOST_READ_AHEAD = 2**31
"""Bytes of one file that the system is asked to read ahead."""


def import_engine(config: SFTConfig) -> None:
    """Import torch, the Trainer and what a model is made of, without what this run does not use.

    Collecting garbage is put off meanwhile: hundreds of thousands of objects are made, and none is garbage. What was
    made is then left out of later collections. Does nothing where transformers is there already.
    """
    if "transformers" in sys.modules:
        return
    read_ahead(config)
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with hidden(unneeded(config)):
            import torch  # noqa: F401
            from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer  # noqa: F401
        import sft.training.run  # noqa: F401
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def unneeded(config: SFTConfig) -> tuple[str, ...]:
    """Packages that this run has no use for, as far as its configuration and the model's folder show."""
    if config.stage == "dpo":
        return ()  # TRL, which brings its own
    names = ["datasets", "sklearn"]
    if config.training_arguments.get("deepspeed") is None and not has_launcher():
        names.append("deepspeed")
    files = model_files(Path(config.model_name_or_path).expanduser())
    if files is None:
        return tuple(names)
    if not config.use_lora and config.adapter_name_or_path is None and "adapter_config.json" not in files:
        names.append("peft")
    if not config.load_in_4bit and not config.load_in_8bit and has_plain_weights(config):
        names += ["bitsandbytes", "torchao"]
    return tuple(names)


def model_files(folder: Path) -> set[str] | None:
    """Names of the files of a model that lies here; None for one of the hub."""
    return {entry.name for entry in folder.iterdir()} if (folder / "config.json").is_file() else None


def has_plain_weights(config: SFTConfig) -> bool:
    """Whether weights and optimizer are PyTorch's own: nothing quantised, rounded or in 8 bits."""
    try:
        described = json.loads(Path(config.model_name_or_path, "config.json").expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # loading it will say what is wrong
    rounded = any(config.origins[option.name] != "default" for option in fields(FewerBitsOptions))
    return "quantization_config" not in described and not rounded and config.optim in WITHOUT_PARTNERS


@contextmanager
def hidden(names: tuple[str, ...]) -> Iterator[None]:
    """Treat packages as not installed, unless they are imported already."""
    absent = [name for name in names if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in absent:
            if name in WHILE_IMPORTING and sys.modules.get(name) is None:
                sys.modules.pop(name, None)


def read_ahead(config: SFTConfig) -> None:
    """Ask the system to read the model's files from disk while Python imports. It is a hint; Linux takes it."""
    folder = Path(config.model_name_or_path).expanduser()
    if not hasattr(os, "posix_fadvise") or not folder.is_dir():
        return
    for path in [*folder.glob("*.safetensors"), *folder.glob("tokenizer*")]:
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            continue  # loading it will say what is wrong
        try:
            os.posix_fadvise(descriptor, 0, MOST_READ_AHEAD, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(descriptor)
