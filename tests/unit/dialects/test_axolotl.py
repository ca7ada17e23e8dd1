from __future__ import annotations

from typing import Any

import pytest

from sft.config import RawValue, SFTConfig
from sft.data.formats import FORMATS, FormatOptions
from sft.data.sources import parse_sources
from sft.data.templates import read_template
from sft.data.types import Row, Source
from sft.dialects import Translation, recognise, translate
from sft.errors import ConfigError

SHORT: dict[str, Any] = {
    "base_model": "some/model",
    "datasets": [{"path": "rows.jsonl", "type": "alpaca"}],
    "learning_rate": "2e-4",
}
CHAT = {"path": "talks.jsonl", "type": "chat_template"}


def read(**values: Any) -> Translation:
    raw = {key: RawValue(value, "train.yml:1") for key, value in {**SHORT, **values}.items()}
    assert recognise(raw) == "axolotl"
    return translate(raw, "axolotl")


def as_config(**values: Any) -> SFTConfig:
    return SFTConfig(**read(**values).accepted())


def status(translation: Translation, key: str) -> str:
    (found,) = [note for note in translation.notes if note.key == key]
    return found.status


def test_silence_gives_axolotls_defaults_and_says_so() -> None:
    config = as_config()
    assert (config.max_length, config.num_train_epochs, config.per_device_train_batch_size) == (512, 1, 1)
    assert (config.gradient_accumulation_steps, config.optim, config.lr_scheduler_type) == (
        1,
        "adamw_torch_fused",
        "cosine",
    )
    assert (config.save_strategy, config.save_total_limit, config.logging_steps) == ("epoch", 4, 0.005)
    assert (config.bf16, config.dtype, config.use_lora) == (True, "bfloat16", False)
    assert (config.warmup_steps, config.output_dir, config.overlong) == (0.03, "./model-out", "drop")
    assert config.origins["optim"] == "default of axolotl"


def test_empty_values_are_as_if_they_were_not_there() -> None:
    empty = dict.fromkeys(
        ("adapter", "lora_r", "load_in_4bit", "resume_from_checkpoint", "wandb_project", "special_tokens", "deepspeed",
         "fsdp_config", "eval_steps", "fp16", "weight_decay", "no_such_key")
    )  # fmt: skip
    translation = read(**empty)
    assert SFTConfig(**translation.accepted()) == as_config()
    assert {status(translation, key) for key in empty} == {"ignored"}


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({}, (False, False, False)),
        ({"adapter": "lora"}, (True, False, False)),
        ({"adapter": "lora", "load_in_8bit": True}, (True, False, True)),
        ({"adapter": "qlora"}, (True, True, False)),
        ({"adapter": "qlora", "load_in_4bit": True}, (True, True, False)),
    ],
)
def test_what_is_trained(given: dict[str, Any], meant: tuple[bool, bool, bool]) -> None:
    config = as_config(**given)
    assert (config.use_lora, config.load_in_4bit, config.load_in_8bit) == meant


def test_keys_of_an_adapter_mean_nothing_without_one() -> None:
    translation = read(lora_r=8, lora_target_linear=True, lora_target_modules=["q_proj"], peft_use_dora=True)
    assert SFTConfig(**translation.accepted()) == as_config()
    assert status(translation, "lora_r") == "ignored"


@pytest.mark.parametrize("order", [1, -1])
def test_linear_targets_cover_those_that_are_named(order: int) -> None:
    keys = {"lora_target_linear": True, "lora_target_modules": ["q_proj"]}
    assert as_config(adapter="lora", **dict(list(keys.items())[::order])).target_modules == "all-linear"
    assert as_config(adapter="lora", lora_target_modules=["q_proj"]).target_modules == ["q_proj"]


@pytest.mark.parametrize(
    ("given", "save", "evaluation"),
    [
        ({"saves_per_epoch": 1, "num_epochs": 1}, ("epoch", 500), ("epoch", 500)),
        ({"saves_per_epoch": 1, "num_epochs": 4}, ("steps", 0.25), ("epoch", 500)),
        ({"evals_per_epoch": 4, "num_epochs": 2}, ("epoch", 500), ("steps", 0.125)),
        ({"evals_per_epoch": 0}, ("epoch", 500), ("no", 500)),
        ({"save_steps": 30, "eval_steps": 0.1}, ("steps", 30), ("steps", 0.1)),
        ({"save_strategy": "no", "eval_strategy": "epoch"}, ("no", 500), ("epoch", 500)),
    ],
)
def test_counts_per_epoch_are_shares_of_all_steps(
    given: dict[str, Any], save: tuple[str, float], evaluation: tuple[str, float]
) -> None:
    config = as_config(val_set_size=0.1, **given)
    assert (config.save_strategy, config.save_steps) == save
    assert (config.eval_strategy, config.eval_steps) == evaluation


def test_nothing_is_evaluated_without_data() -> None:
    translation = read(val_set_size=0.0, evals_per_epoch=4)
    assert SFTConfig(**translation.accepted()).validation_size == 0
    assert status(translation, "evals_per_epoch") == "ignored"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"bf16": "auto"}, (True, False)),
        ({"bf16": "auto", "fp16": True}, (False, True)),
        ({"bf16": True, "fp16": True}, (True, False)),
        ({"bf16": False}, (False, False)),
        ({"bf16": False, "fp16": True}, (False, True)),
    ],
)
def test_precision(given: dict[str, Any], meant: tuple[bool, bool]) -> None:
    config = as_config(**given)
    assert (config.bf16, config.fp16) == meant
    assert config.dtype == ("bfloat16" if config.bf16 else None)


def test_weights_trained_in_float16_are_held_in_float32() -> None:
    config = as_config(float16=True, bf16=False, fp16=False)
    assert (config.fp16, config.dtype) == (True, None)
    assert as_config(float16=True, bf16=False, adapter="lora").dtype == "float16"


def test_a_floor_under_the_cosine_is_a_schedule_of_its_own() -> None:
    config = as_config(lr_scheduler="cosine", cosine_min_lr_ratio=0.1)
    assert config.lr_scheduler_type == "cosine_with_min_lr"
    assert config.training_arguments["lr_scheduler_kwargs"] == {"min_lr_rate": 0.1}


def test_batch_size_is_a_product() -> None:
    assert as_config(batch_size=8, micro_batch_size=2).gradient_accumulation_steps == 4
    assert as_config(batch_size=8, gradient_accumulation_steps=2).gradient_accumulation_steps == 2
    assert status(read(batch_size=3, micro_batch_size=2), "batch_size") == "refused"


def test_alpaca_rows_are_written_as_there() -> None:
    config = as_config(chat_template="llama3")
    assert (config.chat_template, config.input_separator) == ("axolotl_alpaca", "\n\n### Input:\n")
    assert config.data_path == [{"path": "rows.jsonl", "format_type": "alpaca"}]
    chat = as_config(datasets=[{"path": "rows.jsonl", "type": "alpaca:chat"}])
    assert chat.chat_template == "axolotl_alpaca_chat"


def test_alpaca_chat_is_the_text_of_its_prompter() -> None:
    import jinja2

    written = jinja2.Template(read_template("axolotl_alpaca_chat")).render(
        messages=[
            {"role": "user", "content": "Add.\n\n### Input:\n2 and 3"},
            {"role": "assistant", "content": "5"},
        ],
        eos_token="</s>",
    )
    assert written == (
        "SYSTEM: Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\nUSER: Add.\n2 and 3\nASSISTANT:5</s>"
    )


PAIRED = "paired with an input that provides further context"


def test_alpaca_phi_is_the_text_of_its_prompter() -> None:
    """axolotl writes a row with input and one without differently around their ends; so does the template."""
    import jinja2

    assert as_config(datasets=[{"path": "rows.jsonl", "type": "alpaca:phi"}]).chat_template == "axolotl_alpaca_phi"
    template = jinja2.Template(read_template("axolotl_alpaca_phi"))
    head = "Below is an instruction that describes a task{}. Write a response that appropriately completes the request."
    for question, opening, turn in (
        ("Add.\n\n### Input:\n2 and 3", f", {PAIRED}", "Add.<|end|>2 and 3<|assistant|>"),
        ("Add.", "", "Add.<|end|>\n<|assistant|>\n"),
    ):
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": "5"}]
        written = template.render(messages=messages, eos_token="</s>")
        assert written == f"<|system|>\n{head.format(opening)}<|end|>\n<|user|>\n{turn}5</s>"


def test_jeopardy_rows_are_questions_with_a_category_and_answers_put_as_questions() -> None:
    config = as_config(datasets=[{"path": "rows.jsonl", "type": "jeopardy"}])
    assert (config.chat_template, config.input_separator) == ("axolotl_alpaca", "\n\n### Input:\n")
    [source] = parse_sources(config.data_path or "")
    row = Row({"question": "It is 3.14", "category": "numbers", "answer": "pi"}, Source("rows.jsonl", 1))
    options = FormatOptions(
        columns=source.columns, response_prefix=source.response_prefix, input_separator=config.input_separator or ""
    )
    said = [message.content for message in FORMATS[source.format_type or ""](row, options).messages]
    assert said == ["It is 3.14\n\n### Input:\nnumbers", "what is pi"]


def test_rows_without_a_type_are_token_ids() -> None:
    ids = {"path": "ids.parquet", "type": None}
    config = as_config(datasets=[ids])
    assert (config.data_path, config.stage, config.chat_template) == (
        [{"path": "ids.parquet", "format_type": "tokens"}], "sft", None,
    )  # fmt: skip
    assert as_config(datasets=[ids], chat_template="chatml").chat_template == "chatml"
    assert as_config(datasets=[ids, {"path": "rows.jsonl", "type": "alpaca"}]).chat_template == "axolotl_alpaca"
    assert status(read(datasets=[ids], train_on_inputs=True), "train_on_inputs") == "ignored"
    mixed = read(datasets=[ids, {"path": "t", "type": "completion"}])
    assert [note.key for note in mixed.notes if note.status == "refused"] == ["datasets"]


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({"do_causal_lm_eval": True, "eval_causal_lm_metrics": ["perplexity"]}, None),
        ({"do_causal_lm_eval": True, "eval_causal_lm_metrics": ["perplexity", "chrf"]}, "eval_causal_lm_metrics"),
        ({"do_causal_lm_eval": True}, "do_causal_lm_eval"),
        ({"do_causal_lm_eval": False, "eval_causal_lm_metrics": ["chrf"]}, None),
        ({"eval_causal_lm_metrics": ["chrf"]}, None),
    ],
)
def test_perplexity_is_ours_and_other_metrics_are_refused_by_name(given: dict[str, Any], refused: str | None) -> None:
    translation = read(**given)
    assert [note.key for note in translation.notes if note.status == "refused"] == ([refused] if refused else [])
    assert {note.key for note in translation.notes} >= set(given)


def test_the_old_name_of_packing() -> None:
    assert as_config(sequence_len=64, max_packed_sequence_len=64).packing is True
    assert as_config(sequence_len=64, max_packed_sequence_len=64, sample_packing=False).packing is False
    assert status(read(sequence_len=64, max_packed_sequence_len=128), "max_packed_sequence_len") == "refused"


def test_entropy_adaptive_losses() -> None:
    config = as_config(use_eaft=True)
    assert (config.eaft_alpha, config.eaft_top_k, config.eaft_divisor) == (1.0, 20, 1.0)
    config = as_config(use_eaft=True, eaft_alpha=2, eaft_k=10)
    assert (config.eaft_alpha, config.eaft_top_k, config.eaft_divisor) == (2.0, 10, 1.0)
    assert as_config(use_eaft=False, eaft_alpha=2).eaft_alpha is None


def test_layers_that_take_turns() -> None:
    config = as_config(lisa_n_layers=4, lisa_step_interval=7, lisa_layers_attribute="model.layers")
    assert (config.lisa_layers, config.lisa_interval) == (4, 7)
    alone = read(lisa_n_layers=4)
    assert status(alone, "lisa_n_layers") == "ignored"
    assert "lisa_layers" not in alone.values


def test_adapters_and_rates_that_begin_anew() -> None:
    restarts = {"adapter": "lora", "relora": True, "jagged_restart_steps": 150}
    config = as_config(**restarts, jagged_restart_anneal_steps=False, relora_prune_ratio=0.8, relora_cpu_offload=True)
    assert (config.relora_steps, config.relora_prune_method, config.relora_prune_ratio) == (150, "magnitude", 0.8)
    assert (config.lr_restart_steps, config.lr_restart_warmup_steps, config.lr_restart_anneal_steps) == (150, 10, 1)
    config = as_config(**restarts, relora_prune_method="reset", jagged_restart_warmup_steps=3)
    assert (config.relora_prune_method, config.relora_prune_ratio) == ("random", 0.999)
    assert config.lr_restart_warmup_steps == 3
    assert as_config(jagged_restart_steps=9, jagged_restart_warmup_steps=2).relora_steps is None
    assert status(read(adapter="lora", relora=True), "relora") == "refused"
    assert status(read(jagged_restart_warmup_steps=3), "jagged_restart_warmup_steps") == "ignored"


def test_rows_left_out() -> None:
    config = as_config(dataset_exact_deduplication=True, min_sample_len=10)
    assert (config.deduplicate, config.min_length) == (True, 10)


def test_turns_under_other_names() -> None:
    entry = {
        **CHAT,
        "field_messages": "talk",
        "message_property_mappings": {"role": "who", "content": "said"},
        "roles": {"assistant": ["bot", "helper"], "user": ["guest"]},
        "split": "train[:20%]",
        "name": "part",
        "revision": "abc",
        "shards": 4,
        "drop_system_message": True,
    }
    assert as_config(datasets=[entry]).data_path == [
        {
            "path": "talks.jsonl",
            "subset": "part",
            "split": "train[:20%]",
            "revision": "abc",
            "format_type": "messages",
            "columns": {"messages": "talk"},
            "role_key": "who",
            "content_key": "said",
            "role_names": {"bot": "assistant", "helper": "assistant", "guest": "user"},
            "weight": 0.25,
            "drop_system": True,
        }
    ]


def test_the_template_of_a_chat() -> None:
    assert as_config(datasets=[CHAT]).chat_template == "own"
    assert as_config(datasets=[CHAT], chat_template="tokenizer_default").chat_template == "own"
    assert as_config(datasets=[CHAT], chat_template="phi_3").chat_template == "phi3"
    assert as_config(datasets=[CHAT], chat_template="cohere").chat_template == "own"
    assert as_config(datasets=[CHAT], chat_template_jinja="{{ messages }}").chat_template == "{{ messages }}"
    assert as_config(datasets=[CHAT], chat_template="tokenizer_default_fallback_chatml").chat_template is None
    assert as_config(datasets=[{**CHAT, "chat_template": "llama3"}]).chat_template == "llama3"


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"roles_to_train": ["assistant", "user"]}, "datasets[1].roles_to_train"),
        ({"train_on_eos": "last"}, "datasets[1].train_on_eos"),
        ({"train_on_eot": "none"}, "datasets[1].train_on_eot"),
        ({"message_field_training_detail": "detail"}, "datasets[1].message_field_training_detail"),
        ({"field_thinking": "thoughts"}, "datasets[1].field_thinking"),
        ({"type": "sharegpt"}, "datasets[1].type"),
        ({"path": None}, "datasets[1].path"),
        ({"fild_messages": "x"}, "datasets[1].fild_messages"),
    ],
)
def test_what_a_data_set_cannot_have_is_refused_by_its_own_key(changed: dict[str, Any], key: str) -> None:
    assert status(read(datasets=[{**CHAT, **changed}]), key) == "refused"


def test_data_sets_of_types_with_different_texts_are_refused() -> None:
    translation = read(datasets=[SHORT["datasets"][0], CHAT])
    assert any(problem.startswith("datasets:") and "a template each" in problem for problem in translation.problems())
    both = as_config(datasets=[{"path": "t.txt.jsonl", "type": "completion", "field": "body"}, CHAT])
    assert both.data_path[0] == {"path": "t.txt.jsonl", "format_type": "text", "columns": {"text": "body"}}  # type: ignore[index]


def test_texts_alone_are_pretrained_on_every_token() -> None:
    text = {"path": "t.jsonl", "type": "completion", "field": "body"}
    config = as_config(datasets=[text], sample_packing=True, excess_length_strategy="truncate", train_on_inputs=True)
    assert (config.stage, config.isolate_documents, config.packing) == ("pretrain", True, False)
    assert config.data_path == [{"path": "t.jsonl", "format_type": "text", "columns": {"text": "body"}}]
    assert as_config(datasets=[text, CHAT]).stage == "sft"


def test_files_by_name() -> None:
    entry = {"path": "json", "type": "alpaca", "data_files": ["a.jsonl", "b.jsonl"], "ds_type": "json"}
    assert [one["path"] for one in as_config(datasets=[entry]).data_path] == ["a.jsonl", "b.jsonl"]  # type: ignore[union-attr, index]
    hub = {"path": "owner/set", "type": "alpaca", "data_files": "a/b.jsonl"}
    assert as_config(datasets=[hub]).data_path == [
        {"path": "owner/set", "format_type": "alpaca", "data_files": ["a/b.jsonl"]}
    ]


def test_held_out_data() -> None:
    config = as_config(test_datasets=[{"path": "dev.jsonl", "type": "alpaca"}], evals_per_epoch=1)
    assert config.eval_data_path == [{"path": "dev.jsonl", "format_type": "alpaca"}]
    assert as_config(val_set_size=0.05).validation_size == 0.05


def test_tokens() -> None:
    parts = {"eos_token": "<|im_end|>", "bos_token": "<s>", "pad_token": "<pad>", "additional_special_tokens": ["<t>"]}
    config = as_config(special_tokens=parts, tokens=["<|im_start|>"])
    assert config.special_tokens == {"eos_token": "<|im_end|>", "bos_token": "<s>"}
    assert (config.added_special_tokens, config.added_tokens) == (["<t>"], ["<|im_start|>"])
    assert as_config(tokens={"eos_token": "</s>"}).special_tokens == {"eos_token": "</s>"}


def test_weights_that_are_trained_are_found_as_there() -> None:
    """Patterns begin at the beginning of a name and their dots are dots."""
    import re

    patterns = as_config(unfrozen_parameters=["^lm_head.weight$", "model.layers.4[4-9]+.mlp"]).trainable_modules
    assert patterns is not None

    def chosen(name: str) -> bool:
        return any(re.search(pattern, name) for pattern in patterns)

    assert chosen("lm_head.weight")
    assert chosen("model.layers.45.mlp.up_proj.weight")
    assert not chosen("model.layers.43.mlp.up_proj.weight")
    assert not chosen("base.model.layers.45.mlp.up_proj.weight")
    assert not chosen("lm_head_weight")
    assert status(read(unfrozen_parameters=["model.embed_tokens.weight$[:32000]"]), "unfrozen_parameters") == "refused"


@pytest.mark.parametrize("prefix", ["", "fsdp_"])
def test_sharding_is_fsdp_2_with_the_settings_of_the_file(prefix: str) -> None:
    settings = {"offload_params": True, "transformer_layer_cls_to_wrap": "LlamaDecoderLayer", "use_orig_params": False,
                "activation_checkpointing": True, "sharding_strategy": "FULL_SHARD"}  # fmt: skip
    translation = read(
        fsdp_config={f"{prefix}{key}": value for key, value in settings.items()}, gradient_checkpointing=True
    )
    config = SFTConfig(**translation.accepted())
    assert config.training_arguments["fsdp_config"] == {
        "version": 2,
        "cpu_offload": True,
        "transformer_layer_cls_to_wrap": "LlamaDecoderLayer",
        "activation_checkpointing": True,
        "reshard_after_forward": True,
    }
    assert config.gradient_checkpointing is False, "transformers refuses both"


def test_attention_and_checkpointing() -> None:
    assert as_config(flash_attention=True).attn_implementation == "flash_attention_2"
    assert as_config(attn_implementation="xformers").attn_implementation == "sdpa"
    assert as_config(gradient_checkpointing="offload").gradient_checkpointing is True
    assert as_config(activation_offloading=True, gradient_checkpointing=False).gradient_checkpointing is True
    assert status(read(attn_implementation="sage"), "attn_implementation") == "refused"


def test_trackers() -> None:
    assert as_config(use_tensorboard=True, wandb_project="p").report_to == ["tensorboard", "wandb"]
    assert as_config(wandb_project="p", wandb_name="n").report_to == ["wandb"]
    assert as_config(use_wandb=False, wandb_project="p").report_to == "none"


def test_processes_that_share_rows_layers_and_experts() -> None:
    both = as_config(context_parallel_size=2, tensor_parallel_size=2, dp_shard_size=2, dp_replicate_size=2)
    assert (both.context_parallel_size, both.tensor_parallel_size, both.dp_replicate_size) == (2, 2, 2)
    assert as_config(sequence_parallel_degree=4).context_parallel_size == 4
    plugin = "axolotl.integrations.expert_parallel.ExpertParallelPlugin"
    assert as_config(expert_parallel_size=4, plugins=[plugin]).expert_parallel_size == 4
    translation = read(context_parallel_size=2, flash_attention=True)
    assert status(translation, "flash_attention") == "ignored"
    assert "attn_implementation" not in translation.values


def test_plugins_change_speed_or_are_refused_by_name() -> None:
    translation = read(plugins=["axolotl.integrations.liger.LigerPlugin", "my.own.CleverPlugin"])
    assert status(translation, "plugins[1]") == "ignored"
    assert status(translation, "plugins[2]") == "refused"
    with pytest.raises(ConfigError, match="CleverPlugin"):
        translation.accepted()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rl", "dpo"),
        ("llama4_linearized_experts", True),
        ("processor_type", "AutoProcessor"),
        ("adapter", "llama-adapter"),
        ("sequence_length", 512),
        ("excess_length_strategy", "wrap"),
        ("peft_init_lora_weights", False),
    ],
)
def test_what_we_have_not_is_refused_by_name(key: str, value: Any) -> None:
    changed = {"adapter": "lora", key: value}
    assert status(read(**changed), key) == "refused"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("relora", False),
        ("context_parallel_size", 1),
        ("qat", {}),
        ("shuffle_merged_datasets", True),
        ("shuffle_merged_datasets", False),
        ("sample_packing_sequentially", True),
        ("curriculum_sampling", False),
        ("strict", False),
    ],
)
def test_values_that_ask_for_nothing_are_no_refusal(key: str, value: Any) -> None:
    assert status(read(**{key: value}), key) == "ignored"


def test_a_curriculum_keeps_the_order_of_the_data() -> None:
    assert as_config(curriculum_sampling=True).train_sampling_strategy == "sequential"
    assert as_config().train_sampling_strategy == "random"


def test_overlong_rows() -> None:
    chosen = {name: as_config(excess_length_strategy=name).overlong for name in ("drop", "truncate", "raise")}
    assert chosen == {"drop": "drop", "truncate": "cut_end", "raise": "error"}


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ({"format": "{instruction}"}, "{input} once"),
        ({"format": "{input} {instruction}"}, "once after it"),
        ({"format": "[{instruction} {input}]", "no_input_format": "({instruction})"}, "differ around the instruction"),
        ({"format": "{instruction} {input} ", "system_format": "none"}, "{system} once"),
        ({"formt": "x"}, "there is no such key"),
    ],
)
def test_prompts_that_no_template_can_write_are_refused(kind: dict[str, str], says: str) -> None:
    problems = read(datasets=[{"path": "d.jsonl", "type": kind}]).problems()
    assert any(says in problem for problem in problems)


def test_missing_keys_are_named() -> None:
    problems = translate({"base_model": RawValue("m", "f:1")}, "axolotl").problems()
    assert [problem.partition(":")[0] for problem in problems] == ["datasets", "learning_rate"]
