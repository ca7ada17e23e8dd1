"""Where the rows of tasks lie, and how TruthfulQA is scored."""

from __future__ import annotations

import os
from dataclasses import dataclass

LONGBENCH_VARIABLE = "SFT_LONGBENCH_DIR"
QMSUM_VARIABLE = "SFT_QMSUM_DIR"
TRUTHFULQA_VARIABLE = "SFT_TRUTHFULQA_FILE"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """What a task needs to know to open its rows. What is None comes from the hub."""

    longbench_dir: str | None = None
    """Folder with `SUBSET.jsonl` files or `data.zip`; or that zip; or one .jsonl file, whose rows name their subset."""

    qmsum_dir: str | None = None
    """Folder with QMSum's train.jsonl, val.jsonl and test.jsonl."""

    truthfulqa_file: str | None = None
    """TruthfulQA's CSV, or its rows as .parquet or .jsonl."""

    truthfulqa_scorer: str | None = None
    """rougeL, bleu or bleurt. None: bleurt where there is a checkpoint, else rougeL."""

    bleurt_checkpoint: str | None = None
    """Name or folder of a BLEURT model in transformers' format."""

    def with_environment(self) -> TaskOptions:
        """The same, with places that are not given taken from the environment."""
        return TaskOptions(
            longbench_dir=self.longbench_dir or os.environ.get(LONGBENCH_VARIABLE) or None,
            qmsum_dir=self.qmsum_dir or os.environ.get(QMSUM_VARIABLE) or None,
            truthfulqa_file=self.truthfulqa_file or os.environ.get(TRUTHFULQA_VARIABLE) or None,
            truthfulqa_scorer=self.truthfulqa_scorer,
            bleurt_checkpoint=self.bleurt_checkpoint,
        )
