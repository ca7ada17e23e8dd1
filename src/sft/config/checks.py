"""Rules across options. Each function is named for what it forbids and returns what it found, ready to be read.

Rules see values only: nothing here looks at files, the hub or the machine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import PurePath

from sft.config.candidate import Candidate, Unusable
from sft.config.data import COLUMN_NAMES, ROLE_MEANINGS
from sft.config.fewer_bits_checks import FEWER_BITS_RULES
from sft.config.learning_checks import LEARNING_RULES
from sft.config.model import SPECIAL_TOKENS
from sft.config.output import ALSO_WRITTEN
from sft.config.parallel_checks import PARALLEL_RULES
from sft.config.paths_checks import PATH_RULES
from sft.config.speed_checks import SPEED_REMARKS, SPEED_RULES
from sft.config.stage_checks import STAGE_REMARKS, STAGE_RULES
from sft.config.training_arguments import installed_enumerations, installed_trackers

Rule = Callable[[Candidate], Iterator[str]]

ADAPTER_OPTIONS = (
    "lora_r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "modules_to_save",
    "lora_bias",
    "use_rslora",
    "use_dora",
    "exclude_modules",
    "target_parameters",
    "layers_to_transform",
    "init_lora_weights",
    "loraplus_lr_ratio",
    "adapter_name_or_path",
)
INITIALISATIONS = ("default", "gaussian", "orthogonal", "olora", "pissa", "loftq")
EVAL_TASK_OPTIONS = (
    "eval_samples",
    "eval_max_prompt_tokens",
    "eval_engine",
    "eval_engine_python",
    "eval_engine_url",
    "eval_engine_args",
    "truthfulqa_scorer",
    "bleurt_checkpoint",
    "combined_weights",
    "allow_contamination",
)
STEP_OPTIONS = ("warmup_steps", "logging_steps", "eval_steps", "save_steps")


def find_problems(candidate: Candidate) -> list[str]:
    """Everything that the rules forbid."""
    return _collect(RULES, candidate)


def find_notes(candidate: Candidate) -> list[str]:
    """What is allowed and may surprise."""
    return _collect(REMARKS, candidate)


def _collect(rules: tuple[Rule, ...], candidate: Candidate) -> list[str]:
    found: list[str] = []
    for rule in rules:
        try:
            found.extend(rule(candidate))
        except Unusable:
            continue
    return found


def has_evaluation_data(candidate: Candidate) -> bool:
    return bool(candidate.eval_data_path) or candidate.validation_size > 0


def evaluates(candidate: Candidate) -> bool:
    """Whether an evaluation loss will be computed."""
    return bool(candidate.do_eval) and candidate.eval_strategy != "no" and has_evaluation_data(candidate)


def two_precisions(candidate: Candidate) -> Iterator[str]:
    for half, brain in (("fp16", "bf16"), ("fp16_full_eval", "bf16_full_eval")):
        if getattr(candidate, half) and getattr(candidate, brain):
            yield (
                f"{candidate.at(half)} and {candidate.at(brain)}: only one of the two can be used. "
                "Keep bf16 on Ampere and newer GPUs, fp16 on older ones."
            )


def half_precision_on_cpu(candidate: Candidate) -> Iterator[str]:
    if candidate.fp16 and candidate.use_cpu:
        yield f"{candidate.at('fp16')} with {candidate.at('use_cpu')}: float16 needs a GPU. Use bf16, or neither."


def pure_float16_training(candidate: Candidate) -> Iterator[str]:
    if candidate.dtype == "float16" and not candidate.use_lora:
        yield (
            f"{candidate.at('dtype')} for weights that are trained: most updates are too small for float16 and vanish. "
            "Leave dtype out and set fp16 (float32 weights, float16 computation), or use dtype bfloat16."
        )


def two_quantizations(candidate: Candidate) -> Iterator[str]:
    if candidate.load_in_4bit and candidate.load_in_8bit:
        yield f"{candidate.at('load_in_4bit')} and {candidate.at('load_in_8bit')}: choose one."


def quantization_without_adapter(candidate: Candidate) -> Iterator[str]:
    for name in ("load_in_4bit", "load_in_8bit"):
        if getattr(candidate, name) and not candidate.use_lora:
            yield f"{candidate.at(name)} without use_lora: quantized weights cannot be trained. Set use_lora to true."


def quantized_experts_alone(candidate: Candidate) -> Iterator[str]:
    if candidate.quantize_experts and not (candidate.load_in_4bit or candidate.load_in_8bit):
        yield (
            f"{candidate.at('quantize_experts')} without load_in_4bit or load_in_8bit: experts are held in as few bits "
            "as the other weights. Set load_in_4bit or load_in_8bit, or leave quantize_experts out."
        )


def adapter_options_without_adapter(candidate: Candidate) -> Iterator[str]:
    """An explicit ``use_lora: false`` beside default values is a switch somebody flips, not a mistake."""
    if candidate.use_lora:
        return
    for name in ADAPTER_OPTIONS:
        if candidate.is_given(name) and (candidate.differs(name) or not candidate.is_given("use_lora")):
            yield f"{candidate.at(name)} without use_lora would be ignored. Set use_lora to true, or leave {name} out."


def freezing_with_adapter(candidate: Candidate) -> Iterator[str]:
    """Under an adapter the whole model is frozen already."""
    if not candidate.use_lora:
        return
    for name, instead in (("trainable_layers", "layers_to_transform"), ("trainable_modules", "modules_to_save")):
        if getattr(candidate, name) is not None:
            yield (
                f"{candidate.at(name)} with use_lora: it chooses among the model's own weights, which an adapter "
                f"leaves frozen. Choose with {instead}, or leave use_lora out."
            )


def freezing_everything(candidate: Candidate) -> Iterator[str]:
    if candidate.trainable_layers == 0 and not candidate.trainable_modules:
        yield (
            f"{candidate.at('trainable_layers')} would train nothing. Give a number of layers, or leave it out to "
            "train them all."
        )
    if candidate.trainable_modules == [] and candidate.trainable_layers is None:
        yield f"{candidate.at('trainable_modules')} would train nothing. Name weights, or leave it out to train all."


def unknown_initialisation(candidate: Candidate) -> Iterator[str]:
    given = candidate.init_lora_weights
    if given in INITIALISATIONS or re.fullmatch(r"pissa_niter_[1-9]\d*", given):
        return
    reason = "needs options of its own that sft has not" if given in ("eva", "corda", "lora_ga") else "unknown"
    yield f"{candidate.at('init_lora_weights')} is {reason}. Choose among {', '.join(INITIALISATIONS)}, pissa_niter_16."


def initialisation_that_changes_quantised_weights(candidate: Candidate) -> Iterator[str]:
    """Both take their part out of the base weight; what is left would be rounded to 4 bits anew."""
    if not candidate.init_lora_weights.startswith(("pissa", "olora")) or candidate.adapter_name_or_path is not None:
        return
    for name in ("load_in_4bit", "load_in_8bit"):
        if getattr(candidate, name):
            yield (
                f"{candidate.at('init_lora_weights')} with {candidate.at(name)}: the adapter would start from other "
                "weights than the quantised ones and not fit the model. Use init_lora_weights default, or no "
                "quantisation."
            )


def start_that_makes_up_for_no_rounding(candidate: Candidate) -> Iterator[str]:
    """LoftQ begins with what 4 bits lost; DoRA would measure the lengths of its columns before that."""
    if candidate.init_lora_weights != "loftq" or candidate.adapter_name_or_path is not None:
        return
    if not candidate.load_in_4bit:
        yield (
            f"{candidate.at('init_lora_weights')} without load_in_4bit: there is no rounding to make up for. Set "
            "load_in_4bit, or init_lora_weights: default."
        )
    if candidate.use_dora:
        yield f"{candidate.at('init_lora_weights')} with {candidate.at('use_dora')}: choose one."


def token_added_twice(candidate: Candidate) -> Iterator[str]:
    plain, special = candidate.added_tokens or [], candidate.added_special_tokens or []
    for token in dict.fromkeys([*plain, *special]):
        if (plain + special).count(token) > 1:
            yield f"added_tokens, added_special_tokens: {token!r} is given twice. Keep one."
    if not all([*plain, *special]):
        yield "added_tokens, added_special_tokens: a token cannot be empty."


def merged_folder_without_adapter(candidate: Candidate) -> Iterator[str]:
    if candidate.merged_dir is not None and not candidate.use_lora:
        yield (
            f"{candidate.at('merged_dir')} without use_lora: there is no adapter to merge. "
            "Leave merged_dir out; model_dir gets the whole model."
        )


def merged_folder_over_adapter(candidate: Candidate) -> Iterator[str]:
    if candidate.merged_dir is not None and _same_path(candidate.merged_dir, candidate.model_dir):
        yield (
            f"{candidate.at('merged_dir')} and {candidate.at('model_dir')} are one folder, so that the merged model "
            "would overwrite the adapter. Use two folders, such as model_dir: adapter and merged_dir: merged."
        )


def folders_outside_run(candidate: Candidate) -> Iterator[str]:
    for name in ("model_dir", "merged_dir"):
        folder = getattr(candidate, name)
        if folder is None:
            continue
        path = PurePath(folder)
        if path.is_absolute() or ".." in path.parts or folder.startswith(("~", "\\")):
            yield f"{candidate.at(name)} leaves output_dir. Write a folder inside of it, such as final_model."
        elif path.parts and path.parts[0].startswith("checkpoint-"):
            yield f"{candidate.at(name)} looks like a checkpoint, which resuming would take it for. Use another name."


def output_over_input(candidate: Candidate) -> Iterator[str]:
    for name in ("model_name_or_path", "tokenizer_name_or_path", "adapter_name_or_path"):
        given = getattr(candidate, name)
        if given is not None and _same_path(given, candidate.output_dir):
            yield f"{candidate.at('output_dir')} is {name}: the run would write over its own input. Use another folder."


def resume_from_what_is_removed(candidate: Candidate) -> Iterator[str]:
    checkpoint = candidate.resume_from_checkpoint
    if not candidate.overwrite_output_dir or checkpoint in (None, "auto"):
        return
    if _is_inside(checkpoint, candidate.output_dir):
        yield (
            f"{candidate.at('resume_from_checkpoint')} is in output_dir, whose checkpoints "
            f"{candidate.at('overwrite_output_dir')} removes. Keep one of the two."
        )


def template_without_chat_template(candidate: Candidate) -> Iterator[str]:
    for name in ("chat_template", "chat_template_kwargs"):
        if getattr(candidate, name) and not candidate.use_chat_template:
            yield (
                f"{candidate.at(name)} with {candidate.at('use_chat_template')} would be ignored. Keep one of the two."
            )


def fallback_without_packing(candidate: Candidate) -> Iterator[str]:
    if candidate.is_given("packing_fallback") and candidate.packing_fallback != "refuse" and not candidate.packing:
        yield (
            f"{candidate.at('packing_fallback')} without packing would be ignored: nothing is packed. Set packing, or "
            "leave packing_fallback out."
        )


def two_held_out_sets(candidate: Candidate) -> Iterator[str]:
    if candidate.validation_size and candidate.eval_data_path:
        yield (
            f"{candidate.at('validation_size')} and {candidate.at('eval_data_path')}: the evaluation data comes from "
            "one of them. Leave the other out."
        )


def fractional_counts(candidate: Candidate) -> Iterator[str]:
    for name in (*STEP_OPTIONS, "validation_size"):
        value = getattr(candidate, name)
        if isinstance(value, float) and value > 1 and not value.is_integer():
            yield f"{candidate.at(name)}: from 1 on it is a count and must be whole; below 1 it is a share."


def no_steps(candidate: Candidate) -> Iterator[str]:
    if candidate.max_steps == 0:
        yield f"{candidate.at('max_steps')} trains nothing. Give at least 1, or -1 to go by num_train_epochs."


def evaluation_without_data(candidate: Candidate) -> Iterator[str]:
    measured = has_evaluation_data(candidate) or candidate.eval_tasks
    if measured or not candidate.do_eval or candidate.eval_strategy == "no":
        return
    for name in ("eval_strategy", "eval_steps"):
        if candidate.is_given(name) and not candidate.load_best_model_at_end:
            yield (
                f"{candidate.at(name)} without evaluation data would be ignored. Give eval_data_path, "
                f"validation_size or eval_tasks, or leave {name} out."
            )


def task_options_without_tasks(candidate: Candidate) -> Iterator[str]:
    if candidate.eval_tasks:
        return
    for name in EVAL_TASK_OPTIONS:
        if candidate.is_given(name):
            yield f"{candidate.at(name)} without eval_tasks would be ignored. Name the tasks, or leave it out."


def served_engine_without_adapter(candidate: Candidate) -> Iterator[str]:
    if candidate.eval_tasks and candidate.eval_engine != "in_process" and not candidate.use_lora:
        yield (
            f"{candidate.at('eval_engine')} without use_lora: a server is told of each new adapter, and a full "
            "fine-tuning has none. Set use_lora, or eval_engine: in_process."
        )


def best_model_without_evaluation(candidate: Candidate) -> Iterator[str]:
    if candidate.load_best_model_at_end and not evaluates(candidate):
        yield (
            f"{candidate.at('load_best_model_at_end')} needs an evaluation loss to compare by. Give eval_data_path or "
            "validation_size, with do_eval true and an eval_strategy other than no."
        )


def best_model_between_saves(candidate: Candidate) -> Iterator[str]:
    """Only checkpoints that were evaluated can be the best one."""
    if not candidate.load_best_model_at_end or candidate.eval_strategy == "no":
        return
    if candidate.save_strategy != candidate.eval_strategy:
        yield (
            f"{candidate.at('load_best_model_at_end')} needs checkpoints where it evaluates, but "
            f"{candidate.at('save_strategy')} and {candidate.at('eval_strategy')}. Make them equal."
        )
    elif candidate.save_strategy == "steps" and not _is_multiple(candidate.save_steps, candidate.eval_steps):
        yield (
            f"{candidate.at('load_best_model_at_end')} needs an evaluation at every checkpoint, but "
            f"{candidate.at('save_steps')} is no multiple of {candidate.at('eval_steps')}."
        )


def early_stop_without_evaluation(candidate: Candidate) -> Iterator[str]:
    if candidate.early_stopping_patience is not None and not evaluates(candidate):
        yield (
            f"{candidate.at('early_stopping_patience')} needs an evaluation loss to watch. Give eval_data_path or "
            "validation_size, with do_eval true and an eval_strategy other than no."
        )


def unknown_files(candidate: Candidate) -> Iterator[str]:
    for name in candidate.also_write:
        if name not in ALSO_WRITTEN:
            yield f"{candidate.at('also_write')}: {name} is none of {', '.join(ALSO_WRITTEN)}."


def schedule_without_evaluation(candidate: Candidate) -> Iterator[str]:
    if candidate.lr_scheduler_type in ("reduce_lr_on_plateau", "greedy") and not evaluates(candidate):
        yield (
            f"{candidate.at('lr_scheduler_type')} follows the evaluation loss, and there is none. Give eval_data_path "
            "or validation_size, or choose another schedule."
        )


def schedule_without_its_arguments(candidate: Candidate) -> Iterator[str]:
    needed = {
        "cosine_with_min_lr": ("min_lr", "min_lr_rate"),
        "cosine_warmup_with_min_lr": ("min_lr", "min_lr_rate"),
        "warmup_stable_decay": ("num_decay_steps",),
    }
    keys = needed.get(candidate.lr_scheduler_type)
    given = candidate.lr_scheduler_kwargs or {}
    if keys and not any(key in given for key in keys):
        yield (
            f"{candidate.at('lr_scheduler_type')} needs lr_scheduler_kwargs with {' or '.join(keys)}, such as "
            f"lr_scheduler_kwargs: {{{keys[-1]}: {100 if keys[-1] == 'num_decay_steps' else 0.1}}}."
        )


def unknown_to_transformers(candidate: Candidate) -> Iterator[str]:
    """Names that the installed transformers would refuse once the model is loaded."""
    enumerations = installed_enumerations()
    for name, owner in (("lr_scheduler_type", "SchedulerType"), ("optim", "OptimizerNames")):
        known = enumerations.get(owner, ())
        if known and candidate.differs(name) and getattr(candidate, name) not in known:
            near = ", ".join(_similar(str(getattr(candidate, name)), known))
            yield f"{candidate.at(name)} is not among the {len(known)} that transformers knows, such as {near}."


def unknown_trackers(candidate: Candidate) -> Iterator[str]:
    asked = candidate.report_to if isinstance(candidate.report_to, list) else [candidate.report_to]
    if asked in (["none"], ["all"]):
        return
    known = installed_trackers()
    for tracker in asked:
        if tracker in ("none", "all"):
            yield f"{candidate.at('report_to')}: {tracker} stands alone, not in a list."
        elif known and tracker not in known:
            yield f"{candidate.at('report_to')}: {tracker} is no tracker. Known are: {', '.join(known)}, all, none."


def unknown_columns(candidate: Candidate) -> Iterator[str]:
    for key in candidate.columns:
        if key not in COLUMN_NAMES:
            yield (
                f"{candidate.at('columns')}: {key} is no column of any format. Keys are {', '.join(COLUMN_NAMES)}; "
                "values are the names in your data."
            )


def unknown_roles(candidate: Candidate) -> Iterator[str]:
    for role, meaning in candidate.role_names.items():
        if meaning not in ROLE_MEANINGS:
            yield (
                f"{candidate.at('role_names')}: {role} cannot mean {meaning}. Values are {', '.join(ROLE_MEANINGS)}; "
                "keys are the names in your data."
            )


def unknown_special_tokens(candidate: Candidate) -> Iterator[str]:
    for key, token in candidate.special_tokens.items():
        if key not in SPECIAL_TOKENS:
            yield f"{candidate.at('special_tokens')}: {key} is no part. Keys are {', '.join(SPECIAL_TOKENS)}."
        elif not token:
            yield f"{candidate.at('special_tokens')}: {key} is empty. Name a token, or leave {key} out."


def unusable_sources(candidate: Candidate) -> Iterator[str]:
    for name in ("data_path", "eval_data_path"):
        sources = getattr(candidate, name)
        if sources == []:
            yield f"{candidate.at(name)}: the list is empty. Give a file, folder or hub data set, or leave it out."
        for number, source in enumerate(sources if isinstance(sources, list) else [], start=1):
            has_path = isinstance(source, dict) and isinstance(source.get("path"), str) and source["path"]
            if not has_path and not (isinstance(source, str) and source):
                yield f"{candidate.at(name)}: entry {number} must be a path, or a mapping with path."


def workers_that_are_not_there(candidate: Candidate) -> Iterator[str]:
    for name in ("dataloader_prefetch_factor", "dataloader_persistent_workers"):
        if getattr(candidate, name) and candidate.dataloader_num_workers == 0:
            yield f"{candidate.at(name)} needs worker processes. Set dataloader_num_workers, or leave {name} out."


def two_shardings(candidate: Candidate) -> Iterator[str]:
    if candidate.deepspeed and candidate.fsdp:
        yield f"{candidate.at('deepspeed')} and {candidate.at('fsdp')}: choose one."


def epochs_beside_steps(candidate: Candidate) -> Iterator[str]:
    if candidate.max_steps > 0 and candidate.is_given("num_train_epochs"):
        yield f"{candidate.at('max_steps')} decides how long to train; {candidate.at('num_train_epochs')} is not used"


def intervals_not_used(candidate: Candidate) -> Iterator[str]:
    for steps, strategy in (("save_steps", "save_strategy"), ("eval_steps", "eval_strategy")):
        if candidate.is_given(steps) and getattr(candidate, strategy) != "steps":
            yield f"{candidate.at(steps)} is not used: {candidate.at(strategy)}"


def warm_up_not_used(candidate: Candidate) -> Iterator[str]:
    if candidate.is_given("warmup_steps") and candidate.warmup_steps and candidate.lr_scheduler_type == "constant":
        yield f"{candidate.at('warmup_steps')} is not used by lr_scheduler_type constant; constant_with_warmup uses it"


def warm_up_to_the_end(candidate: Candidate) -> Iterator[str]:
    if 0 < candidate.max_steps < candidate.warmup_steps:
        yield (
            f"{candidate.at('warmup_steps')} is more than {candidate.at('max_steps')}: "
            "the learning rate never reaches its peak"
        )


def evaluation_switched_off(candidate: Candidate) -> Iterator[str]:
    if has_evaluation_data(candidate) and not (candidate.do_eval and candidate.eval_strategy != "no"):
        name = "eval_data_path" if candidate.eval_data_path else "validation_size"
        switch = "eval_strategy" if candidate.do_eval else "do_eval"
        yield f"{candidate.at(name)} is not evaluated: {candidate.at(switch)}"


def evaluation_on_training_data(candidate: Candidate) -> Iterator[str]:
    if candidate.eval_data_path and candidate.eval_data_path == candidate.data_path:
        yield f"{candidate.at('eval_data_path')} is the training data too: its loss says nothing about new data"


def questions_not_asked(candidate: Candidate) -> Iterator[str]:
    for name in ("gen_every_n_steps", "gen_max_new_tokens"):
        if candidate.is_given(name) and candidate.gen_questions_file is None:
            yield f"{candidate.at(name)} is not used: there is no gen_questions_file"


def shape_of_a_loaded_adapter(candidate: Candidate) -> Iterator[str]:
    if candidate.adapter_name_or_path is None:
        return
    for name in ADAPTER_OPTIONS:
        if name not in ("adapter_name_or_path", "loraplus_lr_ratio") and candidate.is_given(name):
            yield f"{candidate.at(name)} is not used: adapter_name_or_path brings its own"


def quantisation_details_not_used(candidate: Candidate) -> Iterator[str]:
    if candidate.load_in_4bit:
        return
    for name in ("bnb_4bit_quant_type", "bnb_4bit_use_double_quant", "bnb_4bit_compute_dtype"):
        if candidate.is_given(name):
            yield f"{candidate.at(name)} is not used: {candidate.at('load_in_4bit')}"


def checkpointing_arguments_not_used(candidate: Candidate) -> Iterator[str]:
    if candidate.gradient_checkpointing_kwargs and not candidate.gradient_checkpointing:
        yield f"{candidate.at('gradient_checkpointing_kwargs')} is not used: {candidate.at('gradient_checkpointing')}"


def _similar(text: str, known: tuple[str, ...]) -> list[str]:
    containing = [name for name in known if text.lower() in name]
    return (containing or get_close_matches(text, known, n=3, cutoff=0.4) or list(known))[:3]


def _is_multiple(save_steps: float, eval_steps: float) -> bool:
    """Shares are compared as transformers does, in millionths; a share and a count cannot be compared."""
    if (save_steps < 1) != (eval_steps < 1):
        return False
    return round(save_steps * 1_000_000) % round(eval_steps * 1_000_000) == 0


def _same_path(first: str, second: str) -> bool:
    return os.path.normpath(first) == os.path.normpath(second)


def _is_inside(path: str, folder: str) -> bool:
    inner, outer = PurePath(os.path.normpath(path)), PurePath(os.path.normpath(folder))
    return inner == outer or outer in inner.parents


def lengths_that_leave_nothing(candidate: Candidate) -> Iterator[str]:
    if candidate.min_length > candidate.max_length:
        yield (
            f"{candidate.at('min_length')} is more than {candidate.at('max_length')}, so that no example is left. Make "
            "min_length smaller, or max_length larger."
        )


RULES: tuple[Rule, ...] = (
    two_precisions,
    half_precision_on_cpu,
    pure_float16_training,
    two_quantizations,
    quantization_without_adapter,
    quantized_experts_alone,
    adapter_options_without_adapter,
    freezing_with_adapter,
    freezing_everything,
    unknown_initialisation,
    initialisation_that_changes_quantised_weights,
    start_that_makes_up_for_no_rounding,
    token_added_twice,
    merged_folder_without_adapter,
    merged_folder_over_adapter,
    folders_outside_run,
    output_over_input,
    resume_from_what_is_removed,
    template_without_chat_template,
    fallback_without_packing,
    two_held_out_sets,
    fractional_counts,
    lengths_that_leave_nothing,
    no_steps,
    evaluation_without_data,
    task_options_without_tasks,
    served_engine_without_adapter,
    best_model_without_evaluation,
    best_model_between_saves,
    early_stop_without_evaluation,
    unknown_files,
    schedule_without_evaluation,
    schedule_without_its_arguments,
    unknown_to_transformers,
    unknown_trackers,
    unknown_columns,
    unknown_roles,
    unknown_special_tokens,
    unusable_sources,
    workers_that_are_not_there,
    two_shardings,
    *PARALLEL_RULES,
    *FEWER_BITS_RULES,
    *SPEED_RULES,
    *PATH_RULES,
    *STAGE_RULES,
    *LEARNING_RULES,
)

REMARKS: tuple[Rule, ...] = (
    *SPEED_REMARKS,
    epochs_beside_steps,
    intervals_not_used,
    warm_up_not_used,
    warm_up_to_the_end,
    evaluation_switched_off,
    evaluation_on_training_data,
    questions_not_asked,
    shape_of_a_loaded_adapter,
    quantisation_details_not_used,
    checkpointing_arguments_not_used,
    *STAGE_REMARKS,
)
