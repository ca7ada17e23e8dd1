"""Draws the pictures of what-is-trained.md from what `sft inspect --json` says: python docs/pictures.py

Each is a real row through a shipped chat template and a tokenizer that is made here of the rows' own words, so that
nothing is downloaded and the drawing is the same everywhere.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sft.cli.main import main as sft

IMAGES = Path(__file__).resolve().parent / "images"
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "<think>", "</think>")
COLUMNS = 92
CELL, LINE, EDGE = 8.43, 22, 18
"""Pixels: width of a letter of the font, height of a line, and the margin."""

WEATHER = {
    "type": "function",
    "function": {
        "name": "rain",
        "description": "Whether it rains now.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL = {"type": "function", "function": {"name": "rain", "arguments": {"city": "Oslo"}}}


def said(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


PICTURES: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "answers": (
        "Two answers, each with the token that ends it",
        ["--chat_template", "chatml"],
        {
            "messages": [
                said("system", "Be brief."),
                said("user", "What is the capital of France?"),
                said("assistant", "Paris."),
                said("user", "And of Italy?"),
                said("assistant", "Rome."),
            ]
        },
    ),
    "one-turn-left-out": (
        "A wrong answer is read and not learned: train: false",
        ["--chat_template", "chatml"],
        {
            "messages": [
                said("user", "2 + 2?"),
                said("assistant", "5", train=False),
                said("user", "Are you sure?"),
                said("assistant", "No: it is 4."),
            ]
        },
    ),
    "thoughts": (
        "Qwen3 with thoughts: they are part of the answer",
        ["--chat_template", "qwen3"],
        {
            "messages": [
                said("user", "Is 7 prime?"),
                said("assistant", "Yes.", reasoning_content="Nothing from 2 to 6 divides it."),
            ]
        },
    ),
    "no-thoughts": (
        "Qwen3 without thoughts: the empty think block is part of the prompt",
        ["--chat_template", "qwen3"],
        {"messages": [said("user", "Is 7 prime?"), said("assistant", "Yes.")]},
    ),
    "tools": (
        "A tool is called: the call is trained, the tool's answer is not",
        ["--chat_template", "qwen"],
        {
            "tools": [WEATHER],
            "messages": [
                said("user", "Does it rain in Oslo?"),
                said("assistant", "", tool_calls=[CALL]),
                said("tool", "clear sky"),
                said("assistant", "No, it does not."),
            ],
        },
    ),
}
"""File name -> title, options, row."""

STYLE = """\
text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:#24292f;white-space:pre}
.t{fill:#0a3a8a;font-weight:600}.c{fill:#6e7781}.h{font:600 14px system-ui,sans-serif}.s{font:12px system-ui,sans-serif}
.b{fill:#f6f8fa;stroke:#d0d7de}.m{fill:#cfe3ff}.u{stroke:#0969da;stroke-width:2}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.t{fill:#cae0ff}.c{fill:#8b949e}.b{fill:#161b22;stroke:#30363d}
.m{fill:#17396b}.u{stroke:#58a6ff}}"""


def make_tokenizer(folder: Path) -> None:
    """Bytes, the words of the rows, and the control tokens that the templates write."""
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rows = json.dumps([row for _, _, row in PICTURES.values()])
    pieces = {word for word, _ in words.pre_tokenize_str(rows)} | set(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: number for number, piece in enumerate(sorted(pieces))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    backend.pre_tokenizer, backend.decoder = words, decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=2048
    )
    tokenizer.save_pretrained(folder)


def inspect(row: dict[str, Any], options: list[str], folder: Path) -> list[dict[str, Any]]:
    """The examples that a row becomes, as `sft inspect --json` prints them."""
    (folder / "row.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    data = ["--data_path", str(folder / "row.jsonl"), "--model_name_or_path", str(folder)]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = sft(["inspect", *data, "--json", *options])
    assert code == 0, options
    return [json.loads(line) for line in out.getvalue().splitlines()]


def pieces_of(example: dict[str, Any], tokenizer: Any) -> Iterator[tuple[str, bool]]:
    """Text and whether it is trained, run by run; a line break is shown, and begins a line."""
    pairs = zip(example["input_ids"], example["loss_mask"], strict=True)
    for trained, run in groupby(pairs, key=lambda pair: pair[1] == 1):
        text = tokenizer.decode([token for token, _ in run], skip_special_tokens=False)
        for line in text.splitlines(keepends=True):
            yield line.replace("\n", "↵"), trained


def lines_of(pieces: Iterator[tuple[str, bool]]) -> list[list[tuple[str, bool]]]:
    """Pieces in lines of at most COLUMNS letters."""
    lines: list[list[tuple[str, bool]]] = [[]]
    for text, trained in pieces:
        while text:
            room = COLUMNS - sum(len(shown) for shown, _ in lines[-1])
            lines[-1].append((text[:room], trained))
            text = text[room:]
            if text or lines[-1][-1][0].endswith("↵"):
                lines.append([])
    return [line for line in lines if line]


def draw(title: str, lines: list[list[tuple[str, bool]]], num_trained: int, num_tokens: int) -> str:
    """The picture: trained text on a blue ground, underlined, so that it does not rest on colour alone."""
    width, height = round(2 * EDGE + COLUMNS * CELL), EDGE + LINE * (len(lines) + 2) + 20
    drawn = [f'<rect class="b" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8"/>']
    drawn.append(f'<text class="h" x="{EDGE}" y="{EDGE + 10}">{escape(title)}</text>')
    for number, line in enumerate(lines):
        left, base = float(EDGE), EDGE + LINE * (number + 2)
        for text, trained in line:
            wide = round(len(text) * CELL, 2)
            if trained:
                drawn.append(f'<rect class="m" x="{left:.2f}" y="{base - 15}" width="{wide}" height="20"/>')
                drawn.append(f'<path class="u" d="M{left:.2f} {base + 5}h{wide}"/>')
            kind = "t" if trained else "c" if text.startswith("<|") else ""
            drawn.append(
                f'<text class="{kind}" x="{left:.2f}" y="{base}" textLength="{wide}" xml:space="preserve">'
                f"{escape(text)}</text>"
            )
            left += wide
    note = f"{num_trained} of {num_tokens} tokens carry loss: the underlined ones. ↵ is a line break of the text."
    drawn.append(f'<text class="s" x="{EDGE}" y="{height - 10}">{note}</text>')
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    inside = "\n".join(drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="t">\n'
        f'<title id="t">{escape(title)}</title>\n<style>{STYLE}</style>\n{inside}\n</svg>\n'
    )


def pictures() -> dict[str, str]:
    """File name within docs/images -> the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_tokenizer(folder)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        drawn = {}
        for file, (title, options, row) in PICTURES.items():
            (example,) = inspect(row, options, folder)
            ids, mask = example["input_ids"], example["loss_mask"]
            drawn[f"trained-{file}.svg"] = draw(title, lines_of(pieces_of(example, tokenizer)), sum(mask), len(ids))
    return drawn


if __name__ == "__main__":
    for name, text in pictures().items():
        (IMAGES / name).write_text(text, encoding="utf-8")
