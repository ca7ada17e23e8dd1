"""Weight files are read and written as safetensors' own code reads and writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sft.errors import ConfigError, ExportError
from sft.export.checkpoint import DTYPES, open_checkpoint, weight_files
from sft.export.shards import ShardWriter, TensorSpec, parse_size, split_into_shards


def make_tensors() -> dict[str, torch.Tensor]:
    """One tensor of every kind, scalars and empty ones among them."""
    generator = torch.Generator().manual_seed(0)
    tensors = {name: (torch.randn(3, 5, generator=generator) * 3).to(dtype) for name, dtype in DTYPES.items()}
    return {**tensors, "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 4), "odd": torch.ones(7, dtype=torch.uint8)}


def test_every_kind_of_tensor_is_read_as_safetensors_reads_it(tmp_path: Path) -> None:
    tensors = make_tensors()
    save_file(tensors, tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(weight_files(str(tmp_path)))
    assert checkpoint.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        found = checkpoint.read(name)
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(
            found.view(torch.uint8) if tensor.ndim else found, tensor.view(torch.uint8) if tensor.ndim else tensor
        )


@pytest.mark.parametrize("max_bytes", [40, 200, 10**9])
def test_every_kind_of_tensor_is_written_as_safetensors_reads_it(tmp_path: Path, max_bytes: int) -> None:
    tensors = make_tensors()
    specs = [TensorSpec(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()]
    writer = ShardWriter(tmp_path, specs, max_bytes)
    for name in reversed(list(tensors)):  # in any order
        writer.write(name, tensors[name])
    writer.close()
    files = sorted(tmp_path.glob("*.safetensors"))
    found = {name: tensor for path in files for name, tensor in load_file(path).items()}
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert found[name].float().equal(tensor.float())
    with safe_open(files[0], "pt") as file:
        assert file.metadata() == {"format": "pt"}
    index = tmp_path / "model.safetensors.index.json"
    assert index.is_file() is (len(files) > 1)
    if len(files) > 1:
        assert json.loads(index.read_text())["weight_map"].keys() == tensors.keys()
    assert open_checkpoint(weight_files(str(tmp_path))).tensors.keys() == tensors.keys()


def test_a_tensor_is_rounded_as_it_is_written(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, [TensorSpec("a", torch.bfloat16, (2, 3))], 100)
    tensor = torch.randn(3, 2).T  # not in one piece
    writer.write("a", tensor)
    writer.close()
    assert torch.equal(load_file(tmp_path / "model.safetensors")["a"], tensor.to(torch.bfloat16))


def test_a_tensor_that_was_forgotten_or_has_another_shape_is_an_error(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, [TensorSpec("a", torch.float32, (2,)), TensorSpec("b", torch.float32, (2,))], 100)
    with pytest.raises(ExportError, match=r"a has the shape \(3,\)"):
        writer.write("a", torch.zeros(3))
    writer.write("a", torch.zeros(2))
    with pytest.raises(ExportError, match="without 1 tensors, such as b"):
        writer.close()


def test_a_full_disk_is_named_before_anything_is_written(tmp_path: Path) -> None:
    huge = TensorSpec("a", torch.float32, (10**9, 10**6))
    with pytest.raises(ExportError, match=r"take 4000000\.0 GB"):
        ShardWriter(tmp_path, [huge], 10**9)
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 100))
def test_files_keep_the_order_and_the_bound(sizes: list[int], bound: int) -> None:
    specs = [TensorSpec(str(place), torch.uint8, (size,)) for place, size in enumerate(sizes)]
    shards = split_into_shards(specs, bound)
    assert [spec for shard in shards for spec in shard] == specs
    for shard in shards:
        assert len(shard) == 1 or sum(spec.num_bytes for spec in shard) <= bound


@pytest.mark.parametrize(("size", "expected"), [("5GB", 5 * 10**9), ("500MB", 5 * 10**8), ("20KB", 20_000), (7, 7)])
def test_sizes_are_decimal(size: str | int, expected: int) -> None:
    assert parse_size(size) == expected


@pytest.mark.parametrize("size", ["5", "GB", "0KB", "five GB", "-1GB", 0])
def test_a_size_that_is_none_is_refused(size: str | int) -> None:
    with pytest.raises(ConfigError, match="max_shard_size"):
        parse_size(size)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(100)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    with pytest.raises(ExportError, match="400 bytes, and 392 follow the header"):
        open_checkpoint([path]).read("a")
    path.write_bytes(whole[:5])
    with pytest.raises(ExportError, match="no whole safetensors file"):
        open_checkpoint([path])
    assert weight_files(str(tmp_path / "absent")) == []
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')
    with pytest.raises(ExportError, match=r"lacks model-00001-of-00002\.safetensors"):
        weight_files(str(tmp_path))
