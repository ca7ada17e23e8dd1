"""Plan -> check -> merge -> save -> verify: an adapter becomes part of its base model's weights.

The merge is done in float32 on the CPU. What counts is the comparison at the end: the model as it was written to disk
is loaded again and must give the logits that base model and adapter gave on the same prompts. Until then nothing
stands at the output path.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from sft.errors import ExportError
from sft.export.adapted import check_vocabulary, generation_config_of, load_adapted, load_tokenizer_of
from sft.export.adapter import CONFIG_NAME, Adapter, names_other_base, read_adapter
from sft.export.card import CARD_NAME, render_merged_card, write_card
from sft.export.fit import check_fit, read_base_config, refuse_quantised
from sft.export.folders import written_whole
from sft.export.prompts import BUILT_IN_PROMPTS
from sft.export.save import is_tied, quiet_peft, save_tokenizer, set_tied
from sft.export.verify import Agreement, allowed_difference, compare_logits, compute_logits, encode_prompts
from sft.models.load import DTYPES, load_model


@dataclass(frozen=True, kw_only=True)
class MergeResult:
    """Where the merged model lies, and how far its logits are from the adapter's."""

    path: Path
    base_model: str
    adapter_path: str
    dtype: str
    """Precision of the written weights."""

    max_logit_difference: float
    """Largest difference of any logit between the adapter and the model as written, computed in float32."""

    max_difference: float
    """The bound it was held to."""

    top1_agreement: float
    """Share of positions at which both find the same token likeliest."""

    num_prompts: int
    num_positions: int
    tie_word_embeddings: bool
    notes: tuple[str, ...] = ()
    """What the user should know, such as a base model that is not the one the adapter names."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**self.__dict__, "path": str(self.path), "notes": list(self.notes)}


def merge_adapter(
    *,
    base_model: str | None,
    adapter_path: str | Path,
    output_path: str | Path,
    dtype: str | None = None,
    base_revision: str | None = None,
    trust_remote_code: bool = False,
    prompts: Sequence[str] | None = None,
    max_difference: float | None = None,
    keep_others: bool = False,
    max_shard_size: str = "5GB",
) -> MergeResult:
    """Merge an adapter into its base model, check the result against the adapter, and save it.

    Args:
        base_model: folder or hub name. None: the one the adapter names.
        adapter_path: folder (or hub name) of the adapter.
        output_path: folder of the merged model; new or empty.
        dtype: precision of the written weights (float32, bfloat16, float16). None: the base model's.
        base_revision: branch, tag or commit of the base model on the hub. None: the one the adapter names, if any.
        trust_remote_code: run Python code that the base model brings along.
        prompts: user messages on which both are compared, rendered with the chat template. None: a built-in set.
        max_difference: largest logit difference allowed. None: 1e-4 for float32 (or 1e-5 of the largest logit, where
            that is more); 5 % of the largest logit for bfloat16, 1 % for float16, for the rounding of the weights.
        keep_others: ``output_path`` is a run folder; its checkpoints and other files stay.
        max_shard_size: most bytes in one weight file, such as ``"5GB"``.

    Raises:
        ExportError: the adapter does not fit the base model, or the merged model differs from it by more than the
            bound. Nothing is left at ``output_path`` then.
        ModelError: the base model cannot be loaded.
    """
    adapter = read_adapter(str(adapter_path))
    base_model = base_model or adapter.base_model
    if base_model is None:
        raise ExportError(f"The adapter {adapter.name!r} names no base model. Name it with --base_model.")
    output = check_output(Path(output_path), adapter, base_model, keep_others=keep_others)
    source: dict[str, Any] = {
        "revision": base_revision or adapter.base_revision,
        "trust_remote_code": trust_remote_code,
    }
    base_config = read_base_config(base_model, **source)
    refuse_quantised(base_config, base_model)
    saved_dtype = choose_dtype(dtype, base_config)
    rows = check_fit(adapter, base_config, base_model=base_model, trust_remote_code=trust_remote_code)
    tokenizer = load_tokenizer_of(adapter, base_model, **source)

    model = load_adapted(adapter, base_model, rows=rows, **source)
    check_vocabulary(adapter, tokenizer, model)
    encoded = encode_prompts(tokenizer, prompts or BUILT_IN_PROMPTS)
    reference = compute_logits(model, encoded)
    model = merge_weights(model)
    if saved_dtype != torch.float32:
        check_agreement(reference, compute_logits(model, encoded), torch.float32, max_difference=None)
        cast_weights(model, saved_dtype)
    model.generation_config = generation_config_of(model, adapter, tokenizer)
    tied = is_tied(model)

    with written_whole(output, keep_others=keep_others) as partial:
        model.save_pretrained(partial, max_shard_size=max_shard_size)
        save_tokenizer(tokenizer, partial)
        del model
        gc.collect()  # the written model is loaded next; two do not always fit
        written = load_model(str(partial), dtype=torch.float32, trust_remote_code=trust_remote_code)
        agreement, bound = check_agreement(
            reference, compute_logits(written, encoded), saved_dtype, max_difference=max_difference
        )
        result = MergeResult(
            path=output,
            base_model=base_model,
            adapter_path=str(adapter_path),
            dtype=str(saved_dtype).removeprefix("torch."),
            max_logit_difference=agreement.max_logit_difference,
            max_difference=bound,
            top1_agreement=agreement.top1_agreement,
            num_prompts=agreement.num_prompts,
            num_positions=agreement.num_positions,
            tie_word_embeddings=tied,
            notes=tuple(notes_on(adapter, base_model, rows)),
        )
        write_card(partial, card_of(result, adapter))
    return result


def check_output(output: Path, adapter: Adapter, base_model: str, *, keep_others: bool) -> Path:
    """The output folder, absolute, if a merged model may be written there."""
    output = output.expanduser().resolve()
    if output in (adapter.path.resolve(), Path(base_model).expanduser().resolve()):
        raise ExportError(f"output_path {str(output)!r} is the folder that is merged from. Choose another one.")
    if output.is_file():
        raise ExportError(f"output_path {str(output)!r} is a file. Name a folder that is new or empty.")
    if not output.is_dir():
        return output
    if keep_others and (output / CONFIG_NAME).is_file():
        raise ExportError(
            f"output_path {str(output)!r} holds an adapter ({CONFIG_NAME}). Beside a merged model, loaders would put "
            "it on top of weights that contain it already. Keep the adapter in a folder of its own."
        )
    if not keep_others and any(output.iterdir()):
        holds = ", ".join(sorted(entry.name for entry in output.iterdir())[:4])
        raise ExportError(f"output_path {str(output)!r} is not empty (it holds {holds}). Name a new or empty folder.")
    return output


def choose_dtype(dtype: str | None, base_config: Any) -> torch.dtype:
    """Precision of the written weights: as asked, else the base model's own."""
    if dtype is not None and dtype in DTYPES:
        return DTYPES[dtype]
    if dtype not in (None, "auto"):
        raise ExportError(f"dtype is {dtype!r}, but a merged model is saved as one of: {', '.join(DTYPES)}.")
    own = str(getattr(base_config, "dtype", None)).removeprefix("torch.")
    return DTYPES.get(own, torch.float32)


def merge_weights(model: PeftModel) -> Any:
    """Add the adapter's part to the weights and take the adapter off.

    A tied embedding is untied first: what an adapter adds to the input embedding or to the output layer alone must not
    reach the other. Where both come out equal they are one again.
    """
    base = model.get_base_model()
    was_tied = bool(base.config.get_text_config().tie_word_embeddings)
    if was_tied:
        untie(base)
    try:
        with quiet_peft():
            merged = model.merge_and_unload(safe_merge=True)
    except (ValueError, NotImplementedError, AttributeError) as error:
        raise ExportError(f"PEFT cannot merge this adapter: {' '.join(str(error).split())}") from error
    if was_tied:
        retie_if_equal(merged)
    return merged


def untie(model: nn.Module) -> None:
    """Give every layer that shares its weight with another a copy of its own."""
    seen: set[int] = set()
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) in seen:
                setattr(module, name, nn.Parameter(parameter.detach().clone(), requires_grad=False))
            seen.add(id(parameter))


def retie_if_equal(model: Any) -> None:
    """One tensor for input embedding and output layer where they are equal, and the config to match."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if torch.equal(head.weight, embedding.weight):
        head.weight = embedding.weight
    set_tied(model, tied=is_tied(model))


def cast_weights(model: Any, dtype: torch.dtype) -> None:
    """Round the weights to ``dtype``, except those that the architecture keeps in float32."""
    kept = tuple(getattr(model, "_keep_in_fp32_modules_strict", None) or ())
    for name, parameter in model.named_parameters():
        if not any(part in kept for part in name.split(".")):
            parameter.data = parameter.data.to(dtype)


def check_agreement(
    reference: Sequence[Tensor], found: Sequence[Tensor], dtype: torch.dtype, *, max_difference: float | None
) -> tuple[Agreement, float]:
    """How far the merged model's logits are from the adapter's, and the bound they were held to.

    Raises:
        ExportError: further than the bound.
    """
    agreement = compare_logits(reference, found)
    bound = allowed_difference(dtype, agreement.largest_logit) if max_difference is None else max_difference
    if agreement.max_logit_difference > bound:
        raise ExportError(
            f"The merged model does not equal the adapter: on {agreement.num_prompts} prompts the largest logit "
            f"difference is {agreement.max_logit_difference:.3g}, allowed is {bound:.3g} for weights in "
            f"{str(dtype).removeprefix('torch.')} (top-1 agreement {agreement.top1_agreement:.1%}). Nothing was saved. "
            "Merge with --dtype float32 to keep more digits, or allow more with --max_difference."
        )
    return agreement, bound


def notes_on(adapter: Adapter, base_model: str, rows: int | None) -> list[str]:
    """What is unusual about this merge."""
    notes = []
    if names_other_base(adapter, base_model):
        notes.append(f"the adapter names {adapter.base_model!r} as its base model; {base_model!r} was given and fits")
    if rows is not None:
        notes.append(f"the embedding was resized to {rows} rows, as the adapter was trained")
    return notes


def card_of(result: MergeResult, adapter: Adapter) -> str:
    """The merged model's card."""
    own_card = adapter.path / CARD_NAME
    figures: Mapping[str, Any] = {
        "largest logit difference": f"{result.max_logit_difference:.3g}",
        "allowed": f"{result.max_difference:.3g}",
        "top-1 agreement": f"{result.top1_agreement:.2%}",
        "prompts, positions": f"{result.num_prompts}, {result.num_positions}",
        "weights": result.dtype,
    }
    return render_merged_card(
        base_model=result.base_model,
        adapter=result.adapter_path,
        figures=figures,
        adapter_card=own_card.read_text(encoding="utf-8") if own_card.is_file() else None,
        name=result.path.name,
    )
