"""Answers in slots beside `transformers` generate in file order, on the same prompts, model and number of rows.

    python benchmarks/generation.py [--num_prompts N] [--rows N] [--rounds N] [--threads N]

Each round runs both, one after the other, so that a busy machine slows both. The models are random, of two sizes; a set
of stop tokens that such a model comes upon now and then ends its answers, after any number of tokens up to the limit.
The answers of both must be the same, token by token. The check that a model can answer in slots runs once per model,
before the rounds, and stands in a line of its own.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from rounds import OURS, Result, publish, versions_of

from sft.generation import Sampling
from sft.generation.in_process import complete


class Numerals:
    """Token ids as text, one word each: all of a tokenizer that generation needs."""

    pad_token_id = 0
    eos_token_id = None

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return " ".join(map(str, ids))


@dataclass(frozen=True)
class Shape:
    """A random model, and how often it stops."""

    name: str
    make: Callable[[], Any]
    stop_every: int
    """One of so many token ids ends an answer."""


@dataclass(frozen=True)
class Workload:
    """What both are asked."""

    prompts: list[list[int]]
    stops: list[int]
    rows: int
    max_new_tokens: int


def stories_model() -> Any:
    """The shape of the 260K-parameter story teller."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=172, num_hidden_layers=5, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=1024, initializer_range=0.3,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


def qwen_model() -> Any:
    """Eight layers of 256, a vocabulary of 8,192: 11 million parameters."""
    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        vocab_size=8192, hidden_size=256, intermediate_size=768, num_hidden_layers=8, num_attention_heads=4,
        num_key_value_heads=2, head_dim=64, max_position_embeddings=1024, tie_word_embeddings=True,
        initializer_range=0.1, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return transformers.Qwen3ForCausalLM(config).eval()


SHAPES = (Shape("Llama 5 x 64", stories_model, 64), Shape("Qwen3 8 x 256", qwen_model, 64))


def make_workload(vocabulary: int, stop_every: int, num_prompts: int, rows: int) -> Workload:
    """Prompts of 8 to 400 tokens, in random order, short ones more often."""
    generator = torch.Generator().manual_seed(1)
    lengths = (8 * 50 ** torch.rand(num_prompts, generator=generator)).long()
    prompts = [torch.randint(1, vocabulary, (int(length),), generator=generator).tolist() for length in lengths]
    stops = torch.randperm(vocabulary - 1, generator=generator)[: vocabulary // stop_every] + 1
    return Workload(prompts, sorted(stops.tolist()), rows, 256)


def ours(model: Any, work: Workload) -> list[str]:
    """As `sft` evaluates."""
    sampling = Sampling(max_new_tokens=work.max_new_tokens, stop_token_ids=tuple(work.stops))
    completions = complete(model, Numerals(), work.prompts, sampling, max_rows=work.rows, max_batch_tokens=10**6)
    return [completion.text for completion in completions]


def theirs(model: Any, work: Workload) -> list[str]:
    """`model.generate` over the file, so many prompts at a time, padded on the left."""
    texts = []
    for start in range(0, len(work.prompts), work.rows):
        rows = work.prompts[start : start + work.rows]
        width = max(map(len, rows))
        input_ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        output = model.generate(
            input_ids=input_ids,
            attention_mask=mask,
            max_new_tokens=work.max_new_tokens,
            do_sample=False,
            eos_token_id=work.stops,
            pad_token_id=0,
        )
        texts += [_answer(tokens, work.stops) for tokens in output[:, width:].tolist()]
    return texts


def _answer(tokens: list[int], stops: Sequence[int]) -> str:
    end = next((place for place, token in enumerate(tokens) if token in set(stops)), len(tokens))
    return Numerals().decode(tokens[:end])


@dataclass(frozen=True)
class Timed:
    """One run."""

    seconds: float
    cpu_seconds: float
    """Of this process, all threads: what neighbours on a busy machine take does not count."""

    texts: list[str]


def timed(run: Callable[[Any, Workload], list[str]], model: Any, work: Workload) -> Timed:
    """Run one of the two."""
    start, cpu_start = time.perf_counter(), time.process_time()
    with torch.no_grad():
        texts = run(model, work)
    return Timed(time.perf_counter() - start, time.process_time() - cpu_start, texts)


def measure(shape: Shape, num_prompts: int, rows: int, rounds: int) -> Result:
    """Run the rounds, print them, and return what ``publish`` takes."""
    model = shape.make()
    work = make_workload(model.config.vocab_size, shape.stop_every, num_prompts, rows)
    warm = Workload(work.prompts[:8], work.stops, rows, 2)
    timed(theirs, model, warm)
    with_check = timed(ours, model, warm).cpu_seconds
    check = with_check - timed(ours, model, warm).cpu_seconds
    runs = [(timed(theirs, model, work), timed(ours, model, work)) for _ in range(rounds)]
    same = sum(one == other for first, second in runs for one, other in zip(first.texts, second.texts, strict=True))
    lengths, prompt_lengths = [len(text.split()) for text in runs[0][0].texts], [len(ids) for ids in work.prompts]
    mean, median = statistics.mean(lengths), statistics.median(lengths)
    cut = sum(length == work.max_new_tokens for length in lengths)
    print(
        f"\n{shape.name}: {num_prompts} prompts of {min(prompt_lengths)} to {max(prompt_lengths)} tokens, {rows} rows; "
        f"answers of {mean:.0f} tokens in the mean, {median:.0f} in the median, {cut} cut at {work.max_new_tokens}\n"
        f"  equal answers: {same} of {num_prompts * rounds}; the check, once per model: {check:.2f} s\n"
        f"  {'':<22}{'s':>8}{'CPU s':>8}{'samples/s':>11}{'tokens/s':>10}    s in all rounds"
    )
    for name, measured in zip(("generate, file order", "ours, in slots"), zip(*runs, strict=True), strict=True):
        seconds = statistics.median(run.seconds for run in measured)
        cpu_seconds = statistics.median(run.cpu_seconds for run in measured)
        rates = f"{num_prompts / seconds:>11.1f}{sum(lengths) / seconds:>10.0f}"
        rounds_shown = "  ".join(f"{run.seconds:.2f}" for run in measured)
        print(f"  {name:<22}{seconds:>8.2f}{cpu_seconds:>8.2f}{rates}    {rounds_shown}")
    print_ratios("s", [first.seconds / second.seconds for first, second in runs])
    print_ratios("CPU s", [first.cpu_seconds / second.cpu_seconds for first, second in runs])
    versions = versions_of(OURS)
    measured = {
        name: [
            {
                "seconds": run.seconds,
                "samples_per_second": num_prompts / run.seconds,
                "tokens_per_second": sum(lengths) / run.seconds,
                "versions": versions,
            }
            for run in found
        ]
        for name, found in zip(("transformers generate, file order", "ours"), zip(*runs, strict=True), strict=True)
    }
    different = num_prompts * rounds - same
    return {
        "measured": dict(reversed(measured.items())),
        "skipped": {},
        "rounds": rounds,
        "load_before_each": [],
        "disagree": {"ours": f"{different} answers differ"} if different else {},
    }


def print_ratios(of: str, ratios: Sequence[float]) -> None:
    """The middle one, and how far they spread."""
    print(f"  ratio in {of}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_prompts", type=int, default=96)
    parser.add_argument("--rows", type=int, default=16, help="prompts answered at once, by both")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="1 where others use the machine too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}, "
        f"threads: {args.threads}, float32, greedy",
        flush=True,
    )
    about = {"prompts": args.num_prompts, "rows": args.rows, "threads": args.threads}
    parts: dict[str, Result] = {}
    for shape in SHAPES:
        parts[shape.name] = measure(shape, args.num_prompts, args.rows, args.rounds)
        publish("generation", about=about, parts=parts)


if __name__ == "__main__":
    main()
