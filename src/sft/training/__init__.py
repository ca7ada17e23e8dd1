"""From prepared data to a trained, saved and recorded run."""

from __future__ import annotations

import logging

for _name in ("torchao", "torch.utils._pytree"):
    # where torchao is installed, accelerate imports it, and it tells of each of its kernels that is for other machines
    logging.getLogger(_name).setLevel(logging.ERROR)
