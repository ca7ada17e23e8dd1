"""The Python door to the data: a file of rows as a PyTorch data set of labelled examples."""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from sft.config import SFTConfig
from sft.data.collate import NOT_TRAINED
from sft.data.prepare import PreparedPart, prepare
from sft.data.report import DataReport
from sft.errors import ModelError
from sft.models.tokenizer import choose_template


class SFTDataset(Dataset[dict[str, Tensor]]):
    """Rows of a file, folder or hub data set, rendered and labelled as training sees them.

    >>> dataset = SFTDataset("data/alpaca.json", tokenizer, max_length=2048)      # doctest: +SKIP
    >>> dataset[0].keys()                                                         # doctest: +SKIP
    dict_keys(['input_ids', 'attention_mask', 'labels'])

    Each item has three int64 tensors of shape (length,), not padded: the token ids, ones, and labels that are -100
    wherever no loss is taken. A plain ``transformers.Trainer`` can train on it with ``DataCollatorForSeq2Seq``.

    Args:
        data_path: as the option of that name.
        tokenizer: its chat template renders the rows; one without a template gets a named one.
        max_length: most tokens of an example; longer ones are left out and counted in ``report``.
        format_type: alpaca, sharegpt, messages, prompt_completion, text, custom or tokens. None: found out.
        use_chat_template: False writes plain 'Instruction: / Response:' text.
        options: any other data option, such as ``columns`` or ``train_on``.

    Raises:
        DataError: the rows cannot be read or nothing of them is left to train.
        ConfigError: an option is wrong.
        ModelError: the tokenizer is none.
    """

    def __init__(
        self,
        data_path: str | list[Any],
        tokenizer: PreTrainedTokenizerBase,
        max_length: int = 2048,
        format_type: str | None = None,
        use_chat_template: bool = True,
        **options: Any,
    ) -> None:
        config = SFTConfig(
            data_path=data_path,
            max_length=max_length,
            format_type=format_type,
            use_chat_template=use_chat_template,
            **options,
        )
        _require_tokenizer(tokenizer)
        self.tokenizer = copy(tokenizer)  # the caller's keeps its own template
        choose_template(self.tokenizer, config.chat_template, use_chat_template=use_chat_template)
        self._part: PreparedPart = prepare(config, self.tokenizer).train

    @property
    def report(self) -> DataReport:
        """What became of the rows."""
        return self._part.report

    def __len__(self) -> int:
        return len(self._part.examples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        example = self._part.examples[index if index >= 0 else len(self) + index]
        input_ids = torch.from_numpy(example.input_ids.astype("int64"))
        trained = torch.from_numpy(example.loss_mask.astype(bool))
        return {
            "input_ids": input_ids,
            "attention_mask": torch.ones_like(input_ids),
            "labels": input_ids.masked_fill(~trained, NOT_TRAINED),
        }


def _require_tokenizer(given: object) -> None:
    if isinstance(given, PreTrainedTokenizerBase):
        return
    name = repr(given) if isinstance(given, str) else '"Qwen/Qwen2.5-1.5B"'
    what = repr(given) if given is None or isinstance(given, str) else f"an object of the class {type(given).__name__}"
    raise ModelError(
        f"SFTDataset(tokenizer=...) got {what}, which is no tokenizer: rows are written with its chat template and cut "
        f"into its tokens. Give transformers.AutoTokenizer.from_pretrained({name}); that takes a hub name or a folder."
    )
