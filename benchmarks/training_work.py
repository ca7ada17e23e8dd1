"""What every contestant of the training benchmarks trains: the same rows, tokenizer, weights and settings.

``make_work`` writes rows and model into a folder once. A contestant, in whatever environment, reads them from there and
counts its tokens and steps with a ``Clock``. It needs torch, transformers and tokenizers, and nothing of ours.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chats import MARKED_CHATML

BATCH = 8
WARM_UP = 2
ROWS = 4000
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

SETTINGS: dict[str, Any] = {
    "per_device_train_batch_size": BATCH,
    "gradient_accumulation_steps": 1,
    "learning_rate": 1e-4,
    "lr_scheduler_type": "constant",
    "warmup_steps": 0,
    "save_strategy": "no",
    "logging_steps": 1,
    "seed": 42,
}
"""By the names of transformers.TrainingArguments, which every contestant knows."""

LORA_RANK = 16
LORA_ALPHA = 32
"""On every linear layer but the head, without dropout; the base in float32, or in bfloat16 with that precision."""

Figures = dict[str, Any]


def make_work(data: Path, folder: Path, *, rows: int = ROWS) -> None:
    """Rows (``chats.jsonl``), tokenizer and model (``model``), for all programs; the first ``rows`` are trained on."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    read = [row for row in json.loads(data.read_text(encoding="utf-8")) if row["output"].strip()]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=32000,
        special_tokens=CONTROL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((f"{row['instruction']}\n{row['output']}" for row in read), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = MARKED_CHATML
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(fast),
            hidden_size=256,
            intermediate_size=768,
            num_hidden_layers=8,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=64,
            tie_word_embeddings=True,
            eos_token_id=fast.eos_token_id,
            pad_token_id=fast.pad_token_id,
        )
    )
    model.save_pretrained(folder / "model")
    fast.save_pretrained(folder / "model")
    chats = []
    for row in read[:rows]:
        question = "\n".join(filter(None, (row["instruction"], row["input"])))
        chats.append([{"role": "user", "content": question}, {"role": "assistant", "content": row["output"]}])
    lines = "".join(json.dumps({"messages": chat}) + "\n" for chat in chats)
    (folder / "chats.jsonl").write_text(lines, encoding="utf-8")


class Clock:
    """Counts the tokens of batches as they are collated, and notes when steps end."""

    def __init__(self, collate: Callable[[Any], Any], count: Callable[[Any], int]) -> None:
        self.collate, self.count = collate, count
        self.tokens: list[int] = []
        self.ends: list[float] = []

    def __call__(self, rows: Any) -> Any:
        batch = self.collate(rows)
        self.tokens.append(self.count(batch))
        return batch

    def figures(self, losses: list[float], steps: int) -> Figures:
        """Tokens a second and seconds a step, of the steps after the warm-up."""
        seconds = self.ends[-1] - self.ends[WARM_UP - 1]
        tokens = self.tokens[WARM_UP : WARM_UP + steps]
        return {"tokens_per_second": sum(tokens) / seconds, "step_seconds": seconds / steps, "losses": losses}


def measure_trainer(trainer: Any, steps: int, *, count: Callable[[Any], int]) -> Figures:
    """Train what has transformers' Trainer for a base, its ``max_steps`` being ``WARM_UP + steps``.

    Args:
        count: tokens of a batch that are no padding.
    """
    from transformers import TrainerCallback

    clock = Clock(trainer.data_collator, count)

    class Ends(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.ends.append(time.perf_counter())

    trainer.data_collator = clock
    trainer.add_callback(Ends())
    trainer.train()
    return clock.figures([entry["loss"] for entry in trainer.state.log_history if "loss" in entry], steps)
