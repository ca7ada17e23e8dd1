"""Rules across options. Each function is named for what it forbids and returns what it found, ready to be read.

Rules see values only: nothing here looks at files, the hub or the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sft.config.candidate import Candidate, Unusable
from sft.config.checks.adapter import ADAPTER_REMARKS, ADAPTER_RULES
from sft.config.checks.data import DATA_REMARKS, DATA_RULES
from sft.config.checks.evaluation import EVALUATION_REMARKS, EVALUATION_RULES
from sft.config.checks.fewer_bits import FEWER_BITS_RULES
from sft.config.checks.learning import LEARNING_RULES
from sft.config.checks.output import OUTPUT_RULES
from sft.config.checks.parallel import PARALLEL_RULES
from sft.config.checks.paths import PATH_RULES
from sft.config.checks.precision import PRECISION_REMARKS, PRECISION_RULES
from sft.config.checks.speed import SPEED_REMARKS, SPEED_RULES
from sft.config.checks.stage import STAGE_REMARKS, STAGE_RULES
from sft.config.checks.stream import STREAM_RULES
from sft.config.checks.training import TRAINING_REMARKS, TRAINING_RULES

Rule = Callable[[Candidate], Iterator[str]]

RULES: tuple[Rule, ...] = (
    *PRECISION_RULES,
    *ADAPTER_RULES,
    *DATA_RULES,
    *OUTPUT_RULES,
    *EVALUATION_RULES,
    *TRAINING_RULES,
    *PARALLEL_RULES,
    *FEWER_BITS_RULES,
    *SPEED_RULES,
    *PATH_RULES,
    *STAGE_RULES,
    *STREAM_RULES,
    *LEARNING_RULES,
)

REMARKS: tuple[Rule, ...] = (
    *SPEED_REMARKS,
    *TRAINING_REMARKS,
    *EVALUATION_REMARKS,
    *DATA_REMARKS,
    *ADAPTER_REMARKS,
    *PRECISION_REMARKS,
    *STAGE_REMARKS,
)


def find_problems(candidate: Candidate) -> list[str]:
    """Everything that the rules forbid."""
    return _collect(RULES, candidate)


def find_notes(candidate: Candidate) -> list[str]:
    """What is allowed and may surprise."""
    return _collect(REMARKS, candidate)


def _collect(rules: tuple[Rule, ...], candidate: Candidate) -> list[str]:
    found: list[str] = []
    for rule in rules:
        try:
            found.extend(rule(candidate))
        except Unusable:
            continue
    return found
