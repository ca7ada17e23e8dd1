"""Which tokenizer, which chat template, which pad token. All three are saved with the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sft.config import SFTConfig
from sft.data.template_limits import limit_chat_templates
from sft.data.templates import begins_as_the_tokenizer_does, needed_tokens, read_template, with_bos
from sft.errors import ModelError
from sft.models.added_tokens import add_tokens
from sft.models.brought_code import refuse_brought_code

PAD_NAMES = ("<pad>", "<|pad|>", "[PAD]", "<|padding|>", "<PAD>", "<|finetune_right_pad_id|>")
EOS_NAMES = ("<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>", "<|eot_id|>", "<|im_end|>")
OWN = "own"
CHATML_TOKENS = frozenset({"<|im_start|>", "<|im_end|>"})
ANSWER = "\ue000"
UNDEMANDING = ("default", "alpaca", "instruction", "vicuna", "zephyr")
"""Templates that need no token but ``eos_token``."""

_ORIGIN = "_sft_template_origin"


def load_tokenizer(
    name: str,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    chat_template: str | None = None,
    use_chat_template: bool = True,
    special_tokens: Mapping[str, str] | None = None,
    added_tokens: Sequence[str] | None = None,
    added_special_tokens: Sequence[str] | None = None,
) -> PreTrainedTokenizerBase:
    """Load a tokenizer and decide its chat template and pad token.

    Args:
        name: a folder, or a name on the Hugging Face hub.
        revision: branch, tag or commit on the hub.
        trust_remote_code: run tokenizer code that comes with the model.
        chat_template: a name that sft ships, a .jinja file or template text; ``own`` for the tokenizer's, or an error.
            None: the tokenizer's own; without one ``chatml`` where its tokens are there, else ``default``, which ends
            answers with ``eos_token``.
        use_chat_template: False asks for the plain ``instruction`` text.
        special_tokens: which tokens play the special parts ("eos_token", ...), where the tokenizer says otherwise.
        added_tokens: words that become one token each.
        added_special_tokens: the same for tokens that are left out of shown text.

    Raises:
        ModelError: there is no such tokenizer or token, or the template needs tokens that it does not have.
        ConfigError: there is no such template.
    """
    tokenizer = _load(name, revision=revision, trust_remote_code=trust_remote_code)
    add_tokens(tokenizer, added_tokens, added_special_tokens)
    _cast_special_tokens(tokenizer, special_tokens or {})
    _decide_eos_token(tokenizer, name)
    _decide_pad_token(tokenizer)
    choose_template(tokenizer, chat_template, use_chat_template=use_chat_template)
    return tokenizer


def read_tokenizer(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """A tokenizer as it was saved, that brings no code and whose chat template is bounded in what it may spend.

    Raises:
        ModelError: its folder would have code run.
        Exception: whatever transformers raises where it cannot be loaded.
    """
    limit_chat_templates()
    refuse_brought_code(name, revision=revision, trust_remote_code=trust_remote_code)
    return AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)


def load_tokenizer_for(config: SFTConfig) -> PreTrainedTokenizerBase:
    """The tokenizer that a configuration asks for, with the tokens that it adds."""
    return load_tokenizer(
        config.tokenizer_name_or_path or config.model_name_or_path,
        revision=config.model_revision,
        trust_remote_code=config.trust_remote_code,
        chat_template=config.chat_template,
        use_chat_template=config.use_chat_template,
        special_tokens=config.special_tokens,
        added_tokens=config.added_tokens,
        added_special_tokens=config.added_special_tokens,
    )


def choose_template(
    tokenizer: PreTrainedTokenizerBase, chat_template: str | None = None, *, use_chat_template: bool = True
) -> None:
    """Set the chat template of a loaded tokenizer, as ``load_tokenizer`` describes."""
    if not use_chat_template:
        _set_template(tokenizer, "instruction", "use_chat_template is False")
    elif chat_template == OWN:
        _require_template(tokenizer)
    elif chat_template is not None:
        _set_template(tokenizer, chat_template, "chat_template")
    elif tokenizer.chat_template is not None:
        setattr(tokenizer, _ORIGIN, "the tokenizer's own")
    elif CHATML_TOKENS.issubset(_special_texts(tokenizer)):
        _set_template(tokenizer, "chatml", "the tokenizer has none, but has its tokens")
    else:
        _set_template(tokenizer, "default", "the tokenizer has none")


def _require_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Take the tokenizer's own template, and no other."""
    if tokenizer.chat_template is None:
        raise ModelError(
            f"chat_template {OWN!r}: the tokenizer of {tokenizer.name_or_path} has no chat template. Name one, such as "
            "chatml, or leave chat_template out to have one chosen."
        )
    setattr(tokenizer, _ORIGIN, "the tokenizer's own")


def template_origin(tokenizer: PreTrainedTokenizerBase) -> str:
    """Where the chat template of a tokenizer came from, for people: "the tokenizer's own", "chatml (...)"."""
    return str(getattr(tokenizer, _ORIGIN, "the tokenizer's own" if tokenizer.chat_template else "none"))


def _load(name: str, **options: Any) -> PreTrainedTokenizerBase:
    folder = Path(name).expanduser()
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_local and not folder.exists():
        raise ModelError(f"no tokenizer at {name}: there is no such folder.")
    try:
        tokenizer = read_tokenizer(str(folder) if folder.exists() else name, **options)
    except ModelError:
        raise  # it says why already
    except Exception as error:  # the library raises whatever its parsers and its network raise
        raise ModelError(_explain(name, folder, error)) from error
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ModelError(f"{name} brings a {type(tokenizer).__name__}, which is no tokenizer of transformers.")
    return tokenizer


def _explain(name: str, folder: Path, error: Exception) -> str:
    said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if folder.is_dir():
        files = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        return (
            f"no tokenizer can be loaded from the folder {name}, which holds {files}. A tokenizer needs "
            f"tokenizer.json, or the vocabulary files that tokenizer_config.json speaks of. transformers says: {said}"
        )
    return (
        f"no tokenizer {name!r}: it is no folder here, and it could not be fetched from the Hugging Face hub. Check "
        f"the name, the network and, for gated models, your hub login. transformers says: {said}"
    )


def _cast_special_tokens(tokenizer: PreTrainedTokenizerBase, tokens: Mapping[str, str]) -> None:
    """Let tokens that the tokenizer has play the parts; a text that is none would be split into ordinary pieces."""
    for part, token in tokens.items():
        if token not in tokenizer.get_vocab():
            raise ModelError(
                f"special_tokens: {part} is {token!r}, which is no token of the tokenizer. Choose one of its special "
                f"ones ({', '.join(_special_texts(tokenizer)) or 'it has none'}), or add it with added_special_tokens."
            )
        setattr(tokenizer, part, token)


def _decide_eos_token(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """A tokenizer file alone names no end-of-sequence token; take the special token that is known as one."""
    if tokenizer.eos_token is not None:
        return
    special = _special_texts(tokenizer)
    found = next((text for text in EOS_NAMES if text in special), None)
    if found is None:
        raise ModelError(
            f"the tokenizer of {name} has no end-of-sequence token, so that no answer could end. Its special tokens "
            f"are {', '.join(special) or 'none'}. Name one as eos_token in tokenizer_config.json."
        )
    tokenizer.eos_token = found


def _decide_pad_token(tokenizer: PreTrainedTokenizerBase) -> None:
    """Padding is by position and decides no label; a token of its own is only the clearer choice."""
    if tokenizer.pad_token is not None:
        return
    special = _special_texts(tokenizer)
    named = (text for text in PAD_NAMES if text in special)
    tokenizer.pad_token = next(named, None) or tokenizer.unk_token or tokenizer.eos_token


def _set_template(tokenizer: PreTrainedTokenizerBase, template: str, why: str) -> None:
    text = read_template(template)
    if begins_as_the_tokenizer_does(template) and _begins_with_bos(tokenizer):
        text = with_bos(text)
    _check_needed_tokens(tokenizer, template)
    tokenizer.chat_template = text
    _check_turn_end(tokenizer, template)
    shown = template if len(template) < 80 and "\n" not in template else "template text"
    setattr(tokenizer, _ORIGIN, f"{shown} ({why})")


def _check_needed_tokens(tokenizer: PreTrainedTokenizerBase, template: str) -> None:
    """Refuse a shipped template whose markers this tokenizer would split into ordinary pieces."""
    missing = [text for text in needed_tokens(template) if not _is_one_token(tokenizer, text)]
    if missing:
        raise ModelError(
            f"chat_template {template!r} needs the tokens {' '.join(missing)}, which this tokenizer does not have: "
            f"they would be split into ordinary pieces. Add them with added_special_tokens {' '.join(missing)} (new "
            f"rows of the embeddings, which are then trained), or choose a template that needs no token but "
            f"{tokenizer.eos_token!r}, such as {', '.join(UNDEMANDING)}."
        )


def _is_one_token(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    """Whether a text is encoded as one token of its own, also in the midst of other text."""
    token = tokenizer.convert_tokens_to_ids(text)
    if token is None or (token == tokenizer.unk_token_id and text != tokenizer.unk_token):
        return False
    return token in tokenizer(f"a{text}b", add_special_tokens=False)["input_ids"]


def _check_turn_end(tokenizer: PreTrainedTokenizerBase, template: str) -> None:
    """Refuse a template that ends answers with text that this tokenizer would split into ordinary pieces."""
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": ANSWER}]
    try:
        written = str(tokenizer.apply_chat_template(turns, tokenize=False))
    except jinja2.TemplateSyntaxError as error:
        raise ModelError(
            f"chat_template {template!r} is not valid Jinja: {error.message} (line {error.lineno})."
        ) from error
    except (jinja2.TemplateError, TypeError, ValueError):
        return  # it may want other conversations; each of them is checked when it is rendered
    tail = written.partition(ANSWER)[2].strip()
    added = [str(token) for token in tokenizer.added_tokens_decoder.values()]
    if tail and not tail.startswith(tuple(text for text in added if text.strip())):
        raise ModelError(
            f"chat_template {template!r} ends an answer with {tail.splitlines()[0]!r}, which is no token of this "
            f"tokenizer: it would be split into ordinary pieces, and generation could not stop at it. Choose a "
            f"template that ends answers with eos_token ({tokenizer.eos_token!r}), such as {', '.join(UNDEMANDING)}; "
            f"or add the token with added_special_tokens."
        )


def _begins_with_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id


def _special_texts(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    return [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
