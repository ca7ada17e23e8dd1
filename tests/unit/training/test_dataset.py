"""The Python door to the data, opened wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest

from sft import SFTDataset
from sft.errors import ModelError


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("Qwen/Qwen3-0.6B", ("'Qwen/Qwen3-0.6B', which is no tokenizer", "from_pretrained('Qwen/Qwen3-0.6B')")),
        (None, ("got None", "AutoTokenizer.from_pretrained(")),
        (print, ("an object of the class builtin_function_or_method", "AutoTokenizer.from_pretrained(")),
    ],
)
def test_what_is_no_tokenizer_is_said_with_how_to_get_one(
    given: object, parts: tuple[str, ...], alpaca_file: Path
) -> None:
    """It was an AttributeError of text."""
    with pytest.raises(ModelError) as caught:
        SFTDataset(str(alpaca_file), given)  # type: ignore[arg-type]
    assert all(part in str(caught.value) for part in parts), caught.value
