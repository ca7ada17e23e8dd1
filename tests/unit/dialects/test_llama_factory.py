"""LLaMA-Factory's files and command lines: what becomes of each key, and of each key of dataset_info.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sft.cli.options import config_from_words
from sft.config import RawValue, SFTConfig, read_file
from sft.data.conversations import read_conversations
from sft.data.sources import parse_sources
from sft.dialects import Translation, recognise, translate
from sft.dialects.llama_factory import ALL_KEYS
from sft.dialects.llama_factory_data import find_sources
from sft.errors import ConfigError

ROWS = [{"instruction": "Add", "input": "1 + 1", "output": "2", "system": "s"}, {"instruction": "Hi", "output": "Ho"}]
BASE = {
    "model_name_or_path": "m",
    "stage": "sft",
    "finetuning_type": "lora",
    "dataset": "rows",
    "template": "qwen",
    "output_dir": "out",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to start from, with one data set."""
    write_info(tmp_path, {"rows": {"file_name": "rows.json"}})
    (tmp_path / "data" / "rows.json").write_text(json.dumps(ROWS), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_info(folder: Path, infos: Any) -> None:
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "dataset_info.json").write_text(json.dumps(infos), encoding="utf-8")


def read(**changed: Any) -> Translation:
    """BASE with keys changed, or left out where they are ``...``."""
    values = {key: value for key, value in {**BASE, **changed}.items() if value is not ...}
    Path("train.json").write_text(json.dumps(values), encoding="utf-8")
    raw = read_file(Path("train.json"))
    assert recognise(raw) == "llama_factory"
    return translate(raw, "llama_factory")


def config(**changed: Any) -> SFTConfig:
    return SFTConfig(**read(**changed).accepted())


def note(translation: Translation, key: str) -> tuple[str, str | None, str]:
    (found,) = [entry for entry in translation.notes if entry.key == key and entry.status != "defaulted"]
    return found.status, found.target, found.reason


# ---- what is recognised ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        {"stage": "sft", "data_path": "d.jsonl", "model_name_or_path": "m"},
        {"stage": "dpo", "data_path": "d.jsonl", "use_lora": True, "lora_r": 8, "chat_template": "qwen"},
        {"model_name_or_path": "m", "dataset_name": "d", "max_length": 512},
        {"train_file": "f", "template_name": "qwen", "model_name_or_path": "m", "lora_rank": 64},
    ],
)
def test_our_files_and_those_of_others_are_not_taken_for_theirs(values: dict[str, Any]) -> None:
    assert recognise({key: RawValue(value, "x.yaml:1") for key, value in values.items()}) != "llama_factory"


# ---- defaults --------------------------------------------------------------------------------------------------------


def test_what_they_do_unasked() -> None:
    """Defaults of their argument classes and of transformers' under them."""
    given = config(finetuning_type=..., stage=..., cutoff_len=1024)
    assert (given.use_lora, given.lora_r, given.lora_alpha, given.lora_dropout) == (True, 8, 16, 0.0)
    assert (given.target_modules, given.gradient_checkpointing, given.num_train_epochs) == ("all-linear", True, 3)
    assert (given.per_device_train_batch_size, given.gradient_accumulation_steps) == (8, 1)
    assert (given.learning_rate, given.lr_scheduler_type, given.warmup_steps) == (5e-5, "linear", 0)
    assert (given.logging_steps, given.save_total_limit, given.max_length) == (500, None, 1024)
    assert (config().max_length, given.model_dir, given.input_separator) == (2048, ".", "\n")
    assert given.also_write == ["trainer_log", "results", "trainer_state"]
    assert config(lora_rank=32).lora_alpha == 64


def test_without_a_model_or_data_nothing_is_guessed() -> None:
    problems = read(model_name_or_path=..., dataset=...).problems()
    assert [problem.split(":")[0] for problem in problems] == ["model_name_or_path", "dataset"]
    assert "output_dir" not in read(output_dir=...).values, "ours is"


# ---- one key after the other -----------------------------------------------------------------------------------------

MEANT = [
    ({"finetuning_type": "full"}, {"use_lora": False}),
    ({"finetuning_type": "freeze"}, {"use_lora": False, "trainable_layers": 2}),
    (
        {"finetuning_type": "freeze", "freeze_trainable_layers": -3, "freeze_extra_modules": "embed_tokens,norm"},
        {"trainable_layers": -3, "trainable_modules": [r"(^|\.)embed_tokens(\.|$)", r"(^|\.)norm(\.|$)"]},
    ),
    ({"lora_target": "q_proj, v_proj"}, {"target_modules": ["q_proj", "v_proj"]}),
    ({"additional_target": "embed_tokens,lm_head"}, {"modules_to_save": ["embed_tokens", "lm_head"]}),
    ({"use_rslora": True, "loraplus_lr_ratio": 16}, {"use_rslora": True, "loraplus_lr_ratio": 16}),
    ({"pissa_init": True}, {"init_lora_weights": "pissa_niter_16"}),
    ({"pissa_init": True, "pissa_iter": -1}, {"init_lora_weights": "pissa"}),
    ({"pissa_init": False, "pissa_iter": 4}, {"init_lora_weights": "default"}),
    ({"neftune_noise_alpha": 5}, {"training_arguments": {"neftune_noise_alpha": 5}}),
    ({"quantization_bit": 4, "double_quantization": False}, {"load_in_4bit": True, "bnb_4bit_use_double_quant": False}),
    ({"quantization_bit": 4, "quantization_type": "fp4"}, {"bnb_4bit_quant_type": "fp4"}),
    ({"quantization_bit": "8", "quantization_method": "bnb"}, {"load_in_8bit": True, "load_in_4bit": False}),
    ({"mask_history": True}, {"train_on": "last_answer"}),
    ({"train_on_prompt": "true"}, {"train_on": "everything"}),
    ({"mask_history": False, "train_on_prompt": False}, {"train_on": "answers"}),
    ({"packing": True}, {"packing": True}),
    ({"packing": False, "neat_packing": True}, {"packing": True}),
    ({"default_system": "Be brief."}, {"system_prompt": "Be brief."}),
    ({"template": "default"}, {"chat_template": "llama_factory_default"}),
    ({"template": "qwen3", "enable_thinking": False}, {"chat_template_kwargs": {"enable_thinking": False}}),
    ({"template": "qwen3", "enable_thinking": True}, {"chat_template_kwargs": {"enable_thinking": True}}),
    ({"template": "qwen3"}, {"chat_template_kwargs": {}}),
    ({"enable_thinking": False}, {"chat_template_kwargs": {}}),
    ({"flash_attn": "fa2"}, {"attn_implementation": "flash_attention_2"}),
    ({"flash_attn": "auto"}, {"attn_implementation": None}),
    ({"disable_gradient_checkpointing": True}, {"gradient_checkpointing": False}),
    ({"gradient_checkpointing": False}, {"gradient_checkpointing": False}),
    ({"disable_gradient_checkpointing": False, "gradient_checkpointing": False}, {"gradient_checkpointing": True}),
    ({"pure_bf16": True}, {"dtype": "bfloat16"}),
    ({"ddp_timeout": 180000000}, {"ddp_timeout": 600}),
    ({"ddp_timeout": 1800}, {"ddp_timeout": 1800}),
    ({"plot_loss": True}, {"also_write": ["trainer_log", "results", "trainer_state", "loss_plot"]}),
    ({"val_size": 0.1}, {"validation_size": 0.1, "eval_strategy": "no"}),
    ({"val_size": 0.1, "do_eval": True}, {"eval_strategy": "epoch"}),
    ({"val_size": 9, "eval_strategy": "steps", "eval_steps": 5}, {"validation_size": 9, "eval_steps": 5}),
    (
        {"val_size": 9, "eval_strategy": "steps", "early_stopping_steps": 3, "do_eval": False},
        {"early_stopping_patience": 3, "do_eval": True},
    ),
    ({"eval_dataset": "rows", "eval_strategy": "epoch"}, {"eval_strategy": "epoch"}),
    ({"overwrite_output_dir": True, "resume_from_checkpoint": None}, {"overwrite_output_dir": True}),
    (
        {"overwrite_output_dir": True, "resume_from_checkpoint": "out/checkpoint-5"},
        {"overwrite_output_dir": False, "resume_from_checkpoint": "out/checkpoint-5"},
    ),
    ({"add_tokens": "<a>,<b>", "add_special_tokens": "<c>"}, {"added_tokens": ["<a>", "<b>"]}),
    ({"enable_liger_kernel": True}, {"training_arguments": {"use_liger_kernel": True}}),
    ({"deepspeed": "ds.json"}, {"training_arguments": {"deepspeed": "ds.json"}}),
    (
        {"fsdp": ["full_shard", "auto_wrap"], "fsdp_transformer_layer_cls_to_wrap": "LlamaDecoderLayer"},
        {
            "training_arguments": {
                "fsdp": "full_shard auto_wrap",
                "fsdp_config": {"transformer_layer_cls_to_wrap": ["LlamaDecoderLayer"]},
            }
        },
    ),
    ({"use_eaft_loss": True}, {"eaft_alpha": 1.0, "eaft_top_k": 20, "eaft_divisor": 3.0}),
    ({"use_eaft_loss": True, "eaft_alpha": 2.0}, {"eaft_alpha": 2.0, "eaft_divisor": 3.0}),
    ({"use_eaft_loss": False, "eaft_alpha": 2.0}, {"eaft_alpha": None, "eaft_divisor": None}),
    ({"adapter_name_or_path": "a"}, {"adapter_name_or_path": "a"}),
    ({"warmup_ratio": 0.1, "report_to": "none", "lora_dropout": "0.05"}, {"warmup_steps": 0.1, "lora_dropout": 0.05}),
    (
        {"max_length": 99, "temperature": 0.9, "vllm_maxlen": 7, "cache_dir": "x"},
        {"max_length": 2048, "cache_dir": None},
    ),
]


@pytest.mark.parametrize(("given", "wanted"), MEANT, ids=lambda value: "-".join(map(str, value)))
def test_meaning(given: dict[str, Any], wanted: dict[str, Any]) -> None:
    found = config(**given)
    for name, value in wanted.items():
        assert getattr(found, name) == value, name


REFUSED = [
    ({"stage": "ppo"}, "stage", "reinforcement learning"),
    ({"stage": "sfft"}, "stage", "no stage 'sfft'"),
    ({"finetuning_type": "oft"}, "finetuning_type", "OFT is not trained here"),
    ({"finetuning_type": "lorra"}, "finetuning_type", "no method 'lorra'"),
    ({"adapter_name_or_path": "a,b"}, "adapter_name_or_path", "sft merge"),
    ({"quantization_bit": 3}, "quantization_bit", "4 or 8"),
    ({"quantization_bit": 4, "quantization_method": "hqq"}, "quantization_method", "bitsandbytes"),
    ({"template": "qwen33"}, "template", "nearest: qwen3"),
    ({"template": "qwen2_vl"}, "template", "images, videos or audio"),
    ({"dataset": "row"}, "dataset", "did you mean rows? It names rows"),
    ({"dataset_dir": "elsewhere"}, "dataset", "elsewhere/dataset_info.json cannot be read"),
    ({"dataset_dir": "REMOTE:a/b"}, "dataset", "hf download a/b"),
    ({"use_galore": True}, "use_galore", "GaLore"),
    ({"fp8": True}, "fp8", "bf16"),
    ({"mix_strategy": "interleave_over"}, "mix_strategy", "weight"),
    ({"pref_loss": "simpo", "stage": "dpo"}, "pref_loss", "not trained here"),
    ({"hf_hub_token": "secret"}, "hf_hub_token", "HF_TOKEN"),
    ({"export_dir": "x"}, "export_dir", "sft export"),
    ({"tensor_model_parallel_size": 2}, "tensor_model_parallel_size", "Megatron"),
    ({"finetuning_type": "freeze", "freeze_trainable_modules": "mlp"}, "freeze_trainable_modules", "trainable_modules"),
    ({"lora_rnk": 8}, "lora_rnk", "Did you mean lora_rank?"),
    ({"flash_attn": "fa9"}, "flash_attn", "none of auto"),
    ({"predict_with_generate": True}, "predict_with_generate", "sft evaluate"),
    ({"ref_model": "other", "stage": "dpo"}, "ref_model", "before training"),
]


@pytest.mark.parametrize(("given", "key", "says"), REFUSED, ids=lambda value: str(value)[:40])
def test_refusal(given: dict[str, Any], key: str, says: str) -> None:
    refused = {entry.key: entry for entry in read(**given).notes if entry.status == "refused"}
    assert says in refused[key].reason
    assert refused[key].origin.startswith("train.json:")
    if key not in ("tensor_model_parallel_size",):
        assert "secret" not in refused[key].reason


def test_switches_that_are_off_and_their_companions_change_nothing() -> None:
    off = {"use_galore": False, "galore_rank": 16, "fp8": "false", "use_kt": False, "kt_cpu_activation": "retain"}
    assert config(**off).to_dict() == config().to_dict()
    assert {note(read(**off), key)[0] for key in off} == {"ignored"}
    assert "GaLore" in note(read(**off), "galore_rank")[2]


def test_mended_differences_are_said() -> None:
    translation = read(template="qwen3", packing=True, ddp_timeout=180000000)
    reasons = {entry.key: entry.reason for entry in translation.notes}
    assert "do not see each other" in reasons["packing"]
    assert "2,083 days" in reasons["ddp_timeout"]
    assert "the end of prompts" in reasons["overlong"]
    assert "the original trains it" in reasons["chat_template_kwargs"]
    assert "split_special_tokens" in reasons["allow_special_tokens"]


def test_lora_keys_mean_nothing_under_full_fine_tuning() -> None:
    translation = read(finetuning_type="full", lora_rank=8, lora_target="all")
    assert note(translation, "lora_rank") == ("ignored", None, "finetuning_type is full")
    assert not SFTConfig(**translation.accepted()).use_lora


def test_every_known_key_is_settled_whatever_it_holds() -> None:
    """No value of a known key may raise: a refusal is a note."""
    base = {key: RawValue(value, "x.yaml:1") for key, value in BASE.items()}
    for key in ALL_KEYS:
        for value in (True, False, 0, -1, 1.5, "text", "a,b", ["x", 2], {"a": 1}, None, ""):
            notes = translate({**base, key: RawValue(value, "x.yaml:2")}, "llama_factory").notes
            assert [entry for entry in notes if entry.key == key], (key, value)


# ---- command lines ---------------------------------------------------------------------------------------------------


def test_a_command_line_takes_flags_with_and_without_values() -> None:
    words = ["--model_name_or_path", "m", "--dataset=rows", "--template", "qwen", "--do_train", "--bf16", "True"]
    found = config_from_words([*words, "--fp16", "False", "--plot_loss", "--lora_target", "all"], "llama_factory")
    assert (found.bf16, found.fp16, found.chat_template, found.use_lora) == (True, False, "qwen", True)
    assert "loss_plot" in found.also_write
    assert found.origins["bf16"] == "--bf16"


def test_pairs_after_a_file_replace_its_keys_and_flags_are_ours() -> None:
    Path("train.yaml").write_text("\n".join(f"{key}: {value}" for key, value in BASE.items()), encoding="utf-8")
    words = ["train.yaml", "lora_rank=4", "learning_rate=1e-3", "bf16=true", "template=null", "--lora_alpha", "7"]
    found = config_from_words([*words, "--system_prompt", "a=b"])
    assert (found.lora_r, found.lora_alpha, found.learning_rate, found.bf16) == (4, 7, 1e-3, True)
    assert (found.chat_template, found.system_prompt) == (None, "a=b")
    assert found.origins["lora_r"] == "lora_rank=4 (lora_rank)"
    with pytest.raises(ConfigError, match=r"lora_rnk \(lora_rnk=4\).*Did you mean lora_rank"):
        config_from_words(["train.yaml", "lora_rnk=4"])


def test_pairs_after_a_file_of_ours_stay_a_mistake() -> None:
    Path("ours.yaml").write_text("data_path: d.jsonl\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="unexpected word 'lora_r=4'"):
        config_from_words(["ours.yaml", "lora_r=4"])


def test_options_of_ours_win_over_what_cannot_be_found() -> None:
    Path("train.json").write_text(json.dumps({**BASE, "dataset": "gone", "template": "gone"}), encoding="utf-8")
    found = config_from_words(["train.json", "--data_path", "d.jsonl", "--chat_template", "llama3"])
    assert (found.data_path, found.chat_template) == ("d.jsonl", "llama3")


# ---- dataset_info.json -----------------------------------------------------------------------------------------------

TURNS = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
CHAT = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
CALL = '{"name": "find", "arguments": {"key": 1}}'
LAYOUTS = [
    pytest.param({}, ROWS, [["user: Add\n1 + 1", "assistant: 2"], ["user: Hi", "assistant: Ho"]], id="alpaca"),
    pytest.param(
        {"columns": {"prompt": "instruction", "response": "output", "system": "system"}},
        ROWS,
        [["system: s", "user: Add", "assistant: 2"], ["user: Hi", "assistant: Ho"]],
        id="alpaca, columns named, the others unread",
    ),
    pytest.param(
        {"columns": {"prompt": "q", "query": "c", "response": "a", "history": "h"}},
        [{"q": "x", "c": "", "a": "y", "h": [["b", "c"]]}],
        [["user: b", "assistant: c", "user: x", "assistant: y"]],
        id="alpaca, history",
    ),
    pytest.param({"formatting": "sharegpt"}, [{"conversations": TURNS}], [["user: q", "assistant: a"]], id="sharegpt"),
    pytest.param(
        {
            "formatting": "openai",
            "columns": {"messages": "messages"},
            "tags": {"role_tag": "role", "content_tag": "content"},
        },
        [{"messages": CHAT}],
        [["user: q", "assistant: a"]],
        id="openai",
    ),
    pytest.param(
        {
            "formatting": "sharegpt",
            "columns": {"messages": "talk", "tools": "offer", "system": "who"},
            "tags": {
                "role_tag": "r",
                "content_tag": "c",
                "user_tag": "U",
                "assistant_tag": "A",
                "observation_tag": "O",
                "function_tag": "F",
                "system_tag": "S",
            },
        },
        [
            {
                "talk": [
                    {"r": "U", "c": "q"},
                    {"r": "F", "c": CALL},
                    {"r": "O", "c": "1"},
                    {"r": "A", "c": "a"},
                ],
                "offer": '[{"name": "find"}]',
                "who": "you",
            }
        ],
        [["system: you", "user: q", "assistant: find", "tool: 1", "assistant: a"]],
        id="sharegpt, every tag",
    ),
]


@pytest.mark.parametrize(("info", "rows", "wanted"), LAYOUTS)
def test_layouts(folder: Path, info: dict[str, Any], rows: list[Any], wanted: list[list[str]]) -> None:
    write_info(folder, {"mine": {"file_name": "mine.json", **info}})
    (folder / "data" / "mine.json").write_text(json.dumps(rows), encoding="utf-8")
    found = config(dataset="mine")
    conversations = read_conversations(
        parse_sources(found.data_path or []), input_separator=str(found.input_separator)
    ).conversations
    assert [[said(message) for message in one.messages] for one in conversations] == wanted
    if "offer" in rows[0]:
        assert conversations[0].tools == ({"type": "function", "function": {"name": "find"}},)


def said(message: Any) -> str:
    return f"{message.role}: {message.content or message.tool_calls[0]['function']['name']}"


def test_places_and_amounts(folder: Path) -> None:
    (folder / "data" / "many").mkdir()
    infos = {
        "file": {"file_name": "rows.json"},
        "folder": {"file_name": "many"},
        "hub": {"hf_hub_url": "a/b", "ms_hub_url": "c/d", "subset": "en", "split": "dev", "folder": "deep"},
        "some": {"file_name": "rows.json", "num_samples": 50},
    }
    write_info(folder, infos)
    sources = find_sources("file, folder,hub,some", dataset_dir="data", stage="sft", max_samples=30)
    assert sources.problems == []
    assert [entry["path"] for entry in sources.entries] == ["data/rows.json", "data/many", "a/b", "data/rows.json"]
    assert [(entry.get("limit"), entry.get("sample")) for entry in sources.entries] == [(30, None)] * 3 + [(None, 30)]
    hub = sources.entries[2]
    assert (hub["subset"], hub["split"], hub["data_files"]) == ("en", "dev", ["deep/**"])
    online = find_sources(["a/b"], dataset_dir="ONLINE", stage="sft", max_samples=None)
    assert (online.problems, online.entries[0]["path"]) == ([], "a/b")
    parse_sources([*sources.entries[:2], *online.entries])


WRONG = [
    ({"file_name": "row.json"}, "there is no file data/row.json; did you mean rows.json?"),
    ({"file_name": "rows.json", "formating": "sharegpt"}, "'formating' is no key of it; did you mean formatting"),
    ({"file_name": "rows.json", "formatting": "sharegtp"}, "formatting is 'sharegtp'"),
    ({"file_name": "rows.json", "columns": {"promt": "q"}}, "unknown key 'promt'; did you mean prompt"),
    ({"file_name": "rows.json", "tags": {"role": "q"}}, "unknown key 'role'; did you mean role_tag"),
    ({"file_name": "rows.json", "columns": ["q"]}, "columns is ['q']"),
    ({"file_name": "rows.json", "columns": {"prompt": "q"}}, "columns names no response"),
    ({"file_name": "rows.json", "formatting": "sharegpt", "columns": {"images": "i"}}, "rows have images"),
    ({"file_name": "rows.json", "columns": {"kto_tag": "label"}}, "KTO"),
    ({"file_name": "rows.json", "ranking": True, "columns": {"prompt": "q"}}, "Set stage: dpo"),
    ({"file_name": "rows.json", "num_samples": 0}, "num_samples is 0"),
    ({"ms_hub_url": "a/b"}, "ModelScope"),
    ({"om_hub_url": "a/b"}, "Modelers"),
    ({"script_url": "make.py"}, "not run"),
    ({"cloud_file_name": "s3://x"}, "cloud storage"),
    ({"formatting": "alpaca"}, "neither file_name nor hf_hub_url"),
]


@pytest.mark.parametrize(("info", "says"), WRONG, ids=lambda value: str(value)[:50])
def test_descriptions_that_cannot_be_used(folder: Path, info: dict[str, Any], says: str) -> None:
    write_info(folder, {"mine": info})
    problems = find_sources("mine", dataset_dir="data", stage="sft", max_samples=None).problems
    assert any(says in problem for problem in problems), problems
    assert all("'mine' in data/dataset_info.json" in problem for problem in problems)


@pytest.mark.parametrize(("text", "says"), [("{", "no JSON"), ("[]", "an object"), ('{"a": 1}', "an object")])
def test_a_file_that_is_no_list_of_data_sets(folder: Path, text: str, says: str) -> None:
    (folder / "data" / "dataset_info.json").write_text(text, encoding="utf-8")
    (problem,) = find_sources("a", dataset_dir="data", stage="sft", max_samples=None).problems
    assert says in problem


def test_keys_that_mean_nothing_are_said(folder: Path) -> None:
    write_info(folder, {"rows": {"file_name": "rows.json", "file_sha1": "0123"}})
    assert note(read(), "dataset")[2] == "rows: file_sha1 in dataset_info.json mean nothing"


def test_other_stages_read_other_columns(folder: Path) -> None:
    infos = {
        "texts": {"file_name": "rows.json", "columns": {"prompt": "text"}},
        "pairs": {
            "file_name": "rows.json",
            "ranking": True,
            "formatting": "sharegpt",
            "columns": {"messages": "talk", "chosen": "good", "rejected": "bad"},
        },
    }
    write_info(folder, infos)
    (text,) = config(stage="pt", dataset="texts", template=...).data_path or []
    assert (text["format_type"], text["columns"]) == ("text", {"text": "text"})
    (pair,) = config(stage="dpo", dataset="pairs", pref_beta=0.2).data_path or []
    assert pair["columns"] == {"messages": "talk", "chosen": "good", "rejected": "bad"}
    assert config(stage="dpo", dataset="pairs", pref_beta=0.2).dpo_beta == 0.2
    assert "is not true" in read(stage="dpo", dataset="texts").problems()[0]
    write_info(folder, {"rows": {"file_name": "rows.json"}})
    assert "texts to train on are one column" in read(stage="pt").problems()[0]


# ---- their own demonstration data ------------------------------------------------------------------------------------


def test_their_demonstration_data_is_read_whole(shared_data: Path) -> None:
    data = shared_data / "llamafactory"
    names = ["identity", "alpaca_en_demo", "alpaca_zh_demo", "glaive_toolcall_en_demo"]
    sources = find_sources(names, dataset_dir=str(data), stage="sft", max_samples=200)
    assert sources.problems == []
    for name, entry in zip(names, sources.entries, strict=True):
        rows = json.loads((data / f"{name}.json").read_text(encoding="utf-8"))[:200]
        found = read_conversations(parse_sources([entry]), input_separator="\n")
        assert len(found.conversations) == len(rows)
        for row, conversation in zip(rows, found.conversations, strict=True):
            if "instruction" in row:
                question = "\n".join(filter(None, (row["instruction"], row["input"])))
                assert [message.content for message in conversation.messages] == [question, row["output"]]
            else:
                assert len(conversation.messages) == len(row["conversations"])
                tools = [{"type": "function", "function": tool} for tool in json.loads(row["tools"] or "[]")]
                assert list(conversation.tools) == tools


def test_each_of_their_104_descriptions_is_used_or_refused_by_name(shared_data: Path) -> None:
    data = shared_data / "llamafactory"
    infos = json.loads((data / "dataset_info.json").read_text(encoding="utf-8"))
    usable = 0
    for name, info in infos.items():
        columns = info.get("columns", {})
        stage = "dpo" if info.get("ranking") else "pretrain" if set(columns) == {"prompt"} else "sft"
        sources = find_sources(name, dataset_dir=str(data), stage=stage, max_samples=None)
        assert all(f"data set {name!r}" in problem for problem in sources.problems)
        if not sources.problems:
            parse_sources(sources.entries)
            usable += 1
    assert (len(infos), usable) == (104, 84)
