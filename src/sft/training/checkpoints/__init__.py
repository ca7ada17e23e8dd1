"""Checkpoints of a run: written beside and renamed into place, sealed by hashes, found by step, never half there.

draft (write, tensor_file, manifest)  ->  keeper (rotate)  ->  find  ->  changes  ->  restoring
"""

from sft.training.checkpoints.find import find_checkpoint, list_checkpoints
from sft.training.checkpoints.rotate import clear_run, remove_leftovers

__all__ = ["clear_run", "find_checkpoint", "list_checkpoints", "remove_leftovers"]
