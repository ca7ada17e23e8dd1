"""Which template, end token and pad token a tokenizer gets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoTokenizer

from sft.config import SFTConfig
from sft.data.templates import read_template
from sft.errors import ConfigError, ModelError
from sft.models.tokenizer import choose_template, load_tokenizer, load_tokenizer_for, template_origin

OWN = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}\n{% endfor %}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(tmp_path / "plain", special=["<s>", "</s>", "<unk>"], names={"eos_token": "</s>", "bos_token": "<s>"})


def save(
    folder: Path,
    *,
    special: Sequence[str],
    names: dict[str, str],
    template: str | None = None,
    begins_with: str | None = None,
) -> Path:
    """Write a byte-level tokenizer with these tokens."""
    alphabet = {character: index for index, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(special))
    if begins_with:
        token = (begins_with, backend.token_to_id(begins_with))
        backend.post_processor = processors.TemplateProcessing(
            single=[begins_with, "$A"], pair=[begins_with, "$A", "$B"], special_tokens=[token]
        )
    folder.mkdir(parents=True)
    backend.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


# Templates


def test_a_tokenizers_own_template_is_kept(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(save(tmp_path / "own", special=["</s>"], names={"eos_token": "</s>"}, template=OWN)))
    assert tokenizer.chat_template == OWN
    assert template_origin(tokenizer) == "the tokenizer's own"


def test_a_tokenizer_without_one_gets_default_and_it_is_saved(folder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(folder))
    assert tokenizer.chat_template == read_template("default")
    assert template_origin(tokenizer) == "default (the tokenizer has none)"
    tokenizer.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again.chat_template == tokenizer.chat_template
    assert load_tokenizer(str(tmp_path / "saved")).chat_template == tokenizer.chat_template


def test_a_tokenizer_with_the_tokens_of_chatml_gets_chatml(tmp_path: Path) -> None:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    path = save(tmp_path / "tokens", special=special, names={"eos_token": "<|endoftext|>"})
    tokenizer = load_tokenizer(str(path))
    assert tokenizer.chat_template == read_template("chatml")
    assert template_origin(tokenizer).startswith("chatml (")


def test_a_text_begins_with_bos_where_the_tokenizer_begins_texts_with_it(tmp_path: Path) -> None:
    names = {"eos_token": "</s>", "bos_token": "<s>"}
    path = save(tmp_path / "bos", special=["<s>", "</s>"], names=names, begins_with="<s>")
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    for name in ("default", "alpaca", "llama2"):
        tokenizer = load_tokenizer(str(path), chat_template=name)
        written = tokenizer.apply_chat_template(turns, tokenize=False)
        assert written.startswith("<s>")
        assert written.count("<s>") == 1


def test_a_named_template_and_a_file(folder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(folder), chat_template="vicuna")
    assert tokenizer.chat_template == read_template("vicuna")
    assert template_origin(tokenizer) == "vicuna (chat_template)"
    (tmp_path / "mine.jinja").write_text(OWN, encoding="utf-8")
    assert load_tokenizer(str(folder), chat_template=str(tmp_path / "mine.jinja")).chat_template == OWN


def test_plain_text_without_a_chat_template(folder: Path) -> None:
    tokenizer = load_tokenizer(str(folder), use_chat_template=False)
    turns = [{"role": "user", "content": "Add.\nInput: 1 1"}, {"role": "assistant", "content": "2"}]
    assert tokenizer.apply_chat_template(turns, tokenize=False) == "Instruction: Add.\nInput: 1 1\nResponse: 2</s>\n"


def test_a_template_whose_end_token_is_missing_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_tokenizer(str(folder), chat_template=read_template("chatml"))
    message = str(caught.value)
    assert " ends an answer with '<|im_end|>', which is no token of this tokenizer" in message
    assert "'</s>'" in message
    assert "default" in message


def test_a_named_template_whose_markers_are_no_tokens_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "some", special=["</s>", "<|im_end|>"], names={"eos_token": "</s>"})
    with pytest.raises(ModelError) as caught:
        load_tokenizer(str(path), chat_template="qwen2.5")
    message = str(caught.value)
    assert "'qwen2.5' needs the tokens <|im_start|>, which this tokenizer does not have" in message
    assert "added_special_tokens <|im_start|> " in message
    assert "default" in message


@pytest.mark.parametrize("is_special", [True, False])
def test_a_marker_may_be_any_kind_of_added_token(folder: Path, is_special: bool) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<|im_start|>"], special_tokens=is_special)
    with pytest.raises(ModelError, match=r"needs the tokens <\|im_end\|>, which"):
        choose_template(tokenizer, "chatml")
    tokenizer.add_tokens(["<|im_end|>"], special_tokens=is_special)
    choose_template(tokenizer, "chatml")
    assert tokenizer.chat_template == read_template("chatml")


def test_added_tokens_make_a_named_template_possible(folder: Path) -> None:
    """As for Gemma's markers, which Firefly adds to any tokenizer."""
    with pytest.raises(ModelError, match="added_special_tokens <start_of_turn> <end_of_turn>"):
        load_tokenizer(str(folder), chat_template="gemma")
    markers = ["<start_of_turn>", "<end_of_turn>"]
    tokenizer = load_tokenizer(str(folder), chat_template="gemma", added_special_tokens=markers)
    assert tokenizer.chat_template == read_template("gemma")
    assert [len(tokenizer.encode(marker, add_special_tokens=False)) for marker in markers] == [1, 1]


@pytest.mark.parametrize("names", [{"eos_token": "</s>"}, {"eos_token": "</s>", "unk_token": "<unk>"}])
def test_an_unknown_text_is_no_token(tmp_path: Path, names: dict[str, str]) -> None:
    path = save(tmp_path / "unknown", special=["</s>", "<unk>"], names=names)
    with pytest.raises(ModelError, match=r"needs the tokens <\|im_start\|> <\|im_end\|>, which"):
        load_tokenizer(str(path), chat_template="chatml")


@pytest.mark.parametrize(
    "template", ["{{ messages[0].content }}", "{% for m in messages %}{{ m.content }}\n{% endfor %}"]
)
def test_a_template_that_ends_answers_with_nothing_is_left_to_the_renderer(folder: Path, template: str) -> None:
    assert load_tokenizer(str(folder), chat_template=template).chat_template == template


def test_template_text_that_is_no_jinja_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="is not valid Jinja"):
        load_tokenizer(str(folder), chat_template="{% for m in messages %}{{ m.content }}")


def test_an_unknown_template_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean alpaca"):
        load_tokenizer(str(folder), chat_template="alpacca")


def test_a_loaded_tokenizer_can_be_given_a_template(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert template_origin(tokenizer) == "none"
    choose_template(tokenizer)
    assert tokenizer.chat_template == read_template("default")


# End and pad tokens


def test_a_tokenizer_file_alone_gets_a_known_end_token(tmp_path: Path) -> None:
    path = save(tmp_path / "bare", special=["<|endoftext|>", "<|padding|>"], names={})
    (path / "tokenizer_config.json").unlink()
    tokenizer = load_tokenizer(str(path))
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|endoftext|>", "<|padding|>")


def test_a_tokenizer_without_any_end_token_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "endless", special=["[MASK]"], names={})
    with pytest.raises(ModelError, match=r"no end-of-sequence token.*\[MASK\]"):
        load_tokenizer(str(path))


@pytest.mark.parametrize(
    ("special", "names", "pad"),
    [
        (["</s>", "<pad>"], {"eos_token": "</s>"}, "<pad>"),
        (["</s>", "<unk>"], {"eos_token": "</s>", "unk_token": "<unk>"}, "<unk>"),
        (["</s>"], {"eos_token": "</s>"}, "</s>"),
        (["</s>", "<pad>", "mine"], {"eos_token": "</s>", "pad_token": "mine"}, "mine"),
    ],
)
def test_pad_tokens(tmp_path: Path, special: list[str], names: dict[str, str], pad: str) -> None:
    tokenizer = load_tokenizer(str(save(tmp_path / "pad", special=special, names=names)))
    assert tokenizer.pad_token == pad
    assert len(tokenizer) == len(AutoTokenizer.from_pretrained(tmp_path / "pad"))


# What cannot be loaded


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no tokenizer at .*nowhere: there is no such folder"):
        load_tokenizer(str(tmp_path / "nowhere"))


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing", encoding="utf-8")
    with pytest.raises(ModelError, match=r"holds notes\.txt\. A tokenizer needs tokenizer\.json"):
        load_tokenizer(str(tmp_path))


def test_a_broken_tokenizer_file(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="no tokenizer can be loaded from the folder"):
        load_tokenizer(str(folder))


def test_a_hub_name_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="could not be fetched from the Hugging Face hub"):
        load_tokenizer("nobody/no-such-tokenizer")


def test_the_tokenizer_of_a_configuration(folder: Path) -> None:
    config = SFTConfig(model_name_or_path="unused/model", tokenizer_name_or_path=str(folder), chat_template="zephyr")
    assert load_tokenizer_for(config).chat_template == read_template("zephyr")


# Special tokens


def test_another_token_plays_the_part_and_stays_in_it_when_saved(folder: Path, tmp_path: Path) -> None:
    config = SFTConfig(model_name_or_path=str(folder), special_tokens={"eos_token": "<unk>", "pad_token": "<s>"})
    tokenizer = load_tokenizer_for(config)
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token) == ("<unk>", "<s>", "<s>")
    tokenizer.save_pretrained(tmp_path / "saved")
    assert AutoTokenizer.from_pretrained(tmp_path / "saved").eos_token == "<unk>"


def test_a_text_that_is_no_token_cannot_play_a_part(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"eos_token is '<eot>', which is no token .*added_special_tokens"):
        load_tokenizer(str(folder), special_tokens={"eos_token": "<eot>"})


def test_own_template_is_the_tokenizers_or_an_error(folder: Path, tmp_path: Path) -> None:
    own = save(tmp_path / "own", special=["</s>"], names={"eos_token": "</s>"}, template=OWN)
    assert load_tokenizer(str(own), chat_template="own").chat_template == OWN
    with pytest.raises(ModelError, match="has no chat template"):
        load_tokenizer(str(folder), chat_template="own")
