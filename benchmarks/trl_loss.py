"""Our loss beside TRL's assistant-only loss, on the same chats, model and template.

    python benchmarks/trl_loss.py [--data FILE.jsonl] [--num_rows N]

TRL finds the trained tokens through ``{% generation %}`` markers in the template; we find them without. Where TRL can
compute the loss, the two must agree in the tokens they train and in the loss per trained token. Needs the extra
``bench`` (`make bench` installs it). The model is random and tiny: the loss is a figure to compare, not a good one.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sft.data.collate import Collator
from sft.data.formats import FORMATS, FormatOptions
from sft.data.render import Renderer
from sft.data.types import Example, Row, Source
from sft.training.loss import summed_loss

ROOT = Path(__file__).resolve().parent.parent
QUICKSTART = ROOT / "examples" / "quickstart"

MARKED_CHATML = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' %}
        {%- generation %}{{- message.content + '<|im_end|>' }}{%- endgeneration %}
    {%- else %}
        {{- message.content + '<|im_end|>' }}
    {%- endif %}
    {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Labelled:
    """One chat as one of the two programs trains it."""

    input_ids: list[int]
    loss_mask: list[int]
    loss: float
    """Nats per trained token."""


@dataclass(frozen=True)
class Measured:
    """What one program makes of some chats."""

    rows: list[Labelled]
    together: float
    """Nats per trained token with all chats in one padded batch."""


def measure_ours(model: Any, tokenizer: Any, chats: Sequence[Messages]) -> Measured:
    """Render, mask, collate and sum as `sft train` does."""
    renderer = Renderer(tokenizer)
    examples = []
    for number, messages in enumerate(chats, 1):
        row = Row({"messages": messages}, Source("benchmark", number, "row"))
        examples += renderer.render(FORMATS["messages"](row, FormatOptions()))
    rows = [
        Labelled(example.input_ids.tolist(), example.loss_mask.tolist(), _loss_of(model, tokenizer, [example]))
        for example in examples
    ]
    return Measured(rows, _loss_of(model, tokenizer, examples))


def _loss_of(model: Any, tokenizer: Any, examples: Sequence[Example]) -> float:
    batch = Collator(tokenizer.pad_token_id, packed=False)([[example] for example in examples])
    with torch.no_grad():
        total, _ = summed_loss(model.get_output_embeddings(), model.eval(), batch)
    return float(total) / float(batch["num_trained"])


def measure_trl(model: Any, tokenizer: Any, chats: Sequence[Messages]) -> Measured:
    """The evaluation loss of ``trl.SFTTrainer`` with ``assistant_only_loss``, by its public interface."""
    from datasets import Dataset, disable_progress_bars
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    disable_progress_bars()

    everything = Dataset.from_list([{"messages": messages} for messages in chats])
    alone = {f"row{number}": everything.select([number]) for number in range(len(chats))}
    with tempfile.TemporaryDirectory() as folder:
        args = SFTConfig(
            output_dir=folder,
            assistant_only_loss=True,
            max_length=None,
            packing=False,
            per_device_eval_batch_size=len(chats),
            use_cpu=True,
            bf16=False,
            report_to="none",
            disable_tqdm=True,
        )
        trainer = SFTTrainer(
            model=model,
            args=args,
            train_dataset=everything,
            eval_dataset={**alone, "together": everything},
            processing_class=tokenizer,
        )
        trainer.remove_callback(PrinterCallback)
        losses = trainer.evaluate()
        labelled = [
            Labelled(
                row["input_ids"], [int(label != -100) for label in row["labels"]], losses[f"eval_row{number}_loss"]
            )
            for number, row in enumerate(trainer.train_dataset)
        ]
        return Measured(labelled, losses["eval_together_loss"])


def tiny_model(tokenizer: Any) -> Any:
    """A random Qwen3 of two layers that knows this tokenizer's ids."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, tie_word_embeddings=True, initializer_range=0.2,
    )  # fmt: skip
    return Qwen3ForCausalLM(config)


def quickstart_tokenizer() -> Any:
    """The tokenizer of the quickstart, so that nothing is downloaded."""
    spec = importlib.util.spec_from_file_location("build_model", QUICKSTART / "build_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.build_tokenizer(module.read_questions(QUICKSTART / "data" / "train.jsonl"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=QUICKSTART / "data" / "train.jsonl", help="rows with messages")
    parser.add_argument("--num_rows", type=int, default=16)
    args = parser.parse_args()
    lines = args.data.read_text(encoding="utf-8").splitlines()[: args.num_rows]
    chats = [json.loads(line)["messages"] for line in lines]
    tokenizer = quickstart_tokenizer()
    tokenizer.chat_template = MARKED_CHATML
    model = tiny_model(tokenizer)
    ours, theirs = measure_ours(model, tokenizer, chats), measure_trl(model, tokenizer, chats)
    print(f"{'row':>4}{'tokens':>8}{'trained':>9}{'ours':>13}{'TRL':>13}{'difference':>13}")
    for number, (one, other) in enumerate(zip(ours.rows, theirs.rows, strict=True), 1):
        same = one.input_ids == other.input_ids and one.loss_mask == other.loss_mask
        print(
            f"{number:>4}{len(one.input_ids):>8}{sum(one.loss_mask):>9}{one.loss:>13.7f}{other.loss:>13.7f}"
            f"{abs(one.loss - other.loss):>13.1e}{'' if same else '   other tokens'}"
        )
    print(f"all in one batch:{'':>4}{ours.together:>13.7f}{theirs.together:>13.7f}"
          f"{abs(ours.together - theirs.together):>13.1e}")  # fmt: skip


if __name__ == "__main__":
    main()
