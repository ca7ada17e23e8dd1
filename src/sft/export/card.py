"""The model card: a README.md that says what the weights are, what they learned from and how to use them."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

CARD_NAME = "README.md"
TRAINING_BEGINS = "<!-- training -->"
TRAINING_ENDS = "<!-- end of training -->"
PACKAGES = ("sft-kit", "torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors")

HUB_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*?)(?:[:\[, (].*)?$")
Kind = Literal["model", "adapter", "merged"]


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """One source of training data, as the card lists it."""

    path: str
    num_examples: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """What a card tells about a training. What is unknown stays out of the card."""

    base_model: str
    """Folder or hub name of the model that was fine-tuned."""

    base_revision: str | None = None
    sources: Sequence[DataSource] = ()
    trained_on: str | None = None
    """Which tokens carried loss, in words or as ``train_on`` names it."""

    chat_template: str | None = None
    """Name or origin of the template that rendered the data."""

    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    """Figures of the run, such as steps, trained tokens and losses."""


def write_card(folder: Path, text: str) -> None:
    """Write the card into a model folder."""
    (folder / CARD_NAME).write_text(text, encoding="utf-8")


def render_card(facts: TrainingFacts, *, kind: Literal["model", "adapter"], name: str) -> str:
    """The card of a trained model or adapter."""
    what = "A LoRA adapter for" if kind == "adapter" else "A fine-tuned version of"
    return (
        "\n\n".join(
            part
            for part in (
                _front_matter(facts.base_model, kind, facts.sources),
                f"# {name}",
                f"{what} `{facts.base_model}`, made with sft-kit.",
                training_section(facts),
                usage_section(kind, facts.base_model),
            )
            if part
        )
        + "\n"
    )


def render_merged_card(
    *, base_model: str, adapter: str, figures: Mapping[str, Any], adapter_card: str | None, name: str
) -> str:
    """The card of a merged model; what the adapter's card says about the training is carried over."""
    training = _training_of(adapter_card) if adapter_card else None
    check = "## Merge\n\nAdapter and merged model were compared on real prompts, the merged one as written to disk.\n\n"
    return (
        "\n\n".join(
            part
            for part in (
                _front_matter(base_model, "merged"),
                f"# {name}",
                f"`{base_model}` with the LoRA adapter `{adapter}` merged into its weights by sft-kit.",
                check + _table(("figure", "value"), figures.items()),
                training,
                usage_section("merged", base_model),
            )
            if part
        )
        + "\n"
    )


def training_section(facts: TrainingFacts) -> str:
    """What the model learned from and how, between markers that a merge looks for."""
    parts = [TRAINING_BEGINS, "## Training"]
    known = {
        "base model": facts.base_model,
        "base revision": facts.base_revision,
        "loss on": facts.trained_on,
        "chat template": facts.chat_template,
        **facts.results,
    }
    parts.append(_table(("what", "value"), [(what, value) for what, value in known.items() if value is not None]))
    if facts.sources:
        rows = [(source.path, source.num_examples, source.sha256) for source in facts.sources]
        parts += ["### Data", _table(("source", "examples", "sha256"), rows)]
    if facts.hyperparameters:
        parts += ["### Hyperparameters", _table(("option", "value"), facts.hyperparameters.items())]
    parts += ["### Versions", _table(("package", "version"), installed_versions().items()), TRAINING_ENDS]
    return "\n\n".join(parts)


def usage_section(kind: Kind, base_model: str) -> str:
    """Commands and code that work in the folder of the card."""
    if kind == "adapter":
        code = (
            "from peft import PeftModel\n"
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f'base = AutoModelForCausalLM.from_pretrained("{base_model}")\n'
            'model = PeftModel.from_pretrained(base, "PATH_OF_THIS_FOLDER")\n'
        )
        merge = f"sft merge --base_model {base_model} --adapter_path PATH_OF_THIS_FOLDER --output_path merged\n"
    else:
        code = (
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            'model = AutoModelForCausalLM.from_pretrained("PATH_OF_THIS_FOLDER")\n'
        )
        merge = ""
    return (
        "## Use\n\n"
        f"```bash\nsft chat --model PATH_OF_THIS_FOLDER\n{merge}```\n\n"
        f"```python\n{code}"
        'tokenizer = AutoTokenizer.from_pretrained("PATH_OF_THIS_FOLDER")\n'
        'messages = [{"role": "user", "content": "Hello"}]\n'
        "prompt = tokenizer.apply_chat_template(\n"
        '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True\n'
        ")\n"
        "answer = model.generate(**prompt, max_new_tokens=200)\n"
        'print(tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))\n```'
    )


def installed_versions() -> dict[str, str]:
    """Python and the packages that took part."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _front_matter(base_model: str, kind: Kind, sources: Sequence[DataSource] = ()) -> str:
    """Metadata the hub reads. What is a local folder or file has no name there, so it is left out."""
    lines = ["---", f"library_name: {'peft' if kind == 'adapter' else 'transformers'}"]
    if (base := _hub_name(base_model)) is not None:
        lines += [f"base_model: {base}", f"base_model_relation: {'adapter' if kind == 'adapter' else 'finetune'}"]
    fetched = [_hub_name(source.path) for source in sources if source.sha256 is None]  # files have their hash
    names = list(dict.fromkeys(name for name in fetched if name is not None))
    if names:
        lines += ["datasets:", *(f"- {name}" for name in names)]
    lines += ["pipeline_tag: text-generation", "tags:", "- sft", "- sft-kit"]
    if kind == "adapter":
        lines.append("- lora")
    return "\n".join([*lines, "---"])


def _hub_name(text: str) -> str | None:
    """OWNER/NAME where it can be one on the hub; a data set's subset and split stand behind it and are left out."""
    name = HUB_NAME.match(text)
    return None if name is None or Path(name[1]).exists() or Path(text).exists() else name[1]


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table without the columns that nothing is known for."""
    filled = [["" if cell is None else _escaped(str(cell)) for cell in row] for row in rows]
    columns = [place for place in range(len(header)) if place == 0 or any(row[place] for row in filled)]
    lines = [[header[place] for place in columns], ["---"] * len(columns)]
    lines += [[row[place] for place in columns] for row in filled]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def _training_of(card: str) -> str | None:
    begin, end = card.find(TRAINING_BEGINS), card.find(TRAINING_ENDS)
    return card[begin : end + len(TRAINING_ENDS)] if 0 <= begin < end else None
