"""What stands in for packed rows where a model's layers would let packed examples see each other."""

from __future__ import annotations

from transformers import AutoConfig

from sft.config import SFTConfig
from sft.errors import ModelError
from sft.models.families import UNPACKABLE, model_type_of
from sft.models.load import explain_load_failure
from sft.training.launch import announce


def packed_or_by_length(config: SFTConfig) -> SFTConfig:
    """The configuration as it is, or with batches by length in place of packed rows, which is said.

    As many tokens share a forward pass as would with packed rows, padding counted, and each example has a row of its
    own: the loss of a step is that of its examples, either way.

    Raises:
        ModelError: the model cannot be found.
    """
    if not config.packing or config.packing_fallback == "refuse":
        return config
    name, source = config.model_name_or_path, {"revision": config.model_revision}
    try:
        family = model_type_of(AutoConfig.from_pretrained(name, trust_remote_code=config.trust_remote_code, **source))
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(explain_load_failure("model", name, error)) from error
    if family not in UNPACKABLE:
        return config
    tokens = config.max_length * config.per_device_train_batch_size
    announce(
        f"note: packing is not used: in a packed row of a {family} model {UNPACKABLE[family]}. packing_fallback = "
        f"by_length: examples of about the same length share a batch of {tokens:,} tokens (tokens_per_batch), each in "
        "a row of its own"
    )
    return config.replace(packing=False, packing_fallback="refuse", tokens_per_batch=tokens)
