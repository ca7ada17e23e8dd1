"""What an export adds to a finished model folder: a chat template where there is none, and Ollama's Modelfile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
from transformers import GenerationConfig

from sft.export.gguf import write_gguf
from sft.export.ollama import NAME, Messages, NotExpressible, modelfile_for
from sft.export.save import save_tokenizer
from sft.generation.stop_tokens import as_token_ids
from sft.models.tokenizer import choose_template, read_tokenizer


def add_template(folder: Path, template: str | None, *, trust_remote_code: bool = False) -> list[str]:
    """Give the tokenizer a chat template if it has none; notes on what became of the name.

    Raises:
        ConfigError, ModelError: there is no such template, or the tokenizer lacks its tokens.
    """
    tokenizer = read_tokenizer(str(folder), trust_remote_code=trust_remote_code)
    if template is None:
        return []
    own = tokenizer.chat_template
    choose_template(tokenizer, template)
    if own is None:
        save_tokenizer(tokenizer, folder)
    elif not str(own).endswith(tokenizer.chat_template):  # variables with their defaults may stand before it
        return [f"template {template}: the model's chat template is another, which was saved with it and stays"]
    return []


def write_modelfile(folder: Path, *, trust_remote_code: bool = False, weights: str = ".") -> list[str]:
    """Write the Modelfile over the folder's weights, or a GGUF file in it; or say in a note why there can be none."""
    tokenizer = read_tokenizer(str(folder), trust_remote_code=trust_remote_code)
    if tokenizer.chat_template is None:
        return [f"no {NAME} for Ollama: the model has no chat template"]

    def write(messages: Messages, is_asked: bool) -> str:
        try:
            return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=is_asked))
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise ValueError(str(error).splitlines()[0]) from error

    try:
        text = modelfile_for(
            write,
            bos=tokenizer.bos_token or "",
            stops=stop_texts(folder, tokenizer),
            context=context_of(folder),
            weights=weights,
        )
    except NotExpressible as reason:
        return [f"no {NAME} for Ollama: its words cannot say this chat template, because {reason}"]
    (folder / NAME).write_text(text, encoding="utf-8")
    return []


def hand_over(folder: Path, *, gguf: str | None, converter: Path | None, trust_remote_code: bool = False) -> list[str]:
    """Add what llama.cpp and Ollama read: a GGUF file of that kind, if one is asked for, and the Modelfile; notes."""
    weights, notes = ".", []
    if gguf is not None and converter is not None:
        file = write_gguf(folder, gguf, converter)
        weights = f"./{file.name}"
        notes.append(f"for llama.cpp: {file}")
    return [*notes, *write_modelfile(folder, trust_remote_code=trust_remote_code, weights=weights)]


def stop_texts(folder: Path, tokenizer: Any) -> list[str]:
    """The tokens that end an answer, as text."""
    config = GenerationConfig.from_pretrained(folder)
    ids = as_token_ids(config.eos_token_id) or as_token_ids(tokenizer.eos_token_id)
    return [str(tokenizer.convert_ids_to_tokens(token)) for token in ids]


def context_of(folder: Path) -> int | None:
    """Longest text of the model in tokens, where its config says so."""
    found = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("max_position_embeddings")
    return found if isinstance(found, int) else None
