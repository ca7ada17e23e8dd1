"""The files that DeepSpeed and FSDP write are pickles, and their own readers run what is in them. So they are read here
first, with nothing that could run: every class is a stand-in, and a name that is not on the list is refused.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import torch

from sft.errors import ConfigError

PICKLES = (".pt", ".pth", ".bin", ".metadata")
ALLOWED = {
    "collections": {"OrderedDict", "defaultdict"},
    "builtins": {"set", "frozenset", "slice", "complex", "bytearray", "int", "float", "str", "bool", "list", "dict"},
    "_codecs": {"encode"},
    "torch._utils": {
        "_rebuild_tensor_v2", "_rebuild_parameter", "_rebuild_parameter_with_state", "_rebuild_wrapper_subclass",
    },
    "torch._tensor": {"_rebuild_from_type_v2"},  # calls a function that is itself named, and so on this list
    "torch.nn.parameter": {"Parameter"},
    "torch.serialization": {"_get_layout"},
    "torchao.optim.subclass_8bit": {"OptimState8bit"},
    "torchao.optim.subclass_4bit": {"OptimState4bit"},
    "torchao.optim.subclass_fp8": {"OptimStateFp8"},
    "torch.distributed.checkpoint.metadata": {
        "Metadata", "TensorStorageMetadata", "BytesStorageMetadata", "ChunkStorageMetadata", "TensorProperties",
        "MetadataIndex", "StorageMeta", "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo", "_StoragePrefix"},
    "torch.distributed.checkpoint.planner": {"SavePlan", "WriteItem"},
    "deepspeed.runtime.fp16.loss_scaler": {"LossScaler", "DynamicLossScaler"},
    "deepspeed.runtime.zero.config": {"ZeroStageEnum"},
    "deepspeed.utils.tensor_fragment": {"fragment_address", "tensor_fragment"},
    "deepspeed.runtime.zero.utils": {"LossScalerConfig", "LossScaleProfile"},
    "pathlib": {"PosixPath", "WindowsPath", "PurePosixPath"},
    "numpy": {"ndarray", "dtype"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
}  # fmt: skip


def refuse_code(checkpoint: Path) -> None:
    """Refuse a checkpoint with a pickle that names anything but what these programs write.

    Raises:
        ConfigError: naming the file and what it asks for. Nothing of it was run.
    """
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file() and path.name.endswith(PICKLES):
            try:
                _read_without_running(path)
            except (pickle.UnpicklingError, zipfile.BadZipFile, EOFError, ValueError, KeyError, IndexError) as error:
                raise ConfigError(
                    f"{path} is not read: {error}. A file of PyTorch, DeepSpeed or FSDP holds tensors and numbers; "
                    "this one could run code, or is damaged. Nothing of it was run. Go on from another checkpoint."
                ) from error


def _read_without_running(path: Path) -> None:
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            file.seek(0)
            _Inert(file).load()
            return
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".pkl")]
        if not names:
            raise ValueError("it holds no data.pkl")
        for name in names:
            with archive.open(name) as inside:
                _Inert(inside).load()  # type: ignore[arg-type]


class _StandIn(dict):  # type: ignore[type-arg]
    """Takes every argument, item and state, and does nothing with them."""

    def __new__(cls, *_: Any, **__: Any) -> _StandIn:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        return

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)

    def append(self, item: Any) -> None:
        return

    def extend(self, items: Any) -> None:
        return

    def add(self, item: Any) -> None:
        return


class _Inert(pickle.Unpickler):
    """Reads a pickle of which every name is known; builds stand-ins only."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)

    def find_class(self, module: str, name: str) -> Any:
        if name in ALLOWED.get(module, ()) or (module == "torch" and _is_torch_type(name)):
            return _StandIn
        self._refuse(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        return _StandIn()

    def _refuse(self, what: str) -> NoReturn:
        raise pickle.UnpicklingError(what)


def _is_torch_type(name: str) -> bool:
    """Storages, dtypes and the like; no function."""
    found = getattr(torch, name, None)
    return isinstance(found, torch.dtype) or name.endswith("Storage") or name in ("Size", "Tensor", "device")
