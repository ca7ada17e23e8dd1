"""The objects of a run: model, rows of tokens, trainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from sft.config import SFTConfig
from sft.data.collate import Collator, Stretch, TrainingRows
from sft.data.prepare import PreparedData, make_renderer
from sft.data.token_batches import RowGroups
from sft.data.types import Example
from sft.errors import ConfigError, ModelError
from sft.generation.in_process import generate
from sft.models.adapters import add_adapter
from sft.models.added_tokens import add_embedding_rows, refuse_frozen_rows, trained_rows
from sft.models.attention import attend_by_document, uses_documents
from sft.models.context import ContextGroup
from sft.models.experts import balance_experts, quantise_experts
from sft.models.families import model_type_of, refuse_packing
from sft.models.freezing import train_only
from sft.models.load import load_model, read_model_config
from sft.models.loftq import START as LOFTQ
from sft.models.loftq import make_up_for_rounding
from sft.models.precision import dtype_of
from sft.models.quantization import is_quantised, quantization_of
from sft.training.adapter_restarts import adapter_restarts, rate_restarts, refuse_restarts_in_pieces
from sft.training.also_write import TrainerLog
from sft.training.base import RunTrainer
from sft.training.callbacks import AnsweredQuestions, MetricsFile
from sft.training.care import take_care
from sft.training.dead_adapters import DeadAdapters
from sft.training.dpo_run import preference_trainer
from sft.training.early_stopping import StopEarly
from sft.training.fewer_bits import fewer_bits_callbacks
from sft.training.going_on import how_to_go_on
from sft.training.isolation import prove_isolation
from sft.training.launch import announce
from sft.training.layers_in_turn import layers_in_turn, refuse_turns_in_pieces
from sft.training.mesh import Mesh, refuse_tied
from sft.training.optimizer import refuse_foreign_optimizer
from sft.training.parallel import trains_on_cpu
from sft.training.plan import Plan
from sft.training.progress import Progress
from sft.training.run_log import LoggedFigures
from sft.training.shared_rows import share_proven_rows
from sft.training.speed import apply_speed, speed_callbacks
from sft.training.stacks import StackWatch
from sft.training.strategy import asked_strategy
from sft.training.token_figures import TokenFigures
from sft.training.token_weights import token_weight
from sft.training.trainer import WalkTrainer

WITNESS_TOKENS = 64
"""Length near which examples are chosen for the proof of isolation: enough to show a leak, and quick."""


@dataclass(frozen=True)
class Kernels:
    """Which implementations compute what, for the run record."""

    attention: str
    loss: str = "cross-entropy over trained positions"

    def to_dict(self) -> dict[str, str]:
        """Plain JSON values."""
        return {"attention": self.attention, "loss": self.loss}


def kernels_of(config: SFTConfig, model: PreTrainedModel) -> Kernels:
    """What computes attention and loss in a run."""
    attention = model.config._attn_implementation
    return Kernels(attention, f"TRL's DPO, {config.dpo_loss_type}") if config.stage == "dpo" else Kernels(attention)


def build_model(config: SFTConfig, tokenizer: PreTrainedTokenizerBase, *, whole: bool = False) -> PreTrainedModel:
    """Load the base model, give it rows for added tokens, and decide which weights are trained.

    Args:
        whole: each process holds all of it, whatever is asked for: it is to be saved, not trained.
    """
    asked = asked_strategy(config, on_cpu=trains_on_cpu())
    strategy = asked.name
    refuse_eight_bits_in_pieces(config, strategy)
    refuse_turns_in_pieces(config, strategy)
    refuse_restarts_in_pieces(config, strategy)
    model = load_model(
        config.model_name_or_path,
        dtype=dtype_of(config),
        revision=config.model_revision,
        trust_remote_code=config.trust_remote_code,
        attn_implementation=config.attn_implementation,
        quantization=quantization_of(config),
        on_cpu=bool(config.training_arguments.get("use_cpu")),
        distributed=None if whole else asked.mesh.to_transformers(),
    )
    refuse_tied(model, asked.mesh)
    if config.quantize_experts:
        kind, double = config.bnb_4bit_quant_type, config.bnb_4bit_use_double_quant
        quantise_experts(model, bits=4 if config.load_in_4bit else 8, kind=kind, double=double)
    if config.router_aux_loss:
        balance_experts(model)
    add_embedding_rows(model, tokenizer, config)
    model.config.use_cache = False
    return choose_trained(model, tokenizer, config, strategy)


def choose_trained(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: SFTConfig, strategy: str) -> Any:
    """Everything, some layers, or an adapter, under a strategy of several processes ("DDP", "FSDP2", "ZeRO-3", ...).

    Raises:
        ModelError: it cannot be trained that way.
    """
    if not config.use_lora:
        refuse_quantised_weights(model, config)
        if config.trainable_layers is not None or config.trainable_modules:
            train_only(model, layers=config.trainable_layers, modules=config.trainable_modules)
            refuse_frozen_rows(model, tokenizer, config)
        return model
    rows = trained_rows(model, tokenizer, config)
    if rows is not None:
        refuse_rows_in_pieces(model, strategy, on_cpu=trains_on_cpu())
    adapted = add_adapter(
        model,
        r=config.lora_r,
        alpha=config.lora_alpha,
        dropout=config.lora_dropout,
        target_modules=config.target_modules,
        target_parameters=config.target_parameters,
        exclude_modules=config.exclude_modules,
        layers=config.layers_to_transform,
        modules_to_save=config.modules_to_save,
        token_rows=rows,
        bias=config.lora_bias,
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        start=config.init_lora_weights,
        adapter_name_or_path=config.adapter_name_or_path,
    )
    if config.init_lora_weights == LOFTQ and config.adapter_name_or_path is None:
        refuse_loftq_in_pieces(strategy)
        make_up_for_rounding(adapted, config.model_name_or_path, revision=config.model_revision)
    if (config.training_arguments.get("gradient_checkpointing_kwargs") or {}).get("use_reentrant"):
        adapted.enable_input_require_grads()  # without it such checkpointing passes no gradient to a frozen embedding
    return adapted


def refuse_eight_bits_in_pieces(config: SFTConfig, strategy: str) -> None:
    """Raise ConfigError for 8-bit weights under FSDP, which parts them from the scales that bitsandbytes keeps."""
    if config.load_in_8bit and strategy.startswith("FSDP"):
        raise ConfigError(
            f"load_in_8bit = true under {strategy}: FSDP parts the weights from the scales that bitsandbytes keeps "
            "beside them. Use load_in_4bit, or DDP or DeepSpeed."
        )


def refuse_loftq_in_pieces(strategy: str) -> None:
    """Raise ConfigError for LoftQ under ZeRO-3, which parts weights and matrices while the model is loaded."""
    if strategy == "ZeRO-3":
        raise ConfigError(
            "init_lora_weights = loftq under ZeRO-3: its matrices are computed from whole weights. Use DDP, FSDP or "
            "ZeRO-2."
        )


def refuse_rows_in_pieces(model: PreTrainedModel, strategy: str, *, on_cpu: bool) -> None:
    """Raise ConfigError where PEFT's rows of added tokens cannot be sharded.

    Args:
        strategy: "DDP", "FSDP2", "ZeRO-3", ...
        on_cpu: there is no GPU.
    """
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    tied = head is not None and head.weight is embedding.weight
    if strategy.startswith("FSDP") and tied:
        why = (
            "embedding and output layer of this model are one weight, and FSDP cannot shard rows that two layers share"
        )
    elif strategy == "ZeRO-3" and on_cpu:
        why = "PEFT collects the rows of sharded embeddings on a GPU only, and this machine has none"
    else:
        return
    raise ConfigError(f"added_tokens under {strategy}: {why}. Use DDP or DeepSpeed ZeRO-2.")


def refuse_quantised_weights(model: PreTrainedModel, config: SFTConfig) -> None:
    """Raise ModelError for a full fine-tuning of a model that was saved in few bits."""
    if is_quantised(model):
        raise ModelError(
            f"{config.model_name_or_path} is quantised ({model.quantization_method}), and quantised weights cannot be "
            "trained. Set use_lora to train an adapter over them, or name the unquantised model."
        )


def refuse_packing_by_family(config: SFTConfig) -> None:
    """Refuse packed rows before anything is prepared, where the model's config tells that they would leak.

    Raises:
        ConfigError: naming the family.
    """
    asked = isolating_option(config)
    if asked is None:
        return
    found = read_model_config(
        config.model_name_or_path, revision=config.model_revision, trust_remote_code=config.trust_remote_code
    )
    refuse_packing(found, asked=asked)


def isolating_option(config: SFTConfig) -> str | None:
    """The option that asks for rows whose examples must not see each other, if one does."""
    return next((name for name in ("packing", "isolate_documents") if getattr(config, name)), None)


def settle_attention(
    model: PreTrainedModel,
    config: SFTConfig,
    data: PreparedData,
    pad_token_id: int,
    context: ContextGroup | None = None,
) -> None:
    """Choose the quicker attention where two of the user's own examples show that it means the same.

    With ``context`` the processes of that group share every row from then on.

    Raises:
        ModelError: packed rows are asked for, and packed examples see each other in this model.
    """
    asked, witnesses = isolating_option(config), choose_witnesses(data)
    parts = [part for part in (data.train, data.eval) if part is not None]
    longest = max(int(part.examples.lengths.max()) for part in parts)
    proof = None
    if config.stage != "dpo" and attend_by_document(model, longest=longest):
        proof = prove_isolation(model, witnesses, pad_token_id, packed=asked is not None)
        if not proof.proven:
            model.set_attn_implementation("sdpa")
    if context is not None:
        why = share_proven_rows(
            model, witnesses, pad_token_id, context, tensor=config.tensor_parallel_size, packed=asked is not None
        )
        announce(f"context_parallel_size = {context.size}: {why}")
    if asked is None:
        return
    if proof is None or not proof.proven:
        proof = prove_isolation(model, witnesses, pad_token_id)
    if not proof.proven:
        raise ModelError(
            f"{asked} = true, but this {model_type_of(model.config)} model ({type(model).__name__}) does not keep "
            f"packed examples apart: {proof.why}. Set {asked} = false."
        )
    announce(f"{asked} is on: {proof.why}")


def choose_witnesses(data: PreparedData) -> list[Example]:
    """Two examples of about ``WITNESS_TOKENS`` tokens; one twice where there is only one."""
    store = data.train.examples
    nearest = abs(store.lengths - WITNESS_TOKENS).argsort(kind="stable")
    return [store[int(nearest[0])], store[int(nearest[min(1, len(nearest) - 1)])]]


def build_trainer(
    config: SFTConfig,
    *,
    plan: Plan,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    args: TrainingArguments,
    callbacks: Sequence[TrainerCallback] = (),
    mesh: Mesh | None = None,
    context: ContextGroup | None = None,
) -> RunTrainer:
    """The trainer over the plan's rows, with all that happens beside the steps."""
    refuse_foreign_optimizer(args, config.loraplus_lr_ratio)
    apply_speed(model, config)
    folder = Path(config.output_dir)
    ours: list[TrainerCallback] = [MetricsFile(folder), Progress(), *fewer_bits_callbacks(config)]
    if args.world_size > 1:
        ours.append(StackWatch(folder, args.process_index, config.ddp_timeout))
    if config.use_lora:
        ours.append(DeadAdapters(config.target_modules))
    ours += speed_callbacks(model, config)
    if "trainer_log" in config.also_write:
        ours.append(TrainerLog(folder))
    if "log" in config.also_write:
        ours.append(LoggedFigures())
    if (turns := layers_in_turn(model, config)) is not None:
        ours.append(turns)
    if (restarts := adapter_restarts(model, config)) is not None:
        ours.append(restarts)
    if config.early_stopping_patience is not None:
        ours.append(StopEarly(config.early_stopping_patience))
    if config.gen_questions_file is not None:
        ours.append(
            AnsweredQuestions(
                read_questions(config.gen_questions_file),
                make_answerer(config, tokenizer, plan.data),
                folder=folder,
                every=config.gen_every_n_steps,
            )
        )
    both = {"plan": plan, "model": model, "tokenizer": tokenizer, "args": args, "callbacks": [*ours, *callbacks]}
    if config.stage == "dpo":
        reference = build_reference(config, tokenizer)
        trainer = preference_trainer(config, reference=reference, pad_token_id=pad_id(tokenizer), **both)
    else:
        trainer = walk_trainer(**both, mesh=mesh, context=context)
    trainer.loraplus_lr_ratio = config.loraplus_lr_ratio
    trainer.warmup_shape = config.warmup_shape
    trainer.rate_restarts = rate_restarts(config)
    trainer.quantization = quantization_of(config)
    trainer.offload_activations = config.offload_activations
    if isinstance(trainer, WalkTrainer):
        trainer.weigh = token_weight(config)
        trainer.figures = TokenFigures() if config.log_token_figures else None
    trainer.pop_callback(PrinterCallback)  # our own progress takes its place
    take_care(trainer, folder, max_bad_steps=config.max_bad_steps, go_on=how_to_go_on(config))
    return trainer


def walk_trainer(
    *,
    plan: Plan,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    args: TrainingArguments,
    callbacks: Sequence[TrainerCallback],
    mesh: Mesh | None = None,
    context: ContextGroup | None = None,
) -> WalkTrainer:
    """The trainer of the stages that learn tokens."""
    data = plan.data
    rows = TrainingRows(data.train.examples, plan.train_packs, computed=plan.train_computed)
    weighted = data.train.examples.weighted or (data.eval is not None and data.eval.examples.weighted)
    return WalkTrainer(
        model=model,
        args=args,
        tokenizer=tokenizer,
        train_rows=rows if plan.batches is None else RowGroups(rows, plan.batches),
        eval_rows=None
        if data.eval is None
        else TrainingRows(data.eval.examples, plan.eval_packs, computed=plan.eval_computed),
        collator=Collator(
            pad_id(tokenizer),
            packed=plan.train_packs is not None,
            weighted=weighted,
            by_document=uses_documents(model) or context is not None,
            stretch=None if context is None else Stretch(context.rank, context.size),
        ),
        callbacks=callbacks,
        mesh=mesh,
    )


def build_reference(config: SFTConfig, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel | None:
    """Stage dpo without an adapter: the untrained model once more, frozen. With one, it is the model without it."""
    if config.use_lora:
        return None
    set_seed(config.seed)  # rows of added tokens begin at random, in both the same
    return build_model(config, tokenizer).requires_grad_(False).eval()


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """What fills empty slots. Any id will do: padding is known by position."""
    return int(tokenizer.pad_token_id) if tokenizer.pad_token_id is not None else 0


def read_questions(path: str) -> list[str]:
    """Questions, one a line; empty lines are passed over.

    Raises:
        ConfigError: the file cannot be read or holds no question.
    """
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"gen_questions_file {path!r} cannot be read: {error}") from error
    questions = [line.strip() for line in lines if line.strip()]
    if not questions:
        raise ConfigError(f"gen_questions_file {path!r} holds no question; write one a line")
    return questions


def make_answerer(
    config: SFTConfig, tokenizer: PreTrainedTokenizerBase, data: PreparedData
) -> Callable[[Any, Sequence[str]], list[str]]:
    """(model, questions) -> greedy answers, prompted exactly as the training data was; texts are gone on with."""
    report = data.train.report
    system = [] if config.system_prompt is None else [{"role": "system", "content": config.system_prompt}]
    renderer = make_renderer(config, tokenizer)

    def prompt(question: str) -> str | list[int]:
        if config.stage == "pretrain":
            return renderer.text_ids(question)
        text: str = tokenizer.apply_chat_template(
            [*system, {"role": "user", "content": question}],
            tokenize=False,
            add_generation_prompt=True,
            **report.generation_kwargs,
        )
        return text

    def answer(model: Any, questions: Sequence[str]) -> list[str]:
        return generate(
            model,
            tokenizer,
            [prompt(question) for question in questions],
            max_new_tokens=config.gen_max_new_tokens,
            stop_token_ids=report.stop_token_ids,
        )

    return answer
