"""Questions that cannot be read are told before the data are prepared and the model is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from sft.config import SFTConfig
from sft.errors import ConfigError
from sft.training.preflight import refuse_early


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            None,
            "cannot be read: No such file or directory. It is a text file with one question a line; paths count from",
        ),
        (b"caf\xe9?", "cannot be read: it is no UTF-8. It is a text file"),
        (b"\n \n", "holds no question; write one a line"),
    ],
)
def test_questions_are_looked_at_first(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "questions.txt"
    if content is not None:
        path.write_bytes(content)
    config = SFTConfig(model_name_or_path="/no/model", data_path="/no/data", gen_questions_file=str(path))
    with pytest.raises(ConfigError) as told:
        refuse_early(config)
    assert f"gen_questions_file '{path}' {message}" in str(told.value)
