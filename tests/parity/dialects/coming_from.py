"""Writes docs/coming-from.md and the pages of docs/coming-from/: python tests/parity/dialects/coming_from.py

What stands there of a key is what the dialect said of it, in most of the files that its own project ships.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sft.config import RawValue
from sft.dialects import Note, translate

HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[2] / "docs"

OPENING = """\
# Coming from another tool

`sft train FILE` takes the configuration files of other tools as they are; whose they are is found out from their keys.
`sft translate FILE` explains every key first and prints the same configuration in our words, which trains the same
model. Options behind the file are ours and win: `sft train their.yaml --max_length 4096`. Nothing is dropped in
silence: a key is used, passed over with the reason, or refused by name with what to do instead.
"""

CLOSING = """\
Scripts and commands of other projects, kept as their users know them, are in
[recipes/qwen3](../recipes/qwen3/README.md) (`train_sft.py`),
[recipes/accelerate](../recipes/accelerate/README.md) (`accelerate launch sft.py --config`),
[recipes/longbench](../recipes/longbench/README.md) (`train.py`, `run_train.sh`),
[recipes/firefly](../recipes/firefly/README.md) (`train.py --train_args_file`) and
[recipes/llama_factory](../recipes/llama_factory/README.md) (`llamafactory-cli`).

Tables and counts are made from the dialects themselves, by `python tests/parity/dialects/coming_from.py`: each line is
what `sft translate` says of the key, in most of the example files of its own project that have it.
"""

TOOLS: dict[str, tuple[str, str, str]] = {
    "trl": (
        "TRL",
        "trl.jsonl",
        """\
For `trl sft --config FILE`, and the recipes of alignment-handbook and open-r1:

```yaml
# trl.yaml
model_name_or_path: Qwen/Qwen2.5-0.5B
dataset_name: trl-lib/Capybara
learning_rate: 2.0e-4
num_train_epochs: 1
packing: true
use_peft: true
lora_r: 32
lora_alpha: 16
output_dir: output
```

```bash
sft translate trl.yaml     # every key explained
sft train trl.yaml
```

Its command line is understood too: `sft train --dialect trl --model_name_or_path ... --dataset_name ...`.

- TRL trains every token of a conversation unless `assistant_only_loss` is true. Where the file says nothing, only
  answers are trained here; `assistant_only_loss: false` or `train_on: everything` trains them all.
- A row that is too long loses its last turns, not the end of an answer.
- Names of older versions (`torch_dtype`, `max_seq_length`, `warmup_ratio`, ...) are understood.""",
    ),
    "axolotl": (
        "axolotl",
        "axolotl.jsonl",
        """\
For the YAML of `axolotl train FILE`, on text:

```yaml
# axolotl.yaml
base_model: Qwen/Qwen2.5-0.5B
datasets:
  - path: mhenrichsen/alpaca_2k_test
    type: alpaca
val_set_size: 0.05
sequence_len: 2048
sample_packing: true
adapter: lora
lora_r: 16
lora_alpha: 32
lora_target_linear: true
micro_batch_size: 2
gradient_accumulation_steps: 4
num_epochs: 1
learning_rate: 0.0002
output_dir: output
```

```bash
sft translate axolotl.yaml     # every key explained
sft train axolotl.yaml
```

- `type: alpaca`, `alpaca:chat`, `alpaca:phi`, `jeopardy` and prompts of one's own (`format`) are written as there, byte
  for byte, and that template is saved with the model. `type: chat_template` takes the named template, or the
  tokenizer's own. Without a type, rows are token ids with labels.
- Answers and the token that ends each are trained, as `roles_to_train: [assistant]` and `train_on_eos: turn` mean.
- `saves_per_epoch` and `evals_per_epoch` become shares of all steps. `bf16: auto` is `bf16: true`.
- Plugins that make things faster (Liger, CutCrossEntropy, kernels) are passed over; all others are refused.
- EAFT, LISA and ReLoRA are here ([methods.md](../methods.md)). ReLoRA leaves one adapter that fits the original
  weights, not a merged model.""",
    ),
    "llama_factory": (
        "LLaMA-Factory",
        "llama_factory.jsonl",
        """\
For the YAML and JSON of `llamafactory-cli train FILE`:

```yaml
# llama_factory.yaml
model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
stage: sft
do_train: true
finetuning_type: lora
dataset: identity          # a name of data/dataset_info.json
template: qwen
cutoff_len: 2048
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 3.0
output_dir: output
```

```bash
sft translate llama_factory.yaml     # every key explained
sft train llama_factory.yaml
```

Understood too: `key=value` behind the file, its flags
(`sft train --dialect llama_factory --stage sft ...`), and `dataset_info.json` with all its keys. `sft export FILE` does
what `llamafactory-cli export FILE` does. The folder [recipes/llama_factory](../../recipes/llama_factory/README.md) has
both, and the scripts around them.

- What LLaMA-Factory does unasked is done: LoRA of rank 8 with twice that as alpha on every linear layer, `cutoff_len`
  2048, gradient checkpointing, the adapter in `output_dir` itself with `trainer_log.jsonl` and the results beside it.
- A row longer than `cutoff_len` is left out and counted; there, prompts lose their end, where the question stands.
- Packed rows never see each other, with `packing` as with `neat_packing`.
- Columns that `dataset_info.json` does not name stay unread, as there. A system turn that its `tags` forget is read;
  there, such a row is skipped.
- With `template: qwen3` and no thoughts in the answers, the empty thought belongs to the prompt; `enable_thinking:
  true` trains it as part of the answer, which is what happens there unasked.""",
    ),
    "firefly_args": (
        "Firefly",
        "firefly.jsonl",
        """\
For `train.py --train_args_file FILE` with Firefly's JSON files, such as `firefly.json`:

```json
{
  "output_dir": "output",
  "model_name_or_path": "Qwen/Qwen2.5-0.5B",
  "train_file": "dummy_data.jsonl",
  "template_name": "qwen",
  "num_train_epochs": 1,
  "per_device_train_batch_size": 1,
  "gradient_accumulation_steps": 16,
  "learning_rate": 2e-4,
  "max_seq_length": 1024,
  "train_mode": "lora",
  "lora_rank": 64,
  "lora_alpha": 16
}
```

```bash
sft translate firefly.json     # every key explained
sft train firefly.json
```

The folder [recipes/firefly](../../recipes/firefly/README.md) has its script with its arguments, and its files.

- Its templates are here by name, and written as it writes them ([templates.md](../templates.md)).
- `train_mode` `full`, `lora` and `qlora`, and `task_type` `sft`, `pretrain` and `dpo`, mean what they mean there.""",
    ),
}


def pages() -> dict[str, str]:
    """The text of every page, by its name within docs/."""
    lines, tables = [], {}
    for dialect, (title, file, about) in TOOLS.items():
        rows = table(dialect, file)
        name = f"coming-from/{file.removesuffix('.jsonl').replace('_', '-')}.md"
        tables[name] = "\n".join([f"# Coming from {title}", "", about, "", "## Keys", "", *rows, ""])
        lines.append(f"- [{title}]({name}): {len(rows) - 2} keys.")
    return {"coming-from.md": "\n".join([OPENING, *lines, "", CLOSING]), **tables}


def table(dialect: str, file: str) -> list[str]:
    """A line for each key that the shipped files give a value, the most frequent first."""
    said: dict[str, Counter[tuple[str, str, str]]] = defaultdict(Counter)
    for note in notes_of(dialect, file):
        said[note.key][(note.status, note.target or "", note.reason)] += 1
    lines = ["| key | here | |", "|---|---|---|"]
    for key, meanings in sorted(said.items(), key=lambda item: (-item[1].total(), item[0])):
        status, target, reason = most_telling(meanings)
        if status != "refused" and any(other == "refused" for other, _, _ in meanings):
            reason = "; ".join(filter(None, [reason, "some values are refused"]))
        escaped = reason.replace("|", chr(92) + "|")
        lines.append(f"| `{key}` | {called(status, target, key)} | {escaped} |")
    return lines


def most_telling(meanings: Counter[tuple[str, str, str]]) -> tuple[str, str, str]:
    """What is said most often where the key is used; where it never is, what is said most often."""
    used = {said: count for said, count in meanings.items() if said[0] in ("kept", "renamed")}
    passed_over = {said: count for said, count in meanings.items() if said[0] == "ignored"}
    chosen = used or passed_over or dict(meanings)
    return max(chosen, key=lambda said: (chosen[said], said))


def called(status: str, target: str, key: str) -> str:
    if status in ("kept", "renamed"):
        return "the same" if target == key else f"`{target}`"
    return {"ignored": "not used", "refused": "refused"}[status]


def notes_of(dialect: str, file: str) -> Iterator[Note]:
    """What the dialect says of the keys of every shipped file; keys within a list under one name for all entries."""
    entries = map(json.loads, (HERE / file).read_text(encoding="utf-8").splitlines())
    current = [entry["values"] for entry in entries if "/v1/" not in entry["path"]]
    shipped = [values for values in current if values.get("stage", "sft") == "sft"]
    with tempfile.TemporaryDirectory() as folder, within(folder):
        describe_data(shipped)
        for values in shipped:
            given = {key: RawValue(value, "file:1") for key, value in values.items() if value not in (None, "", [], {})}
            seen: set[str] = set()
            for note in translate(given, dialect).notes:
                key = "".join(
                    part.partition("]")[2] if number else part for number, part in enumerate(note.key.split("["))
                )
                if note.origin and key not in seen and not note.reason.startswith("empty"):
                    seen.add(key)
                    yield Note(key, note.status, note.target, note.reason, note.origin)


class within:
    """The current folder, while it lasts."""

    def __init__(self, folder: str) -> None:
        self.folder, self.before = folder, os.getcwd()

    def __enter__(self) -> None:
        os.chdir(self.folder)

    def __exit__(self, *_: object) -> None:
        os.chdir(self.before)


def describe_data(shipped: list[dict[str, Any]]) -> None:
    """LLaMA-Factory looks its data sets up in a file beside them."""
    names = {name.strip() for values in shipped for name in str(values.get("dataset", "")).split(",") if name.strip()}
    os.mkdir("data")
    for name in names:
        Path("data", f"{name}.json").write_text("[]", encoding="utf-8")
    info = {name: {"file_name": f"{name}.json"} for name in sorted(names)}
    Path("data", "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).parent.mkdir(exist_ok=True)
        (DOCS / name).write_text(text, encoding="utf-8")
