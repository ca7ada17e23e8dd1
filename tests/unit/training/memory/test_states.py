"""States of optimizers, beside those that the optimizers make; and what devices share of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from sft.training.deepspeed_file import DeepSpeedSettings
from sft.training.memory.sharing import held_by_each
from sft.training.memory.states import OptimizerBytes, optimizer_bytes, state_bytes
from sft.training.memory.trace import Traced, TrainedWeight
from sft.training.strategy import AskedStrategy

SHAPES = [(128, 96), (64, 128), (96,), (8, 16, 32)]


def weights_of(parameters: list[nn.Parameter]) -> list[TrainedWeight]:
    return [TrainedWeight(tuple(one.shape), one.element_size(), False) for one in parameters]


def made_by(name: str, tmp_path: Any) -> tuple[int, list[nn.Parameter]]:
    """Bytes of the states after a step of the optimizer that transformers makes, scalars not counted."""
    model = nn.Module()
    model.weights = nn.ParameterList([nn.Parameter(torch.randn(shape)) for shape in SHAPES])
    args = TrainingArguments(output_dir=str(tmp_path), optim=name, use_cpu=True, report_to="none")
    kind, kwargs = Trainer.get_optimizer_cls_and_kwargs(args)
    parameters = list(model.parameters())
    optimizer = kind(parameters, **kwargs)
    for one in parameters:
        one.grad = torch.ones_like(one)
    optimizer.step()
    found: dict[int, int] = {}
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, Tensor) and value.numel() > 1:
                found[value.data_ptr()] = value.nbytes
    return sum(found.values()), parameters


@pytest.mark.parametrize("name", ["adamw_torch", "adamw_torch_fused", "sgd", "adagrad", "rmsprop", "adafactor"])
def test_states_after_one_step(name: str, tmp_path: Any) -> None:
    made, parameters = made_by(name, tmp_path)
    assert sum(state_bytes(name, weight) for weight in weights_of(parameters)) == made


@pytest.mark.parametrize("name", ["adamw_8bit", "lion_32bit", "lion_8bit", "adamw_bnb_8bit"])
def test_states_of_bitsandbytes(name: str, tmp_path: Any) -> None:
    pytest.importorskip("bitsandbytes")
    try:
        made, parameters = made_by(name, tmp_path)
    except (RuntimeError, NotImplementedError) as error:
        pytest.skip(f"bitsandbytes has no such step on this machine: {error}")
    maps = 2 * 256 * 4  # of what 8 bits mean, one for all weights
    assert sum(state_bytes(name, weight) for weight in weights_of(parameters)) == pytest.approx(made, abs=maps)


@pytest.mark.parametrize(("name", "kind"), [("adamw_torch_8bit", "AdamW8bit"), ("adamw_torch_4bit", "AdamW4bit")])
def test_states_of_torchao(name: str, kind: str) -> None:
    optim = pytest.importorskip("torchao.optim")
    for shape in SHAPES:
        parameter = nn.Parameter(torch.zeros(shape))
        optimizer = getattr(optim, kind)([parameter])
        made = 0
        for signed in (True, False):
            state = optimizer._new_buffer(parameter, signed)
            parts = [getattr(state, part) for part in ("codes", "scale")] if hasattr(state, "codes") else [state]
            made += sum(part.nbytes for part in parts)
        assert state_bytes(name, weights_of([parameter])[0]) == made


def test_embeddings_stay_in_32_bits_and_unknown_optimizers_are_said() -> None:
    weight, embedding = (TrainedWeight((128, 96), 4, is_embedding) for is_embedding in (False, True))
    assert state_bytes("adamw_8bit", weight) < state_bytes("adamw_8bit", embedding) / 3
    assert optimizer_bytes("paged_adamw_8bit", [weight], on_accelerator=True).paged
    unknown = optimizer_bytes("galore_adamw", [weight], on_accelerator=False)
    assert (unknown.is_known, unknown.states) == (False, 2 * weight.bytes)


def shared(
    name: str, processes: int, *, half: bool = True, values: dict[str, Any] | None = None, on_accelerator: bool = False
) -> Any:
    elements = 1_000_000
    traced = Traced(
        weights=2 * elements if half else 4 * elements,
        elements=elements,
        trained=(TrainedWeight((1000, 1000), 2 if half else 4, False),),
        largest_layer=elements // 5,
        outside=elements // 5,
        gradients=2 * elements if half else 4 * elements,
        step={},
        evaluation={},
        hidden_size=100,
    )
    states = OptimizerBytes(states=8 * elements, step=0, paged=False, is_known=True)
    deepspeed = DeepSpeedSettings({"zero_optimization": values or {}}, 2) if name.startswith("ZeRO") else None
    strategy = AskedStrategy(name, processes, "a test", deepspeed)
    return held_by_each(traced, states, strategy, half=half, on_accelerator=on_accelerator), elements


@pytest.mark.parametrize("processes", [2, 8, 64])
def test_zero_2_is_near_deepspeeds_own_figure(processes: int) -> None:
    held, elements = shared("ZeRO-2", processes)
    total = held.weights + held.gradients + held.copied + held.optimizer + held.sharing
    # estimate_zero2_model_states_mem_needs: 4 bytes a weight, and 16 shared out
    assert total == pytest.approx(4 * elements + 16 * elements / processes, rel=0.1)


def test_what_is_shared_shrinks_with_the_devices() -> None:
    alone, _ = shared("one process", 1, half=False)
    assert alone.sharing == 0
    assert shared("DDP", 2, half=False)[0].sharing == alone.gradients
    for name in ("ZeRO-3", "FSDP2"):
        few, many = (shared(name, processes)[0] for processes in (2, 8))
        assert many.weights < few.weights < alone.weights
        assert many.optimizer < few.optimizer
        assert many.gradients < few.gradients


def test_offloaded_states_lie_in_the_memory_of_the_machine() -> None:
    held, elements = shared("ZeRO-2", 2, values={"offload_optimizer": {"device": "cpu"}})
    assert held.optimizer == 0
    assert held.host == 12 * elements / 2
    assert held.notes


def test_a_bucket_left_to_transformers_is_as_it_fills_it() -> None:
    """Without that every bucket was taken for one as large as the model."""
    for stage, buffers in ((2, 1), (3, 2)):  # ZeRO-3 reduces one while the next fills
        held, _ = shared(f"ZeRO-{stage}", 2, values={"reduce_bucket_size": "auto"})
        assert held.sharing == 2 * 100 * 100 * buffers


def test_a_gpu_holds_a_bucket_that_is_larger_than_the_model() -> None:
    values = {"reduce_bucket_size": 5_000_000}
    held, elements = shared("ZeRO-2", 2, values=values)
    assert held.sharing == 2 * elements
    assert shared("ZeRO-2", 2, values=values, on_accelerator=True)[0].sharing == 2 * 5_000_000


def test_zero_3_gathers_no_more_than_it_may_keep() -> None:
    held, elements = shared("ZeRO-3", 4)
    assert held.gathered == 2 * elements
    assert shared("ZeRO-3", 4, values={"stage3_max_live_parameters": 1000})[0].gathered == 2000


@pytest.mark.parametrize(("stage", "buffered"), [(1, 0), (2, 1), (3, 1)])
def test_deepspeed_makes_room_for_its_share_of_the_gradients_before_there_are_any(stage: int, buffered: int) -> None:
    held, elements = shared(f"ZeRO-{stage}", 4)
    assert held.buffered == buffered * 2 * elements / 4
