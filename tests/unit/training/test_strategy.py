"""What options and launchers ask for, found out before anything is started."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from sft.config import SFTConfig, load_config
from sft.errors import ConfigError, PeerLost
from sft.training import launch
from sft.training.deepspeed_file import read_deepspeed
from sft.training.parallel import refuse_other_shards
from sft.training.peers import comes_from_peer, naming_peers
from sft.training.preflight import prepared_once
from sft.training.strategy import AskedStrategy, asked_strategy


@pytest.fixture(autouse=True)
def nobody_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("ACCELERATE_", "FSDP_", "SLURM_")) or name in (*launch.SIZE_NAMES, *launch.RANK_NAMES):
            monkeypatch.delenv(name)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.delenv("MASTER_ADDR", raising=False)


def asked(**options: Any) -> AskedStrategy:
    return asked_strategy(SFTConfig(**options), on_cpu=True)


@pytest.fixture
def zero_file(tmp_path: Path) -> str:
    """A file as one of the tools that are replaced ships it, with all that is changed."""
    pytest.importorskip("deepspeed")
    path = tmp_path / "ds.json"
    path.write_text(
        json.dumps(
            {
                "optimizer": {"type": "Adam", "params": {"lr": "auto"}},
                "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": "auto"}},
                "zero_optimization": {"stage": 3, "offload_param": {"device": "cpu"}, "overlap_comm": True},
            }
        )
    )
    return str(path)


def test_one_process_and_several(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (asked().name, asked().num_processes) == ("one process", 1)
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert (asked().name, asked().num_processes) == ("DDP", 4)
    assert asked(fsdp="full_shard").name == "FSDP2"
    assert asked(fsdp="full_shard", fsdp_config={"fsdp_version": 1}).name == "FSDP1"


def test_mpi_tells_size_and_rank_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "3")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "2")
    assert (launch.world_size(), launch.rank(), launch.is_main_process()) == (3, 2, False)


def test_what_accelerate_was_configured_for(monkeypatch: pytest.MonkeyPatch, zero_file: str) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    assert (asked().name, asked().said_by) == ("FSDP2", "accelerate's fsdp_config")
    with pytest.raises(ConfigError, match="accelerate was told to use fsdp: choose one"):
        asked(deepspeed=zero_file)
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    assert asked().name == "ZeRO-2"
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", zero_file)
    assert asked().name == "ZeRO-3"


def test_a_deepspeed_file_is_changed_where_it_would_not_do_what_the_options_say(zero_file: str) -> None:
    settings = read_deepspeed(zero_file, on_cpu=True)
    assert settings.stage == 3
    assert settings.values == {
        "optimizer": {"type": "Adam", "params": {"lr": "auto", "torch_adam": True}},
        "zero_optimization": {"stage": 3, "overlap_comm": True, "stage3_gather_16bit_weights_on_model_save": True},
    }
    told = "\n".join(settings.notes)
    for word in ("scheduler (WarmupLR)", "gather_16bit", "offload_param", "optimizer (Adam) is used, not optim"):
        assert word in told
    on_gpu = read_deepspeed(zero_file, on_cpu=False)
    assert on_gpu.values["zero_optimization"]["offload_param"] == {"device": "cpu"}
    assert on_gpu.values["optimizer"]["params"] == {"lr": "auto"}


def test_a_dictionary_of_settings_stays_as_it_was() -> None:
    pytest.importorskip("deepspeed")
    given = {"zero_optimization": {"stage": 3}, "scheduler": {"type": "WarmupLR"}}
    before = json.dumps(given)
    assert asked(deepspeed=given).deepspeed is not None
    assert json.dumps(given) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"zero_optimization": {"stage": 4}}', "stage is 4. ZeRO has the stages"),
        ("{", "ds.json:1: not usable as JSON"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, content: str, message: str) -> None:
    pytest.importorskip("deepspeed")
    (tmp_path / "ds.json").write_text(content)
    with pytest.raises(ConfigError, match=message):
        asked(deepspeed=str(tmp_path / "ds.json"))


def test_deepspeed_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"sft-kit\[deepspeed\]"):
        read_deepspeed("ds.json", on_cpu=True)


def test_one_process_left_of_several_is_an_error() -> None:
    alone = {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1"}
    with pytest.raises(ConfigError, match="accelerate launch was asked for several processes and started one"):
        launch.refuse_lost_processes(alone)
    launch.refuse_lost_processes({"ACCELERATE_MIXED_PRECISION": "no"})
    launch.refuse_lost_processes({**alone, "WORLD_SIZE": "2", "LOCAL_RANK": "0"})
    with pytest.raises(ConfigError, match="srun started 8 processes"):
        launch.refuse_lost_processes({"SLURM_STEP_NUM_TASKS": "8"})
    launch.refuse_lost_processes({"SLURM_STEP_NUM_TASKS": "1"})
    launch.refuse_lost_processes({"SLURM_STEP_NUM_TASKS": "8", "RANK": "0", "WORLD_SIZE": "8"})


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="only Linux tells a parent's environment")
def test_an_exported_address_is_not_taken_for_accelerates() -> None:
    name, _, value = Path(f"/proc/{os.getppid()}/environ").read_text().partition("\0")[0].partition("=")
    assert not launch._set_by_parent(name, {name: value})


def test_several_gpus_and_one_process_are_told_how_to_use_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/sft", "train", "my run.yaml", "--bf16"])
    assert launch.advise_all_devices(1) is None
    assert launch.advise_all_devices(4) == (
        "note: this machine has 4 GPUs and one process uses one of them. To use all: "
        "torchrun --standalone --nproc_per_node=4 -m sft train 'my run.yaml' --bf16"
    )
    monkeypatch.setattr("sys.argv", ["train.py", "--x"])
    assert str(launch.advise_all_devices(2)).endswith("torchrun --standalone --nproc_per_node=2 train.py --x")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert launch.advise_all_devices(4) is None


def test_only_communication_that_failed_is_laid_at_another_processs_door() -> None:
    lost = RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.77.0.2]:27042")
    assert comes_from_peer(lost)
    assert not comes_from_peer(RuntimeError("CUDA out of memory"))
    assert not comes_from_peer(ConfigError("gloo"))
    with pytest.raises(PeerLost, match="did not meet the other processes"), naming_peers():
        raise lost
    with pytest.raises(ValueError, match="mine"), naming_peers():
        raise ValueError("mine")


@pytest.mark.parametrize(
    ("wrote", "number", "deepspeed", "world", "reads"),
    [
        ("DDP", 4, None, 1, True),
        ("one process", 1, None, 2, True),
        ("ZeRO-3", 2, 3, 2, True),
        ("ZeRO-3", 4, 3, 2, False),
        ("ZeRO-2", 2, 3, 2, False),
        ("DDP", 2, 2, 2, False),
        ("ZeRO-2", 1, None, 1, False),
    ],
)
def test_checkpoints_are_read_by_processes_that_can(
    wrote: str, number: int, deepspeed: int | None, world: int, reads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if deepspeed is not None:
        pytest.importorskip("deepspeed")
    monkeypatch.setenv("WORLD_SIZE", str(world))
    options = {} if deepspeed is None else {"deepspeed": {"zero_optimization": {"stage": deepspeed}}}
    before = {"processes": {"strategy": wrote, "num_processes": number}}
    if reads:
        refuse_other_shards(before, asked(**options), Path("run/checkpoint-4"))
    else:
        with pytest.raises(ConfigError, match=rf"checkpoint-4: {number} process\(es\) with {wrote} wrote it"):
            refuse_other_shards(before, asked(**options), Path("run/checkpoint-4"))
    refuse_other_shards(None, asked(**options), Path("run/checkpoint-4"))


PAGE = (Path(__file__).resolve().parents[3] / "docs" / "many-machines.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_the_pages_deepspeed_file_needs_no_change() -> None:
    pytest.importorskip("deepspeed")
    (text,) = blocks("json")
    assert read_deepspeed(json.loads(text), on_cpu=False).notes == ()


def test_the_pages_yaml_asks_for_fsdp2(tmp_path: Path) -> None:
    first, *others = blocks("yaml")
    (tmp_path / "train.yaml").write_text(first)
    assert asked_strategy(load_config(tmp_path / "train.yaml", []), on_cpu=False).name == "FSDP2"
    for text in others:
        (tmp_path / "other.yaml").write_text(text)
        load_config(tmp_path / "other.yaml", ["--model_name_or_path", "m"])


def test_the_pages_timeout_is_the_default() -> None:
    assert f"`ddp_timeout` ({SFTConfig().ddp_timeout} seconds" in PAGE


def test_one_process_of_a_machine_prepares_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    config = SFTConfig(overwrite_cache=True, max_length=64)
    assert prepared_once(config) is config
    monkeypatch.setenv("LOCAL_RANK", "1")
    other = prepared_once(config)
    assert (other.overwrite_cache, other.max_length) == (False, 64)
