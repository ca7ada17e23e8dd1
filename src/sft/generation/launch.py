"""What is to be started, with what, and how patiently: the same options for every served engine."""

from __future__ import annotations

import secrets
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sft.generation.adapter_folder import LoraShape

MakeMerged = Callable[[Path, Path], object]
"""Called with (adapter folder, empty folder), to fill the second with base model and adapter in one."""


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """How a server is started."""

    python: str = sys.executable
    """Interpreter of the environment that the server is installed in. Served engines pin their own torch."""

    gpus: tuple[str, ...] = ()
    """Devices, as CUDA_VISIBLE_DEVICES names them; the model is split over all of them. Empty: the CPU."""

    dtype: str = "auto"
    """Precision of weights and computation. auto: the engine's choice on GPUs, float32 on the CPU."""

    context: int | None = None
    """Most tokens of prompt and answer together. None: the model's own. Less context takes less memory."""

    memory_fraction: float = 0.7
    """Share of a GPU's memory for weights and cache together."""

    lora: LoraShape | None = None
    """Room for adapters that are loaded while it runs. None: the server takes no adapters."""

    arguments: tuple[str, ...] = ()
    """More arguments for the server's command line, after ours; of two, the last counts."""

    environment: Mapping[str, str] = field(default_factory=dict)
    """More environment variables."""

    log_file: Path | None = None
    """Where the server's output goes. None: a file in a new folder for temporary files."""

    start_timeout: float = 900.0
    """Seconds from the start until it must have generated something."""


@dataclass(frozen=True)
class Launch:
    """A way to start one kind of server."""

    options: LaunchOptions

    model: str
    """Folder or hub name of the base model."""

    command: Callable[[str, str, int], list[str]]
    """(folder or hub name, name to serve it under, port) -> command line. Must bind to loopback."""

    environment: Mapping[str, str]

    names_freely: bool = True
    """The server can be given a name for the model. False: the model goes by its path."""

    def choose_name(self, folder: str) -> str:
        """What the model is called in requests. A name that only this start knows tells its server from any other."""
        return f"sft-{secrets.token_hex(6)}" if self.names_freely else folder

    def choose_log_file(self) -> Path:
        """The log file, in a new folder where none was named."""
        if self.options.log_file is not None:
            return self.options.log_file.expanduser().resolve()
        return Path(tempfile.mkdtemp(prefix="sft-server-")) / "server.log"


def dtype_on(options: LaunchOptions) -> str:
    """The precision to ask for."""
    return "float32" if options.dtype == "auto" and not options.gpus else options.dtype


def device_environment(options: LaunchOptions) -> dict[str, str]:
    """The variable that gives a server its GPUs, or hides them."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(options.gpus)}
