"""What checkpoints are made of: tensors as safetensors reads them, states as JSON, copies, pickles that run nothing."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from transformers import TrainerCallback, TrainingArguments
from transformers.integrations import WandbCallback

from sft.errors import CheckpointError, ConfigError
from sft.training.checkpoints import block_file, lock, manifest, tensor_file
from sft.training.checkpoints.block_file import write_all
from sft.training.checkpoints.caught import catching_weights
from sft.training.checkpoints.disk import append_line
from sft.training.checkpoints.finite import weights_not_finite
from sft.training.checkpoints.keeper import saying_what_stays
from sft.training.checkpoints.manifest import seal_file
from sft.training.checkpoints.memory_copy import MemoryCopy, available_memory, live_storages
from sft.training.checkpoints.pickles import refuse_code
from sft.training.checkpoints.space import num_saves
from sft.training.checkpoints.states import from_plain, random_states, set_random_states, to_plain
from sft.training.checkpoints.tensor_file import DTYPES, write_tensors
from sft.training.checkpoints.trackers import go_on_in_trackers, tracker_runs, wants_folder


def test_tensors_of_every_type_and_layout_are_read_back_by_safetensors(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors = {str(dtype): (torch.randn(3, 5) * 3).to(dtype) for dtype in DTYPES}
    tensors |= {"scalar": torch.tensor(7.0), "none": torch.zeros(0, 4), "turned": torch.randn(4, 6).t()}
    seal = write_tensors(tmp_path / "all.safetensors", tensors, {"format": "pt"})
    read = load_file(tmp_path / "all.safetensors")
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert read[name].shape == tensor.shape
        assert read[name].contiguous().view(-1).view(torch.uint8).tolist() == (
            tensor.contiguous().view(-1).view(torch.uint8).tolist()
        )
    assert seal == seal_file(tmp_path / "all.safetensors")
    with safe_open(tmp_path / "all.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_large_files_go_past_the_cache_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and tensors begin and end at different places, and the last block is no whole page."""
    monkeypatch.setattr(block_file, "LARGE", 0)
    seen = []
    monkeypatch.setattr(tensor_file, "_write", lambda file, block: seen.append(len(block)) or write_all(file, block))
    generator = torch.Generator().manual_seed(0)
    sizes = (1, block_file.BLOCK // 4 - 7, 3, block_file.BLOCK // 4 + 1001)
    tensors = {f"t{number}": torch.randn(size, generator=generator) for number, size in enumerate(sizes)}
    path = tmp_path / "large.safetensors"
    assert write_tensors(path, tensors) == seal_file(path)
    read = load_file(path)
    assert all(torch.equal(read[name], value) for name, value in tensors.items())
    assert [size % block_file.ALIGNED for size in seen[:-1]] == [0, 0]
    assert seen[-1] % block_file.ALIGNED


def test_a_disk_that_takes_a_part_of_a_block_gets_the_rest(tmp_path: Path) -> None:
    class Slow(io.FileIO):
        def write(self, block: Any) -> int:
            return super().write(block[:1001])

    with Slow(tmp_path / "file", "wb") as file:
        assert write_all(file, memoryview(bytes(range(250)) * 20)) == 5000
    assert (tmp_path / "file").read_bytes() == bytes(range(250)) * 20


def test_an_optimizer_and_its_schedule_come_back_from_json_and_tensors(tmp_path: Path) -> None:
    def made() -> tuple[nn.Module, torch.optim.Optimizer, Any]:
        torch.manual_seed(0)
        model = nn.Linear(4, 3)
        groups = [{"params": [model.weight], "lr": 0.1}, {"params": [model.bias], "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=0.01, amsgrad=True)
        return model, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, schedule: Any) -> None:
        optimizer.zero_grad()
        model(torch.ones(2, 4)).square().sum().backward()
        optimizer.step()
        schedule.step()

    straight = made()
    for _ in range(3):
        step(*straight)
    tensors: dict[str, torch.Tensor] = {}
    plain = json.loads(json.dumps([to_plain(part.state_dict(), tensors, str(n)) for n, part in enumerate(straight)]))
    write_tensors(tmp_path / "states.safetensors", tensors)
    again = made()
    for part, state in zip(again, plain, strict=True):
        part.load_state_dict(from_plain(state, load_file(tmp_path / "states.safetensors")))
    step(*straight)
    step(*again)
    assert torch.equal(straight[0].weight, again[0].weight)
    assert torch.equal(straight[0].bias, again[0].bias)
    assert straight[2].get_last_lr() == again[2].get_last_lr()


def test_what_is_not_plain_is_refused_by_its_place() -> None:
    with pytest.raises(TypeError, match="scheduler/groups/0/function is a function"):
        to_plain({"groups": [{"function": random_states}]}, {}, "scheduler")


def test_all_generators_go_on_where_they_stood() -> None:
    def draw() -> list[float]:
        return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), float(torch.rand(()))]

    draw()
    states = json.loads(json.dumps([random_states()]))[0]
    drawn = draw()
    assert draw() != drawn
    set_random_states(states)
    assert draw() == drawn


def test_weights_that_are_no_numbers_are_named_and_large_ones_are_not() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    assert weights_not_finite(model) is None
    model[0].weight.data.fill_(3e38)  # whose sum is infinite
    assert weights_not_finite(model) is None
    model[1].bias.data[2] = float("inf")
    assert weights_not_finite(model) == "1.bias"
    model[1].bias.requires_grad_(False)
    assert weights_not_finite(model) is None


def test_a_copy_stays_while_training_goes_on_and_what_is_frozen_is_not_copied() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[0].requires_grad_(False)
    copies = MemoryCopy()
    for value in (1.0, 2.0):
        model[1].weight.data.fill_(value)
        taken = copies.take("weights", model.state_dict(), live_storages(model, []))
        model[1].weight.data.fill_(9.0)
        assert taken["1.weight"].eq(value).all()
    assert taken["0.weight"].data_ptr() == model[0].weight.data_ptr()


def test_memory_is_read_as_linux_tells_it(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable:      24 kB\n")
    assert available_memory(tmp_path / "meminfo") == 24 << 10
    assert available_memory(tmp_path / "absent") is None


def test_trackers_go_on_in_their_runs_unless_another_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_RUN_ID", "WANDB_RESUME", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(run=SimpleNamespace(id="abc")))
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(active_run=lambda: None))
    assert tracker_runs() == {"wandb": "abc"}
    monkeypatch.setenv("MLFLOW_RUN_ID", "mine")
    go_on_in_trackers({"wandb": "abc", "mlflow": "theirs"})
    assert (os.environ["WANDB_RUN_ID"], os.environ["WANDB_RESUME"], os.environ["MLFLOW_RUN_ID"]) == (
        "abc",
        "allow",
        "mine",
    )
    monkeypatch.delenv("WANDB_RUN_ID")
    monkeypatch.delenv("WANDB_RESUME")


def test_only_callbacks_that_use_the_folder_keep_a_save_from_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    class Uploads(TrainerCallback):  # type: ignore[misc]
        def on_save(self, *args: Any, **kwargs: Any) -> None: ...

    monkeypatch.delenv("WANDB_LOG_MODEL", raising=False)
    wandb = object.__new__(WandbCallback)
    assert (wants_folder(Uploads()), wants_folder(TrainerCallback()), wants_folder(wandb)) == (True, False, False)
    monkeypatch.setenv("WANDB_LOG_MODEL", "checkpoint")
    assert wants_folder(wandb)


def test_weights_are_caught_and_everything_else_is_written(tiny_model_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    with catching_weights() as caught:
        model.save_pretrained(tmp_path)
    assert "config.json" in [path.name for path in tmp_path.iterdir()]
    assert [file.path for file in caught] == [tmp_path / "model.safetensors"]
    write_tensors(caught[0].path, caught[0].tensors, caught[0].metadata)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)

    canary: Path


@pytest.mark.parametrize("name", ["optimizer.pt", "pytorch_model_fsdp.bin", "pieces/.metadata", "global_step3/mp.pt"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_could_run_code_is_refused_and_runs_nothing(tmp_path: Path, name: str, zipped: bool) -> None:
    evil = Evil()
    evil.canary = tmp_path / "canary"
    path = tmp_path / "checkpoint-3" / name
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        torch.save({"state": [evil]}, file) if zipped else pickle.dump({"state": [evil]}, file)
    with pytest.raises(ConfigError, match=r"it asks for (posix|nt)\.mkdir"):
        refuse_code(tmp_path / "checkpoint-3")
    assert not evil.canary.exists()


def test_what_pytorch_itself_writes_is_not_refused(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    torch.save(
        {"w": weight, "state": {0: {"step": torch.tensor(1.0)}}, "betas": (0.9, 0.99)}, tmp_path / "optimizer.pt"
    )
    refuse_code(tmp_path)


def test_lines_that_find_no_room_are_lost_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    append_line(tmp_path / "metrics.jsonl", '{"step": 1}')
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n'
    for _ in range(2):
        append_line(Path("/dev/full"), '{"step": 2}')
    assert capsys.readouterr().err.count("No space left on device") == 1


def test_a_model_that_cannot_be_saved_is_told_with_the_checkpoint_that_is_there(tmp_path: Path) -> None:
    with (
        pytest.raises(CheckpointError, match=r"No space left.*there is no checkpoint.*start the same command again"),
        saying_what_stays(tmp_path),
    ):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("strategy", "every", "saves"), [("no", 5, 0), ("steps", 5, 3), ("steps", 0.3, 3), ("epoch", 5, 2)]
)
def test_saves_are_counted(tmp_path: Path, strategy: str, every: float, saves: int) -> None:
    args = TrainingArguments(output_dir=str(tmp_path), save_strategy=strategy, save_steps=every, report_to=[])
    assert num_saves(args, 12, 6) == saves


def test_without_locks_of_the_file_system_the_process_that_is_named_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "fcntl", None)
    (tmp_path / lock.LOCK).write_text(json.dumps({"host": "another", "pid": 1}))
    with pytest.raises(ConfigError, match="in use by process 1 on another"):
        lock.hold_folder(tmp_path)
    import socket

    (tmp_path / lock.LOCK).write_text(json.dumps({"host": socket.gethostname(), "pid": 2**22 + 1}))  # no such process
    lock.hold_folder(tmp_path)
    lock.release_folder(tmp_path)
    assert not (tmp_path / lock.LOCK).exists()


def test_a_checkpoint_of_another_format_is_named_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "checkpoint-5"
    folder.mkdir()
    monkeypatch.setattr(manifest, "FORMAT", 2)
    manifest.write_manifest(folder, 5, {})
    assert manifest.damage(folder) == []
    monkeypatch.undo()
    assert manifest.damage(folder) == ["manifest.json is of format 2; this version of sft-kit reads 1"]
