"""Whether PEFT is around a model, asked without importing PEFT."""

from __future__ import annotations

import sys


def is_adapted(model: object) -> bool:
    """Whether this is a ``peft.PeftModel``. Importing PEFT takes a second; without it there is none."""
    peft = sys.modules.get("peft")
    return peft is not None and isinstance(model, peft.PeftModel)
