"""``SFTTrainer(parse_args()).train()`` is train.py; ``GenerationEvaluation`` is the callback that evaluates for it."""

from sft import SFTTrainer
from sft.training.evaluation_callback import GenerationEvaluation

__all__ = ["GenerationEvaluation", "SFTTrainer"]
