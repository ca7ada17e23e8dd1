"""Whether prepared data is what `apply_chat_template` writes: ids and masks of every row of a file.

    python benchmarks/preparation_exact.py --data alpaca_data.json --tokenizer FOLDER

``--data`` is a JSON list of Alpaca rows; those without an answer are left out, as `sft` refuses them. The template is
``preparation.py``'s, which marks what the assistant generates, so that transformers can mask it too. Exits with 1 where
a row differs, and names the first.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from chats import load_tokenizer

LONG_ENOUGH = 1 << 20
BATCH = 1000


def write_chats(data: Path, path: Path) -> list[Any]:
    """The rows with an answer as chat messages, also one a line in a file."""
    chats = [
        [
            {"role": "user", "content": "\n".join(filter(None, (row["instruction"], row["input"])))},
            {"role": "assistant", "content": row["output"]},
        ]
        for row in json.loads(data.read_text(encoding="utf-8"))
        if row["output"].strip()
    ]
    path.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats), encoding="utf-8")
    return chats


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--tokenizer", required=True)
    args = parser.parse_args()
    from sft.config import SFTConfig
    from sft.data.prepare import prepare

    tokenizer = load_tokenizer(args.tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chats.jsonl"
        chats = write_chats(args.data, path)
        config = SFTConfig(data_path=str(path), max_length=LONG_ENOUGH, cache_dir=folder)
        examples = prepare(config, tokenizer, quiet=True).train.examples
        if len(examples) != len(chats):
            sys.exit(f"{len(chats)} rows, {len(examples)} examples")
        differing = []
        for start in range(0, len(chats), BATCH):
            written = tokenizer.apply_chat_template(
                chats[start : start + BATCH], return_dict=True, return_assistant_tokens_mask=True
            )
            for place, (ids, mask) in enumerate(
                zip(written["input_ids"], written["assistant_masks"], strict=True), start
            ):
                ours = examples[place]
                if ours.input_ids.tolist() != list(ids) or ours.loss_mask.tolist() != list(mask):
                    differing.append(place)
    tokens = int(examples.offsets[-1])
    print(f"{len(chats) - len(differing):,} of {len(chats):,} rows ({tokens:,} tokens) have the same ids and masks")
    if differing:
        sys.exit(f"the first that differs is row {differing[0] + 1}")


if __name__ == "__main__":
    main()
