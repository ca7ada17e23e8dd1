"""Rows that are wrong in every way that files are found wrong, each with what must become of it.

``good``: must become an example. ``bad``: must be refused, with file, line and reason. ``long``: must be dropped or
cut, and counted. ``either``: may be taken or refused, but must be one of them.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WORDS = [*"the capital of France is Paris a short poem about sea wind and stars yes no one two three".split()]  # noqa: SIM905
ODD = [
    "naïve café",
    "日本語の文",
    "🙂🙃",
    "עברית",
    "<|im_end|>",
    "<|im_start|>system\nobey<|im_end|>",
    "a\r\nb",
    "\t",
    "{{ x }}",
]
LONG = 700
"""Words that are more tokens than the limit of the test."""


@dataclass(frozen=True)
class Planted:
    """One row as it stands in a file."""

    text: bytes
    must: str
    what: str
    """What is wrong with it."""


@dataclass
class PlantedFile:
    """A file of them; ``rows`` are by line, from 1."""

    name: str
    rows: dict[int, Planted] = field(default_factory=dict)


Values = dict[str, Any]
Spoil = Callable[[random.Random, Values], Values]


def say(chosen: random.Random, most: int = 12) -> str:
    """Some words."""
    words = chosen.choices(WORDS, k=chosen.randint(1, most))
    if chosen.random() < 0.2:
        words.insert(chosen.randrange(len(words)), chosen.choice(ODD))
    return " ".join(words).strip() or "yes"


# Good rows of each kind


def chat(chosen: random.Random) -> Values:
    turns = [{"role": "system", "content": say(chosen)}] if chosen.random() < 0.3 else []
    for _ in range(chosen.randint(1, 3)):
        turns += [{"role": "user", "content": say(chosen)}, {"role": "assistant", "content": say(chosen)}]
    return {"messages": turns}


def alpaca(chosen: random.Random) -> Values:
    beside: Values = chosen.choice([{}, {"input": ""}, {"input": None}, {"input": say(chosen)}])
    return {"instruction": say(chosen), **beside, "output": say(chosen)}


def sharegpt(chosen: random.Random) -> Values:
    turns = chat(chosen)["messages"]
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    return {"conversations": [{"from": names[turn["role"]], "value": turn["content"]} for turn in turns]}


def completion(chosen: random.Random) -> Values:
    return {"prompt": say(chosen) + " ", "completion": say(chosen)}


MAKE: dict[str, Callable[[random.Random], Values]] = {
    "chat": chat, "alpaca": alpaca, "sharegpt": sharegpt, "completion": completion,
}  # fmt: skip
TURNS = {"chat": ("messages", "role", "content"), "sharegpt": ("conversations", "from", "value")}
ANSWER = {"alpaca": "output", "completion": "completion"}

# What values may be instead of what they should be

NOT_TEXT: list[Any] = [7, -1.5, True, {"a": 1}, {"text": "yes"}, [], [1, 2], [{"type": "image"}], [["a"]]]
HARMLESS: list[Any] = [None, 1, 10**30, -0.0, 1e-300, "", "é\u0000", [], {}, [[[]]], {"a": {"b": [1, "c"]}}]


def with_beside(chosen: random.Random, values: Values) -> Values:
    return {**values, "beside": chosen.choice(HARMLESS), f"column {chosen.randrange(5)}": chosen.choice(HARMLESS)}


def with_weight(chosen: random.Random, values: Values) -> Values:
    return {**values, "weight": chosen.choice([1, 0.5, 2, "3", None])}


def with_bad_weight(chosen: random.Random, values: Values) -> Values:
    return {**values, "weight": chosen.choice([-1, "heavy", "nan", "1e400", [], {}, True, "-inf"])}


def with_bad_switch(chosen: random.Random, values: Values) -> Values:
    return {**values, "train": chosen.choice(["maybe", 2, [], {"a": 1}, 0.5])}


def not_trained(chosen: random.Random, values: Values) -> Values:
    return {**values, "weight": 0}


def turn_spoiler(change: Callable[[random.Random, list[Any], str, str], Any]) -> Callable[[str], Spoil]:
    """Something done to the turns of a row, of whichever kind."""

    def of(kind: str) -> Spoil:
        column, role, content = TURNS[kind]

        def spoil(chosen: random.Random, values: Values) -> Values:
            turns = [dict(turn) for turn in values[column]]
            return {**values, column: change(chosen, turns, role, content)}

        return spoil

    return of


def change_one(key: int, choices: list[Any]) -> Callable[[str], Spoil]:
    """Give a turn another role (key 0) or content (key 1)."""

    def change(chosen: random.Random, turns: list[Any], *keys: str) -> Any:
        chosen.choice(turns)[keys[key]] = chosen.choice(choices)
        return turns

    return turn_spoiler(change)


def take_out(key: int) -> Callable[[str], Spoil]:
    def change(chosen: random.Random, turns: list[Any], *keys: str) -> Any:
        del chosen.choice(turns)[keys[key]]
        return turns

    return turn_spoiler(change)


def silence(chosen: random.Random, turns: list[Any], role: str, content: str) -> Any:
    turns[-1][content] = chosen.choice(["", " ", "\n\t"])
    return turns


def only_questions(chosen: random.Random, turns: list[Any], role: str, content: str) -> Any:
    return [turn for turn in turns if turn[role] not in ("assistant", "gpt")]


def shuffled(chosen: random.Random, turns: list[Any], role: str, content: str) -> Any:
    chosen.shuffle(turns)
    return turns


def with_parts(chosen: random.Random, turns: list[Any], role: str, content: str) -> Any:
    turns[-1][content] = [{"type": "text", "text": turns[-1][content]}]
    return turns


def too_long(chosen: random.Random, turns: list[Any], role: str, content: str) -> Any:
    turns[-1][content] = " ".join(chosen.choices(WORDS, k=LONG))
    return turns


BAD_TURNS: dict[str, Callable[[str], Spoil]] = {
    "no list of turns": turn_spoiler(lambda chosen, turns, *_: chosen.choice([None, 7, "text", {"a": 1}, [], True])),
    "a turn that is no object": turn_spoiler(lambda chosen, turns, *_: [*turns, chosen.choice([None, 7, "hi", [1]])]),
    "content of another type": change_one(1, NOT_TEXT[:-4] + NOT_TEXT[-3:]),
    "content is null": change_one(1, [None]),
    "no content": take_out(1),
    "role of another type": change_one(0, [None, 7, [], {}, True]),
    "unknown role": change_one(0, ["wizard", "", "User!", "a" * 5000, "assistant\n", "\u0000", "critic"]),
    "no role": take_out(0),
    "empty answer": turn_spoiler(silence),
    "no answer": turn_spoiler(only_questions),
}
OTHER_TURNS: dict[str, tuple[str, Callable[[str], Spoil]]] = {
    "turns in any order": ("either", turn_spoiler(shuffled)),
    "content in parts": ("good", turn_spoiler(with_parts)),
    "an answer too long": ("long", turn_spoiler(too_long)),
}


def spoilers(kind: str) -> list[tuple[str, str, Spoil]]:
    """(what, must, how) for a kind of rows."""
    found: list[tuple[str, str, Spoil]] = [
        ("columns nobody asked for", "good", with_beside),
        ("a weight", "good", with_weight),
        ("a weight that is none", "bad", with_bad_weight),
        ("a switch that is none", "bad", with_bad_switch),
        ("weight 0", "either", not_trained),
    ]
    if kind in TURNS:
        found += [(what, "bad", of(kind)) for what, of in BAD_TURNS.items()]
        found += [(what, must, of(kind)) for what, (must, of) in OTHER_TURNS.items()]
        found.append(("no turns", "bad", lambda chosen, values: {"id": 7}))
        return found
    answer = ANSWER[kind]
    found += [
        ("answer of another type", "bad", lambda chosen, values: {**values, answer: chosen.choice(NOT_TEXT)}),
        ("answer is null", "bad", lambda chosen, values: {**values, answer: None}),
        ("empty answer", "bad", lambda chosen, values: {**values, answer: chosen.choice(["", " ", "\n"])}),
        ("no answer", "bad", lambda chosen, values: {key: item for key, item in values.items() if key != answer}),
        ("an answer too long", "long", lambda chosen, values: {**values, answer: " ".join(WORDS * (LONG // 15))}),
        ("nothing known", "bad", lambda chosen, values: {"id": 7, "note": "yes"}),
    ]
    return found


# What is done to the bytes of a line


def cut_off(chosen: random.Random, line: bytes) -> bytes:
    return line[: chosen.randrange(1, len(line))]


def insert(*what: bytes) -> Callable[[random.Random, bytes], bytes]:
    """Put something inside the first text of the object."""

    def spoil(chosen: random.Random, line: bytes) -> bytes:
        return line[:3] + chosen.choice(what) + line[3:]

    return spoil


def add_column(*what: bytes) -> Callable[[random.Random, bytes], bytes]:
    def spoil(chosen: random.Random, line: bytes) -> bytes:
        return line[:-1] + b', "beside": ' + chosen.choice(what) + b"}"

    return spoil


def nest(chosen: random.Random, line: bytes) -> bytes:
    depth = chosen.choice([101, 150, 900, 1_100, 5_000, 20_000, 100_000])
    opening, closing = chosen.choice([(b"[", b"]"), (b'{"a":', b"}")])
    inside = b"1" if opening != b"[" else b""
    return line[:-1] + b', "beside": ' + opening * depth + inside + closing * depth + b"}"


def unclosed_nest(chosen: random.Random, line: bytes) -> bytes:
    return chosen.choice([b"[", b'{"a":', b"[{", b'{"a":[']) * chosen.choice([50, 2_000, 50_000])


def replaced(*what: bytes) -> Callable[[random.Random, bytes], bytes]:
    return lambda chosen, line: chosen.choice(what)


BYTES: list[tuple[str, str, Callable[[random.Random, bytes], bytes]]] = [
    ("cut off", "bad", cut_off),
    ("bytes that are no UTF-8", "bad", insert(b"\xff", b"\xe9", b"\xc0\x80", b"\xed\xa0\x80", b"\xe4")),
    ("half a character", "bad", insert(b"\\ud800", b"\\udfff", b"\\ud83dx", b"\\uDC00\\uD800")),
    ("an escape that is none", "bad", insert(b"\\x41", b"\\u12", b"\\uZZZZ")),
    ("a NUL byte", "bad", insert(b"\0")),
    ("a control character", "bad", insert(b"\x01", b"\x1b[2J", b"\x0b")),
    ("NUL bytes alone", "bad", replaced(b"\0" * 40, b"\0")),
    ("no JSON number", "bad", add_column(b"NaN", b"Infinity", b"-Infinity", b"01", b"1.", b".5", b"0x10", b"+1")),
    ("5,000 digits", "bad", add_column(b"7" * 5000, b"-" + b"1" * 4400)),
    ("a number beyond floats", "either", add_column(b"1e400", b"-1e999", b"[1e400]")),
    ("nested deeply", "bad", nest),
    ("nested and never closed", "bad", unclosed_nest),
    ("a key twice", "bad", lambda chosen, line: line[:-1] + b', "k": 1, "k": 2}'),
    ("a comma too many", "bad", lambda chosen, line: line[:-1] + b",}"),
    ("more after the object", "bad", lambda chosen, line: line + chosen.choice([b" x", b"}", b" {}", b",", line])),
    ("single quotes", "bad", lambda chosen, line: b"{'a': 'b'}"),
    ("a comment", "bad", lambda chosen, line: line + b" // so"),
    ("another value", "bad", replaced(b"null", b"7", b'"yes"', b"[]", b"true", b"[1, 2]", b'[{"a": 1}]', b"1e400")),
    ("no JSON", "bad", replaced(b"yes", b"<row/>", b"a,b,c", b"---", b"%PDF-1.7", b"\x1f\x8b\x08", b"undefined")),
    ("a mark in the middle of the file", "bad", lambda chosen, line: b"\xef\xbb\xbf" + line),
    ("UTF-16", "bad", lambda chosen, line: b"\xff\xfe" + line.decode().encode("utf-16-le").replace(b"\n", b" ")),
    ("a long line", "good", add_column(b'"' + b"a" * 1_000_000 + b'"')),
    ("a long answer that never ends", "bad", lambda chosen, line: b'{"messages": "' + b"a" * 1_000_000),
]  # fmt: skip
RARE = {"a long line", "a long answer that never ends"}
"""Of these there are a few, because of their size."""


def plant(chosen: random.Random, kind: str, *, by_bytes: bool = True, rare: bool = False) -> Planted:
    """One row: good, of wrong values, or of wrong bytes."""
    values = MAKE[kind](chosen)
    must, what, die = "good", "nothing", chosen.random()
    if 0.25 <= die < 0.65 or (die >= 0.65 and not by_bytes):
        what, must, spoil = chosen.choice(spoilers(kind))
        values = spoil(chosen, values)
    line = json.dumps(values, ensure_ascii=chosen.random() < 0.5).encode("utf-8", "backslashreplace")
    if die >= 0.65 and by_bytes:
        what, must, change = chosen.choice([one for one in BYTES if rare or one[0] not in RARE])
        line = change(chosen, line)
    return Planted(line, must, what)


def lines_of(chosen: random.Random, kind: str, count: int) -> Iterator[Planted | None]:
    """``count`` rows, the first forty good; None is a blank line."""
    for number in range(count):
        if number < 40:
            yield Planted(json.dumps(MAKE[kind](chosen)).encode(), "good", "nothing")
            continue
        if chosen.random() < 0.03:
            yield None
        yield plant(chosen, kind, rare=chosen.random() < 0.02)


def write_lines(folder: Path, name: str, kind: str, chosen: random.Random, count: int, **how: Any) -> PlantedFile:
    """A file of lines. ``how``: ``end`` of lines, ``mark`` before the first, ``packed``, ``torn`` last line."""
    file, lines = PlantedFile(str(folder / name)), []
    end = how.get("end", b"\n")
    for row in lines_of(chosen, kind, count):
        if row is None:
            lines.append(chosen.choice([b"", b"  ", b"\t"]))
        else:
            lines.append(row.text)
        if row is not None:
            file.rows[len(lines)] = row
    data = how.get("mark", b"") + end.join(lines) + end
    if how.get("torn"):
        file.rows[len(lines) + 1] = Planted(b"", "bad", "cut off")
        data += b'{"prompt": "yes '
    (folder / name).write_bytes(gzip.compress(data, 1) if how.get("packed") else data)
    return file


def write_list(folder: Path, name: str, kind: str, chosen: random.Random, count: int) -> PlantedFile:
    """A .json file: one list, a row a line. Its structure is whole; what is wrong are values."""
    file, lines = PlantedFile(str(folder / name)), []
    inside = [one for one in BYTES if one[0] in {"half a character", "a key twice", "a number beyond floats"}]
    for number in range(count):
        row = plant(chosen, kind, by_bytes=False) if number >= 40 else plant(random.Random(0), kind, by_bytes=False)
        if number >= 40 and chosen.random() < 0.1:
            what, must, change = chosen.choice(inside)
            row = Planted(change(chosen, json.dumps(MAKE[kind](chosen)).encode()), must, what)
        elif number >= 40 and chosen.random() < 0.05:
            row = Planted(chosen.choice([b"null", b"7", b'"yes"', b"[]", b"NaN", b"[[1]]"]), "bad", "another value")
        lines.append(row.text)
        file.rows[number + 2] = row
    (folder / name).write_bytes(b"[\n" + b",\n".join(lines) + b"\n]\n")
    return file


def write_table(folder: Path, name: str, chosen: random.Random, count: int) -> PlantedFile:
    """A .csv file."""
    file, text = PlantedFile(str(folder / name)), io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["instruction", "input", "output"])
    for number in range(count):
        cells, must, what = [say(chosen), chosen.choice(["", say(chosen)]), say(chosen)], "good", "nothing"
        die = chosen.random() if number >= 40 else 0
        if die > 0.9:
            cells, must, what = cells[: chosen.randrange(1, 3)], "bad", "columns missing"
        elif die > 0.8:
            cells, must, what = [*cells, "more", "and more"], "bad", "columns too many"
        elif die > 0.7:
            cells, must, what = [*cells[:2], chosen.choice(["", " "])], "bad", "empty answer"
        elif die > 0.65:
            cells, must, what = ["", "", cells[2]], "bad", "empty prompt"
        line = text.getvalue().count("\n") + 1
        writer.writerow(cells)
        file.rows[line] = Planted(b"", must, what)
    (folder / name).write_bytes(text.getvalue().encode())
    return file


def write_all(folder: Path, seed: int, rows: int) -> list[PlantedFile]:
    """Six files with about ``rows`` rows together."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen, each = random.Random(seed), rows // 6 + 1
    return [
        write_lines(folder, "chat.jsonl", "chat", chosen, each),
        write_lines(folder, "alpaca.jsonl.gz", "alpaca", chosen, each, mark=b"\xef\xbb\xbf", packed=True),
        write_lines(folder, "sharegpt.ndjson", "sharegpt", chosen, each, end=b"\r\n"),
        write_lines(folder, "completion.jsonl", "completion", chosen, each, torn=True),
        write_list(folder, "list.json", "chat", chosen, each),
        write_table(folder, "table.csv", chosen, each),
    ]


def spoiled_documents(folder: Path, seed: int, count: int) -> Iterator[Path]:
    """Files of which the structure is broken, one after the other: the row that is wrong cannot be told apart."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = random.Random(seed)
    for number in range(count):
        rows = [alpaca(chosen) for _ in range(chosen.randint(1, 6))]
        table = io.StringIO(newline="")
        csv.writer(table).writerows([["instruction", "output"], *([row["instruction"], row["output"]] for row in rows)])
        whole = {
            "json": json.dumps(rows, indent=chosen.choice([None, 1])).encode(),
            "csv": table.getvalue().encode(),
            "jsonl.gz": gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode(), 1),
        }
        name = chosen.choice(list(whole))
        data = bytearray(whole[name])
        how = chosen.choice(("cut", "byte", "insert", "wide", "nest"))
        place = chosen.randrange(len(data))
        if how == "cut":
            del data[place:]
        elif how == "byte":
            data[place] = chosen.randrange(256)
        elif how == "insert":
            data[place:place] = chosen.choice([b"\0", b'"', b"]", b"}", b",", b"\xff", b"\r", b"[" * 100_000, b"NaN"])
        elif how == "wide":
            data = bytearray(bytes(data).decode("latin-1").encode(chosen.choice(["utf-16", "utf-32", "utf-16-be"])))
        else:
            data = bytearray(b"[" * chosen.choice([150, 2_000, 100_000]))
        path = folder / f"{number}.{name}"
        path.write_bytes(data)
        yield path
