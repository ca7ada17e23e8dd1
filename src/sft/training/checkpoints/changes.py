"""A run that goes on is the run that began: what decides its course is compared, and a change is refused by name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import xxhash
from torch import nn

from sft.config import SFTConfig
from sft.errors import ConfigError
from sft.training.checkpoints.layout import IDENTITY

CODE = ("sft code", "sft-kit", "torch", "transformers", "accelerate", "peft", "numpy")
"""Compared together, under the name ``code``: versions, and the hash of the code that prepares data."""

OPTIONS = (
    "tokens_per_batch", "optim", "lora_alpha", "use_rslora", "dpo_beta", "dpo_loss_type",
    "stream_preparation", "stream_window",
)  # fmt: skip
"""Compared under their own names: what order, optimizer or model would silently be another with."""

CONSEQUENCES = {
    "data": "steps that are left are trained on other rows; the schedule goes on",
    "evaluation_data": "evaluation losses before and after do not compare",
    "chat_template": "the model learns a second format after the first",
    "tokenizer": "token ids may mean something else than the ones trained so far",
    "seed": "rows come in another order: some are seen twice in this epoch, others not at all",
    "order": "rows come in another order: some are seen twice in this epoch, others not at all",
    "rows_per_step": "the place in the data is reckoned in the new step size: rows are skipped or seen twice",
    "packs": "rows are put together differently: some are seen twice in this epoch, others not at all",
    "tokens_per_batch": "batches are cut differently: rows are skipped or seen twice",
    "stream_preparation": "rows come in another order: some are seen twice in this epoch, others not at all",
    "stream_window": "rows come in another order: some are seen twice in this epoch, others not at all",
    "optim": "the state of the other optimizer may not fit, and then the run ends",
    "lora_alpha": "what the adapter has learned weighs more or less from one step to the next",
    "use_rslora": "what the adapter has learned weighs more or less from one step to the next",
    "dpo_beta": "losses before and after do not compare",
    "dpo_loss_type": "losses before and after do not compare",
    "trained_weights": "weights that are not in the checkpoint start anew, if they can be loaded at all",
    "base_weights": "the adapter goes on over another model than the one it was trained on",
    "code": "results need not be the same to the last bit",
}
"""What it means to go on all the same."""

TRAINED_AS = "trained_as"
"""Not compared: it says in the user's words what the hash of ``trained_weights`` cannot."""

SAMPLED = 4
"""Numbers of each frozen weight that its fingerprint is made of: so few that they lie in the first process's share."""


def fingerprints_of_run(
    prepared: Mapping[str, str],
    config: SFTConfig,
    plan: Mapping[str, Any],
    model: nn.Module,
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """Name -> what must be the same in a run that goes on. Steps, learning rate and intervals may change.

    Args:
        prepared: fingerprints of the prepared data.
        versions: of the packages that decide numbers.
    """
    code = {name: value for name, value in {**prepared, **versions}.items() if name in CODE}
    return {
        **{_named(name): value for name, value in prepared.items() if name not in CODE},
        "data_seed": config.training_arguments.get("data_seed"),
        "order": config.train_sampling_strategy,
        "rows_per_step": plan["rows_per_step"],
        "packs": plan["packs"],
        **{name: getattr(config, name) for name in OPTIONS},
        "trained_weights": fingerprint_of_shapes(model),
        TRAINED_AS: f"LoRA, lora_r {config.lora_r}" if config.use_lora else "no adapter",
        "base_weights": fingerprint_of_frozen(model),
        "code": json.dumps(code, sort_keys=True),
    }


def refuse_changed_run(
    before: Mapping[str, Any], now: Mapping[str, Any], checkpoint: Path, *, allowed: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Refuse to go on from a checkpoint of a run that was not this one.

    Args:
        before: fingerprints of the run that wrote it.
        now: of this one.
        allowed: names that may differ (``allow_change``).

    Returns:
        The changes that were allowed, for the record.

    Raises:
        ConfigError: something else changed, or ``allowed`` names what nothing is known of.
    """
    names = sorted({*before, *now} - {TRAINED_AS})
    unknown = [name for name in allowed if _named(name) not in names]
    if unknown:
        raise ConfigError(f"allow_change {unknown[0]!r}: nothing of that name is compared. Known: {', '.join(names)}")
    changed = [name for name in names if before.get(name) != now.get(name)]
    refused = [name for name in changed if name not in map(_named, allowed)]
    if refused:
        lines = "; ".join(f"{name}{_change(name, before, now)}" for name in refused)
        meaning = "; ".join(f"{name}: {CONSEQUENCES[name]}" for name in refused if name in CONSEQUENCES)
        raise ConfigError(
            f"cannot go on from {checkpoint}: since that run these changed: {lines}. It would not be the same run. Set "
            "them back, choose another output_dir, or start anew with --overwrite_output_dir (removes that run's "
            "checkpoints) or --resume_from_checkpoint none. To go on all the same: --allow_change "
            + ",".join(refused)
            + (f" ({meaning})" if meaning else "")
        )
    return [
        {"name": name, "was": before.get(name), "is": now.get(name), "checkpoint": checkpoint.name} for name in changed
    ]


def read_identity(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint tells of the run that wrote it: fingerprints, processes, changes that were allowed."""
    found: dict[str, Any] = json.loads((checkpoint / IDENTITY).read_text(encoding="utf-8"))
    return found


def fingerprint_of_shapes(model: nn.Module) -> str:
    """Of names, shapes and types of all weights that are trained."""
    trained = [
        f"{name} {tuple(getattr(weight, 'ds_shape', weight.shape))} {weight.dtype}"
        for name, weight in model.named_parameters()
        if weight.requires_grad
    ]
    return xxhash.xxh3_128("\n".join(trained).encode()).hexdigest()


def fingerprint_of_frozen(model: nn.Module) -> str | None:
    """Of a few numbers of every weight that is not trained; None where all are."""
    digest, found = xxhash.xxh3_128(), False
    for name, weight in model.named_parameters():
        if weight.requires_grad or weight.is_meta:
            continue
        held = getattr(weight, "ds_tensor", weight.detach())
        held = held.to_local() if hasattr(held, "to_local") else held
        some = held.flatten()[:SAMPLED].cpu().clone()  # numpy's view of a storage would keep FSDP from freeing it
        digest.update(name.encode())
        digest.update(some.view(torch.uint8).numpy().tobytes())
        found = True
    return digest.hexdigest() if found else None


def _named(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _change(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Short values are shown; of hashes it is enough that they differ."""
    shown = TRAINED_AS if name == "trained_weights" and before.get(TRAINED_AS) != now.get(TRAINED_AS) else name
    told = [str(values.get(shown)) for values in (before, now)]
    return f" (was {told[0]}, is {told[1]})" if all(len(text) <= 24 for text in told) else ""
