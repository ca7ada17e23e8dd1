"""How much memory and time the loss over a large vocabulary takes: ours, transformers' own and TRL's.

    python benchmarks/loss_memory.py [--rounds N] [--rows N]

One forward and backward pass over rows of 512 tokens (8 rows: 4,096 tokens), of which 55 % are trained, through a
random model of Qwen3's architecture in float32: two layers of width 512, a vocabulary of 151,936, the output head tied
to the embedding. ``no head`` is the same pass that ends at the hidden states: the floor. All of them attend alike, so
what lies above the floor is the loss. Each measurement is a process of its own. Loss and gradients must agree.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rounds import OURS, Contestant, Figures, Result, publish, report, run_alone, take_turns

VOCABULARY = 151_936
ROW = 512
TRAINED = 0.55
NOT_TRAINED = -100
FLOOR = "no head"


def make_model() -> Any:
    """The same weights in every process."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY, hidden_size=512, intermediate_size=1536, num_hidden_layers=2, num_attention_heads=8,
        num_key_value_heads=4, head_dim=64, tie_word_embeddings=True, attn_implementation="sdpa",
    )  # fmt: skip
    return Qwen3ForCausalLM(config).train()


def make_rows(rows: int) -> tuple[Any, Any]:
    """Token ids and labels, int64 (rows, ROW)."""
    import torch

    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(VOCABULARY, (rows, ROW), generator=generator)
    trained = torch.rand(ids.shape, generator=generator) < TRAINED
    trained[:, 0] = False
    return ids, ids.masked_fill(~trained, NOT_TRAINED)


def loss_of_nothing(model: Any, ids: Any, labels: Any) -> Any:
    """Something small that needs every hidden state."""
    return model.model(input_ids=ids, use_cache=False).last_hidden_state.mean()


def loss_of_transformers(model: Any, ids: Any, labels: Any) -> Any:
    return model(input_ids=ids, labels=labels, use_cache=False).loss


def loss_of_trl(model: Any, ids: Any, labels: Any) -> Any:
    """What ``SFTTrainer.compute_loss`` does by default."""
    from trl.trainer.utils import add_fused_lm_head

    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    outputs = model(input_ids=ids, labels=labels, use_cache=False, fused_lm_head=True)
    return -outputs.log_probs.sum() / outputs.label_mask.sum()


def loss_of_ours(model: Any, ids: Any, labels: Any) -> Any:
    from sft.training.head_loss import find_form
    from sft.training.loss import summed_loss

    head = model.get_output_embeddings()
    slots = (labels != NOT_TRAINED).flatten().nonzero().squeeze(1)
    batch: Any = {"input_ids": ids, "labels": labels, "trained_slots": slots}
    loss, _ = summed_loss(head, model, batch, find_form(model, head, ids[:1, :8]))
    return loss / len(slots)


LOSSES: dict[str, Callable[[Any, Any, Any], Any]] = {
    FLOOR: loss_of_nothing,
    "ours": loss_of_ours,
    "transformers": loss_of_transformers,
    "TRL": loss_of_trl,
}


def measure(name: str, rows: int) -> Figures:
    """Peak memory above what the process held before, and seconds, of one pass."""
    if name == "TRL":
        import trl.trainer.utils  # noqa: F401
    model = make_model()
    if name == "ours":
        import sft.training.loss  # noqa: F401
        from sft.models.cpu_products import multiply_quickly

        multiply_quickly(model)  # as a run does
    ids, labels = make_rows(rows)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
    before, started = memory("VmRSS"), time.perf_counter()
    loss = LOSSES[name](model, ids, labels)
    loss.backward()
    seconds = time.perf_counter() - started
    peak = memory("VmHWM") - before
    gradient = model.model.layers[0].self_attn.q_proj.weight.grad.norm()
    embedding = model.get_input_embeddings().weight.grad.norm()
    figures = {"peak": peak, "seconds": seconds, "loss": loss.item()}
    return figures | {"gradient": float(gradient), "embedding_gradient": float(embedding)}


def memory(name: str) -> float:
    """VmRSS (now) or VmHWM (peak) of this process in GB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024 / 1e9


def above_floor(result: Result) -> Result:
    """The result with what lies above the floor of the same round."""
    floors = [figures["peak"] for figures in result["measured"].get(FLOOR, [])]
    for found in result["measured"].values():
        for figures, floor in zip(found, floors, strict=False):
            figures["gigabytes"] = figures["peak"] - floor
    return result


def disagreements(result: Result) -> dict[str, str]:
    """Contestants whose loss or gradients are not ours, but for the noise of float32."""
    measured = {name: found[0] for name, found in result["measured"].items() if name != FLOOR}
    ours = measured.get("ours", {})
    return {
        name: f"{key} {figures[key]:.7g}, ours {ours[key]:.7g}"
        for name, figures in measured.items()
        for key in ("loss", "gradient", "embedding_gradient")
        if ours and abs(figures[key] / ours[key] - 1) > 1e-5
    }


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--measure", choices=LOSSES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        report(measure(args.measure, args.rows), (*OURS, *(["trl"] if args.measure == "TRL" else [])))
        return

    def keep(result: Result) -> None:
        parts = {"float32": above_floor(result) | {"disagree": disagreements(result)}}
        publish("loss_memory", about={"tokens": args.rows * ROW}, parts=parts)
        for name, found in result["measured"].items():
            print(name, found[-1])

    take_turns(
        [Contestant(name, "trl" if name == "TRL" else None) for name in LOSSES],
        lambda one: run_alone(one, __file__, ["--rows", str(args.rows)]),
        rounds=args.rounds,
        after_round=keep,
    )


if __name__ == "__main__":
    main()
