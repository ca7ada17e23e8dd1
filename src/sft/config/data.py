"""What is read, how it becomes text, and which tokens are trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sft.config.option import option

FORMAT_TYPES = ("alpaca", "sharegpt", "messages", "prompt_completion", "text", "custom", "tokens")
TRAIN_ON = ("answers", "last_answer", "everything")
OVERLONG = ("drop", "cut_start", "cut_end", "error")
COLUMN_NAMES = (
    "prompt", "input", "response", "chosen", "rejected", "system", "history", "messages", "tools", "text", "weight",
)  # fmt: skip
ROLE_MEANINGS = ("system", "user", "assistant", "tool")
TURN_MEANINGS = (*ROLE_MEANINGS, "function_call")


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Sources, format, template, loss mask, length."""

    data_path: str | list[Any] | None = option(
        None,
        "Training data: a file (.json, .jsonl, .csv, .parquet; .gz and .zst too), a folder of such files, or a hub "
        "data set (name or name:subset). A list for several; an entry may be a mapping with path, subset, split, "
        "revision, format_type, columns, weight (2 sees it twice an epoch, 0.5 a random half), limit (most rows "
        "taken, the first) and sample (as many conversations, chosen by seed); docs/data.md has a few more.",
    )
    train_tasks: list[str] = option(
        [],
        "Tasks whose rows are trained on, beside or instead of data_path: all (the 21 subsets of LongBench) or their "
        "names, asked as evaluation asks them.",
    )
    max_train_samples: int | None = option(
        None, "Conversations trained on, a seeded random choice of all. Unset: all.", minimum=1
    )
    allow_contamination: bool = option(
        False, "Keep training rows that overlap with what eval_tasks will ask. The results say so for ever."
    )
    eval_data_path: str | list[Any] | None = option(
        None, "Held-out data for the evaluation loss, written as data_path is."
    )
    validation_size: float = option(
        0.0,
        "Conversations taken out of the training data for the evaluation loss: below 1 a share, from 1 on a count.",
        minimum=0,
    )
    data_split: str = option("train", "Split read from hub data sets, and from folders whose files name one.")
    data_revision: str | None = option(None, "Branch, tag or commit of hub data sets. Unset: their default branch.")
    format_type: str | None = option(
        None, "How rows are written. Unset: found out from the rows, and said.", choices=FORMAT_TYPES
    )
    columns: dict[str, str] = option(
        {},
        "Names of your columns where they differ from the format's own: keys are prompt, input, response, chosen, "
        "rejected, system, history, messages, tools, text, weight; values are column names.",
    )
    role_names: dict[str, str] = option({}, "What roles in your data mean: {bot: assistant}. Added to the usual names.")
    input_separator: str | None = option(
        None,
        "What stands between the instruction and the input of alpaca rows. Unset: an empty line; with "
        "use_chat_template false, 'Input: ' on a line of its own.",
    )
    system_prompt: str | None = option(None, "System message for conversations that have none.")
    deduplicate: bool = option(
        False,
        "Leave out rows that say exactly what an earlier one says, from whatever source, and count them. Training and "
        "evaluation data each by themselves.",
    )
    max_bad_rows: int = option(
        0, "Rows that may be unusable (each counted with its reason) before the run is refused.", minimum=0
    )

    chat_template: str | None = option(
        None,
        "Chat template: a name that sft ships (sft doctor lists them), a .jinja file, or template text; own: the "
        "tokenizer's, an error where it has none. Unset: the tokenizer's own; for a tokenizer without one, chatml. The "
        "choice is saved with the model.",
    )
    use_chat_template: bool = option(
        True, "Render conversations with a chat template. False: plain 'Instruction: / Response:' text."
    )
    chat_template_kwargs: dict[str, Any] = option(
        {}, "Variables handed to the template, such as {enable_thinking: false}. Unset: found out from the data."
    )
    train_on: str = option(
        "answers",
        "Which tokens carry loss: every answer and the token that ends it; the last answer only; or everything.",
        choices=TRAIN_ON,
    )
    rewritten_history: str = option(
        "split",
        "What to do where the template writes earlier answers differently once a later turn follows, so that one "
        "sequence cannot show each answer as it will be generated: train each answer as an example of its own, or "
        "refuse.",
        choices=["split", "refuse"],
    )
    allow_special_tokens: bool = option(
        False, "Let special-token text inside messages act as control tokens. False: it is encoded as plain text."
    )
    append_eos: bool = option(
        False, "Write the end-of-sequence token after the last answer, for templates that end an answer with nothing."
    )

    max_length: int = option(
        2048, "Most tokens in one example, and the length of a packed row.", minimum=2, maximum=1 << 30
    )
    min_length: int = option(
        1,
        "Examples of fewer tokens are left out and counted: such as all that are too short to teach long context.",
        minimum=1,
    )
    overlong: str = option(
        "drop",
        "Examples longer than max_length: drop (counted), cut_start or cut_end (whole turns leave from that side; the "
        "end token stays), or error.",
        choices=OVERLONG,
    )
    packing: bool = option(False, "Put several examples in one row of max_length, isolated from each other.")
    packing_fallback: str = option(
        "refuse",
        "With packing, where layers of the model would let packed examples see each other (state-space models, linear "
        "attention): refuse the run, or by_length: batches of max_length times per_device_train_batch_size tokens of "
        "examples of about the same length, each in a row of its own.",
        choices=["refuse", "by_length"],
    )

    cache_dir: str | None = option(
        None, "Where prepared data is kept. Unset: $SFT_CACHE_DIR, else sft-kit in the user's cache folder."
    )
    overwrite_cache: bool = option(False, "Prepare the data anew even if the cache holds it.")
    stream_preparation: bool = option(
        False,
        "Begin to train when the first stream_window examples are prepared; a process of its own prepares the rest "
        "meanwhile. Needs max_steps. Rows are then packed and put in random order within windows of neighbouring "
        "examples, windows as the data has them; the result is the same whether data are prepared already or not.",
    )
    stream_window: int = option(
        16_384, "With stream_preparation: examples that are packed and put in random order together.", minimum=1
    )
    preparation_workers: int | None = option(
        None,
        "Processes that prepare files of JSON lines of more than 32 MB. The result is the same whatever their number. "
        "Unset: one for each core up to 8; on two cores none beside the command itself.",
        minimum=1,
    )
