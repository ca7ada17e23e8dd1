"""Which attention a run uses: the quicker one where the user's own examples show that it means the same."""

from __future__ import annotations

from transformers import (
    PreTrainedModel,
)

from sft.config import SFTConfig
from sft.data.prepare import PreparedData
from sft.data.types import Example
from sft.errors import ModelError
from sft.models.attention import attend_by_document
from sft.models.context import ContextGroup
from sft.models.families import model_type_of, refuse_packing
from sft.models.load import read_model_config
from sft.training.isolation import prove_isolation
from sft.training.launch import announce
from sft.training.shared_rows import share_proven_rows

WITNESS_TOKENS = 64
"""Length near which examples are chosen for the proof of isolation: enough to show a leak, and quick."""


def settle_attention(
    model: PreTrainedModel,
    config: SFTConfig,
    data: PreparedData,
    pad_token_id: int,
    context: ContextGroup | None = None,
) -> None:
    """Choose the quicker attention where two of the user's own examples show that it means the same.

    With ``context`` the processes of that group share every row from then on.

    Raises:
        ModelError: packed rows are asked for, and packed examples see each other in this model.
    """
    asked, witnesses = isolating_option(config), choose_witnesses(data)
    parts = [part for part in (data.train, data.eval) if part is not None]
    longest = max(int(part.examples.lengths.max()) for part in parts)
    if data.stream is not None:
        longest = config.max_length  # what comes later may be that long
    proof = None
    if config.stage != "dpo" and attend_by_document(model, longest=longest):
        proof = prove_isolation(model, witnesses, pad_token_id, packed=asked is not None)
        if not proof.proven:
            model.set_attn_implementation("sdpa")
    if context is not None:
        why = share_proven_rows(
            model, witnesses, pad_token_id, context, tensor=config.tensor_parallel_size, packed=asked is not None
        )
        announce(f"context_parallel_size = {context.size}: {why}")
    if asked is None:
        return
    if proof is None or not proof.proven:
        proof = prove_isolation(model, witnesses, pad_token_id)
    if not proof.proven:
        raise ModelError(
            f"{asked} = true, but this {model_type_of(model.config)} model ({type(model).__name__}) does not keep "
            f"packed examples apart: {proof.why}. Set {asked} = false."
        )
    announce(f"{asked} is on: {proof.why}")


def choose_witnesses(data: PreparedData) -> list[Example]:
    """Two examples of about ``WITNESS_TOKENS`` tokens; one twice where there is only one."""
    store = data.train.examples
    nearest = abs(store.lengths - WITNESS_TOKENS).argsort(kind="stable")
    return [store[int(nearest[0])], store[int(nearest[min(1, len(nearest) - 1)])]]


def refuse_packing_by_family(config: SFTConfig) -> None:
    """Refuse packed rows before anything is prepared, where the model's config tells that they would leak.

    Raises:
        ConfigError: naming the family.
    """
    asked = isolating_option(config)
    if asked is None:
        return
    found = read_model_config(
        config.model_name_or_path, revision=config.model_revision, trust_remote_code=config.trust_remote_code
    )
    refuse_packing(found, asked=asked)


def isolating_option(config: SFTConfig) -> str | None:
    """The option that asks for rows whose examples must not see each other, if one does."""
    return next((name for name in ("packing", "isolate_documents") if getattr(config, name)), None)
