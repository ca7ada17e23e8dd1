from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from sft.export.card import TrainingFacts
from sft.export.merge import merge_adapter
from sft.export.save import save_final

IDS = torch.tensor([[1, 403, 407, 261, 378]])


@pytest.fixture
def base(shared_data: Path) -> Path:
    return shared_data / "models" / "stories260K-hf"


@pytest.fixture
def tokenizer(base: Path) -> Any:
    loaded = AutoTokenizer.from_pretrained(base)
    loaded.chat_template = "{{ bos_token }}{{ messages[-1]['content'] }}{{ 'T' if enable_thinking else 'N' }}"
    return loaded


def save(model: Any, tokenizer: Any, base: Path, folder: Path, **more: Any) -> Path:
    facts = TrainingFacts(base_model=str(base), trained_on="answers")
    return save_final(model=model, tokenizer=tokenizer, folder=folder, stop_token_ids=[17], facts=facts, **more)


def adapted(base: Path, **config: Any) -> PeftModel:
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft_model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **config)).eval()
    for parameter in peft_model.parameters():
        if parameter.requires_grad:
            parameter.data += torch.randn_like(parameter) * 0.1
    return peft_model


def test_a_model_comes_back_as_it_was_trained(base: Path, tokenizer: Any, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    model.model.norm.weight.data *= 1.5
    own = copy.deepcopy(model.generation_config)
    folder = save(model, tokenizer, base, tmp_path / "model", template_defaults={"enable_thinking": False})
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        assert torch.equal(loaded(IDS).logits, model.eval()(IDS).logits)
    assert loaded.config.tie_word_embeddings is True
    assert loaded.generation_config.eos_token_id == [2, 17]
    assert loaded.generation_config.pad_token_id == 0
    names = {entry.name for entry in folder.iterdir()}
    assert {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "README.md"} <= names
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in names)
    assert model.generation_config == own
    assert tokenizer.chat_template.startswith("{{ bos_token }}")


def test_the_saved_template_has_the_trained_defaults(base: Path, tokenizer: Any, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    plain = AutoTokenizer.from_pretrained(save(model, tokenizer, base, tmp_path / "plain"))
    folder = save(model, tokenizer, base, tmp_path / "thinking", template_defaults={"enable_thinking": True})
    thinking = AutoTokenizer.from_pretrained(folder)
    turn = [{"role": "user", "content": "x"}]
    assert plain.apply_chat_template(turn, tokenize=False) == "<s>xN"
    assert thinking.apply_chat_template(turn, tokenize=False) == "<s>xT"
    assert thinking.apply_chat_template(turn, tokenize=False, enable_thinking=False) == "<s>xN"


def test_an_untied_model_is_not_tied_by_the_next_loader(base: Path, tokenizer: Any, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach() * 2)
    folder = save(model, tokenizer, base, tmp_path / "model")
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is False
    with torch.no_grad():
        assert torch.equal(AutoModelForCausalLM.from_pretrained(folder)(IDS).logits, model.eval()(IDS).logits)


def test_a_resized_model_keeps_its_vocabulary(base: Path, tokenizer: Any, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(520, mean_resizing=False)
    tokenizer.add_tokens(["<new>"], special_tokens=True)
    folder = save(model, tokenizer, base, tmp_path / "model")
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert loaded.config.vocab_size == 520 == loaded.lm_head.weight.shape[0]
    assert AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids("<new>") == 512


def test_gathered_weights_are_written_in_place_of_the_models_own(base: Path, tokenizer: Any, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    gathered = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gathered["model.norm.weight"] *= 3
    folder = save(model, tokenizer, base, tmp_path / "model", state_dict=gathered)
    assert torch.equal(load_file(folder / "model.safetensors")["model.norm.weight"], gathered["model.norm.weight"])
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)


def test_an_adapter_comes_back_and_finds_its_base_from_anywhere(
    base: Path, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(base.parent)
    model = adapted(Path(base.name), target_modules=["q_proj", "v_proj"])
    folder = save(model, tokenizer, base, tmp_path / "adapter")
    values = json.loads((folder / "adapter_config.json").read_text())
    assert values["base_model_name_or_path"] == str(base.resolve())
    names = {entry.name for entry in folder.iterdir()}
    assert {
        "adapter_model.safetensors",
        "adapter_config.json",
        "generation_config.json",
        "chat_template.jinja",
    } <= names
    assert "model.safetensors" not in names
    assert GenerationConfig.from_pretrained(folder).eos_token_id == [2, 17]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).eval()
    with torch.no_grad():
        assert torch.equal(loaded(IDS).logits, model(IDS).logits)
    assert "library_name: peft" in (folder / "README.md").read_text()


def test_an_adapter_needs_no_hub(base: Path, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PEFT asks the hub whether the base model's vocabulary was another; we say what to save instead."""
    import peft.utils.save_and_load as peft_saving

    def asked(*_: Any) -> bool:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(peft_saving, "check_file_exists_on_hf_hub", asked)
    model = adapted(base, target_modules=["q_proj"])
    model.peft_config["default"].base_model_name_or_path = "someone/model-on-the-hub"
    folder = save(model, tokenizer, base, tmp_path / "adapter")
    assert (
        json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
        == "someone/model-on-the-hub"
    )


def test_embeddings_go_into_an_adapter_when_asked_and_survive_a_merge(
    base: Path, tokenizer: Any, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(514, mean_resizing=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft_model = get_peft_model(
            model, LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], trainable_token_indices=[512, 513])
        ).eval()
    for parameter in peft_model.parameters():
        if parameter.requires_grad:
            parameter.data += torch.randn_like(parameter) * 0.1
    tokenizer.add_tokens(["<a>", "<b>"], special_tokens=True)
    folder = save(peft_model, tokenizer, base, tmp_path / "adapter", save_embeddings=True)
    result = merge_adapter(base_model=str(base), adapter_path=folder, output_path=tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(result.path)
    ids = torch.tensor([[1, 512, 403, 513]])
    with torch.no_grad():
        assert torch.allclose(merged(ids).logits, peft_model(ids).logits, atol=1e-4, rtol=0)
    assert merged.generation_config.eos_token_id == [2, 17]


def test_what_training_saved_is_what_a_merge_carries_on(base: Path, tokenizer: Any, tmp_path: Path) -> None:
    model = adapted(base, target_modules=["q_proj"])
    folder = save(model, tokenizer, base, tmp_path / "adapter", template_defaults={"enable_thinking": True})
    result = merge_adapter(base_model=None, adapter_path=folder, output_path=tmp_path / "merged")
    merged = AutoTokenizer.from_pretrained(result.path)
    assert merged.chat_template == AutoTokenizer.from_pretrained(folder).chat_template
    assert GenerationConfig.from_pretrained(result.path).eos_token_id == [2, 17]
    card = (result.path / "README.md").read_text()
    assert "## Training" in card
    assert "| loss on | answers |" in card


def test_the_run_folder_itself_can_hold_the_model(base: Path, tokenizer: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoint-1").mkdir(parents=True)
    (run / "run.json").write_text("{}")
    save(adapted(base, target_modules=["q_proj"]), tokenizer, base, run, keep_others=True)
    assert (run / "adapter_config.json").is_file()
    save(AutoModelForCausalLM.from_pretrained(base), tokenizer, base, run, keep_others=True)
    assert {"checkpoint-1", "run.json", "model.safetensors"} <= {entry.name for entry in run.iterdir()}
    assert not (run / "adapter_config.json").exists()
