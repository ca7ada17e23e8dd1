"""Model and adapter folders of strangers: what would run code, or take memory for nothing, is refused by name.

Each folder holds a canary: a module, or a pickle, that leaves a file behind if it is ever run.
"""

from __future__ import annotations

import json
import pickle
import shutil
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from sft.errors import ExportError, ModelError, UserError
from sft.export.adapter import read_adapter
from sft.models.adapters import add_adapter
from sft.models.brought_code import refuse_brought_code
from sft.models.load import load_model
from sft.models.tokenizer import load_tokenizer
from sft.models.weight_header import BITS, read_weight_header

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

CANARY = "import pathlib; pathlib.Path(__file__).with_name('canary').write_text('ran')\nclass Anything: pass\n"
AUTO_MAP = {"AutoConfig": "brought.Anything", "AutoModelForCausalLM": "brought.Anything"}

CONFIG_KEYS: dict[str, dict[str, Any]] = {
    "a model of its own": {"auto_map": AUTO_MAP, "model_type": "brought"},
    "a model of its own without a type": {"auto_map": AUTO_MAP, "model_type": None},
    "its own permission": {"trust_remote_code": True},
    "permission for a part": {"text_config": {"trust_remote_code": True}},
    "permission deep down": {"a": {"b": {"c": {"trust_remote_code": 1}}}},
    "the key of CVE-2026-4372": {"_attn_implementation_internal": "owner/kernel"},
    "that key with a name that is built in": {"_attn_implementation_internal": "sdpa"},
    "that key for a part": {"text_config": {"_attn_implementation_internal": "owner/kernel:fn"}},
    "a kernel from the hub": {"attn_implementation": "owner/kernel"},
    "a kernel from the hub, private name": {"_attn_implementation": "owner/kernel"},
    "a kernel for a part": {"attn_implementation": {"": "sdpa", "text_config": "owner/kernel"}},
    "a kernel for experts": {"_experts_implementation": "owner/kernel"},
    "kernels switched on": {"use_kernels": True},
    "a map of kernels": {"kernel_config": {"RMSNorm": "owner/kernel:Norm"}},
    "code for a part": {"vision_config": {"auto_map": AUTO_MAP}},
    "layers without end": {"num_hidden_layers": 10**9},
    "rows without end": {"vocab_size": 10**11},
    "a wide model": {"hidden_size": 10**10},
    "wide layers": {"intermediate_size": 10**10},
    "two numbers whose product is too large": {"hidden_size": 10**5, "vocab_size": 10**5},
}


@pytest.fixture
def folder(tiny_model_folder: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "model"
    shutil.copytree(tiny_model_folder, copy)
    (copy / "brought.py").write_text(CANARY)
    return copy


def change(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def no_canary(folder: Path) -> bool:
    return not list(folder.rglob("canary*"))


class Pickled:
    """Leaves a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("name", CONFIG_KEYS)
def test_a_config_that_would_run_code_or_take_memory_is_refused(name: str, folder: Path) -> None:
    change(folder / "config.json", CONFIG_KEYS[name])
    with pytest.raises(ModelError, match=r"config\.json"):
        load_model(str(folder))
    assert no_canary(folder)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000, '{"a": ' * 50_000], ids=range(6))
def test_a_config_that_is_no_json_object_is_named(file: str, text: str, folder: Path) -> None:
    (folder / file).write_text(text)
    with pytest.raises(ModelError, match=file.replace(".", r"\.")):
        load_model(str(folder))


def test_code_may_come_where_the_user_says_so(folder: Path) -> None:
    change(folder / "config.json", {"auto_map": AUTO_MAP, "model_type": "brought"})
    refuse_brought_code(str(folder), trust_remote_code=True)


def test_a_known_model_does_without_the_code_beside_it(folder: Path) -> None:
    change(folder / "config.json", {"auto_map": AUTO_MAP})
    model = load_model(str(folder))
    assert type(model).__module__.startswith("transformers.")
    assert no_canary(folder)


def test_a_tokenizer_of_its_own_is_not_run(folder: Path) -> None:
    change(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "Anything", "auto_map": {"AutoTokenizer": ["brought.Anything", "brought.Anything"]}},
    )
    with suppress(ModelError):
        load_tokenizer(str(folder))
    assert no_canary(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pkl", "consolidated.00.pth", "model.mdl"])
def test_weights_in_pickles_are_not_read(name: str, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Pickled(folder / "canary")))
    with pytest.raises(ModelError):
        load_model(str(folder))
    assert no_canary(folder)


@pytest.mark.parametrize("name", ["rng_state.pth", "optimizer.pt", "training_args.bin", "tokenizer.pkl", ".mdl"])
def test_pickles_beside_a_model_are_not_read(name: str, folder: Path) -> None:
    (folder / name).write_bytes(pickle.dumps(Pickled(folder / "canary")))
    load_model(str(folder))
    load_tokenizer(str(folder))
    assert no_canary(folder)


@pytest.fixture
def adapter(tiny_model_folder: Path, tmp_path: Path) -> Path:
    adapted = add_adapter(load_model(str(tiny_model_folder)), r=2, alpha=4, dropout=0.0)
    adapted.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


ADAPTER_KEYS: dict[str, dict[str, Any]] = {
    "a module to import": {"megatron_config": {"a": 1}, "megatron_core": "brought"},
    "a library to import": {"auto_mapping": {"base_model_class": "Anything", "parent_library": "brought"}},
    "its own permission": {"trust_remote_code": True},
    "an unknown kind": {"peft_type": "BROUGHT"},
}


@pytest.mark.parametrize("name", ADAPTER_KEYS)
def test_an_adapter_that_names_modules_is_refused(name: str, adapter: Path, tiny_model_folder: Path) -> None:
    change(adapter / "adapter_config.json", ADAPTER_KEYS[name])
    with pytest.raises(ExportError):
        read_adapter(str(adapter))
    with pytest.raises(ModelError):
        add_adapter(load_model(str(tiny_model_folder)), r=2, alpha=4, dropout=0.0, adapter_name_or_path=str(adapter))


def test_an_adapter_in_a_pickle_is_not_read(adapter: Path, tiny_model_folder: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps(Pickled(adapter / "canary")))
    with pytest.raises(ModelError, match="pickle"):
        add_adapter(load_model(str(tiny_model_folder)), r=2, alpha=4, dropout=0.0, adapter_name_or_path=str(adapter))
    assert no_canary(adapter)


# Headers of safetensors files

DATA = 64
GOOD = {
    "a": {"dtype": "F32", "shape": [2, 4], "data_offsets": [0, 32]},
    "b": {"dtype": "F32", "shape": [8], "data_offsets": [32, 64]},
}


def file_of(header: Any, *, length: int | None = None, data: int = DATA) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + bytes(data)


def with_a(**changes: Any) -> dict[str, Any]:
    return {**GOOD, "a": {**GOOD["a"], **changes}}


HEADERS: dict[str, bytes] = {
    "nothing": b"",
    "three bytes": b"abc",
    "a length alone": struct.pack("<Q", 0),
    "a length past the file": file_of(GOOD, length=10**6),
    "a length past all files": file_of(GOOD, length=2**64 - 1),
    "a length past the bound": file_of(GOOD, length=100_000_001),
    "no JSON": file_of(b"\xff\xfe{}"),
    "a list": file_of([1, 2]),
    "deep nesting": file_of(b"[" * 200_000),
    "a number": file_of(7),
    "an entry that is a list": file_of({"a": []}),
    "an entry without a dtype": file_of({"a": {"shape": [16], "data_offsets": [0, 64]}}),
    "an entry with more": file_of(with_a(code="os.system")),
    "an unknown dtype": file_of(with_a(dtype="F33")),
    "a dtype that is a list": file_of(with_a(dtype=["F32"])),
    "a shape that is a text": file_of(with_a(shape="2,4")),
    "a shape below zero": file_of(with_a(shape=[-2, -4])),
    "a shape with fractions": file_of(with_a(shape=[2.0, 4.0])),
    "a shape of truths": file_of(with_a(shape=[True, 8])),
    "a shape of a billion sides": file_of(with_a(shape=[10**9] * 9)),
    "a shape with too many numbers": file_of(with_a(shape=[2, 5])),
    "places below zero": file_of(with_a(data_offsets=[-32, 0])),
    "places past the end": file_of(with_a(data_offsets=[0, 10**12])),
    "three places": file_of(with_a(data_offsets=[0, 16, 32])),
    "an overlap": file_of({**GOOD, "b": {**GOOD["b"], "data_offsets": [16, 48]}}),
    "the same place twice": file_of({**GOOD, "b": {**GOOD["b"], "data_offsets": [0, 32]}}),
    "a hole": file_of({**GOOD, "b": {**GOOD["b"], "data_offsets": [36, 68]}}, data=68),
    "data missing": file_of(GOOD, data=60),
    "data too many": file_of(GOOD, data=65),
    "a name twice": file_of(json.dumps(GOOD).replace('"b"', '"a"').encode()),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_cannot_be_is_refused(name: str, folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(HEADERS[name])
    with pytest.raises(ModelError, match="no whole safetensors file"):
        read_weight_header(folder / "model.safetensors")
    with pytest.raises(UserError):
        load_model(str(folder))


def test_an_honest_header_is_read(folder: Path) -> None:
    path = folder / "model.safetensors"
    held, begin = read_weight_header(path)
    tensors = load_file(path)
    assert {name: tensor.shape for name, tensor in held.items()} == {n: tuple(t.shape) for n, t in tensors.items()}
    assert begin + max(tensor.end for tensor in held.values()) == path.stat().st_size


def test_every_dtype_that_torch_saves_is_known(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import _TYPES

    for name, dtype in _TYPES.items():
        if name in BITS and dtype.itemsize * 8 == BITS[name]:
            save_file({"a": torch.zeros(4, dtype=dtype)}, tmp_path / "one.safetensors")
            assert read_weight_header(tmp_path / "one.safetensors")[0]["a"].dtype == name
    whole = {name for name, dtype in _TYPES.items() if "x2" not in str(dtype)}
    assert whole <= BITS.keys()
