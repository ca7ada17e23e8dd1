"""Every error that sft raises on purpose.

    SftError
    ├── UserError                the request cannot be met as given; the command line exits with 2
    │   ├── ConfigError          an option, a config file or a combination of options (also a ValueError)
    │   ├── DataError            a source, a row or what is left of the rows (also a ValueError)
    │   │   ├── RowError         one row that cannot be used; counted under max_bad_rows
    │   │   ├── TooManyBadRows   more of them than max_bad_rows allows; holds the list of all
    │   │   └── TemplateError    a chat template that cannot carry an honest loss mask
    │   ├── ModelError           a model, tokenizer or adapter that cannot be used as asked (also a ValueError)
    │   ├── TrainingDiverged     losses or gradients that are no numbers, again and again; nothing of them was applied
    │   ├── OutOfMemory          a row that does not fit into memory by itself
    │   └── ExportError          a merge or save whose result would not equal what was trained (also a RuntimeError)
    ├── GenerationError          an engine that is not there, died, hung, answered nonsense or from the wrong weights;
    │                            it costs one evaluation, never a training run
    ├── CheckpointError          a checkpoint that cannot be written, or must not be; the earlier ones are whole
    ├── PeerLost                 another process of this run died, hangs or is cut off; the checkpoints are whole
    └── TrainingStopped          a signal asked for a stop and everything was saved; exits with 75

A message says what was asked, what was found (value, file, line), why that cannot work and what to change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

EXIT_DONE = 0
EXIT_OURS = 1
EXIT_USER = 2
EXIT_STOPPED = 75


class SftError(Exception):
    """The root of the tree."""

    exit_code = EXIT_OURS


class UserError(SftError):
    """Something the user can change. Shown without a traceback."""

    exit_code = EXIT_USER


class ConfigError(UserError, ValueError):
    """One or several problems in the configuration, reported together."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        if len(self.problems) == 1:
            super().__init__(self.problems[0])
        else:
            listed = "\n".join(f"  - {problem}" for problem in self.problems)
            super().__init__(f"{len(self.problems)} problems in the configuration:\n{listed}")


class DataError(UserError, ValueError):
    """A source that cannot be read, a row that cannot be used, or rows of which nothing is left to train."""


class RowError(DataError):
    """One row that cannot be used: where it is, and a short reason that rows of the same fault share."""

    def __init__(self, source: object, reason: str, advice: str = "") -> None:
        super().__init__(source, reason, advice)
        self.source = source
        self.reason = reason
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}" + (f". {self.advice}" if self.advice else "")


class TooManyBadRows(DataError):
    """More rows are unusable than ``max_bad_rows`` allows."""

    def __init__(self, message: str, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.rows = rows
        """One entry for each of them, for ``bad_rows.jsonl``."""


class TemplateError(DataError):
    """A chat template that cannot say honestly which tokens are trained."""


class ModelError(UserError, ValueError):
    """A model, tokenizer or adapter that cannot be loaded or used as asked."""


class ExportError(UserError, RuntimeError):
    """A merge or save whose result would differ from what was trained."""


class TrainingDiverged(UserError, ArithmeticError):
    """Step after step whose loss or gradient is no number. None was applied; what to change is in the user's hands."""


class OutOfMemory(UserError, MemoryError):
    """A single row that no longer fits beside the model, or a process among several that ran out of memory."""


class GenerationError(SftError):
    """An engine that cannot be trusted with an answer; who trains records it and goes on."""


class CheckpointError(SftError):
    """The disk takes no checkpoint, or there is nothing left that is worth one. What was saved before stays."""


class PeerLost(SftError):
    """Another process of this run died, hangs or is cut off the network, so that this one cannot go on."""


class TrainingStopped(SftError):
    """Training was asked to stop, and everything needed to go on was saved."""

    exit_code = EXIT_STOPPED
