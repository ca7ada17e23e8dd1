"""`sft export FILE.yaml`: what `llamafactory-cli export FILE.yaml` does; an adapter merged, or a model written anew.

Beside the model lies a Modelfile for Ollama, where the chat template can be said in Ollama's words.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sft.cli.gguf_option import add_gguf
from sft.cli.options import read_pairs
from sft.config import read_file
from sft.dialects.llama_factory_export import ExportRequest, read_export
from sft.errors import ConfigError
from sft.terminal.plain import as_json, plain

HELP = "merge or convert a model as an export file of LLaMA-Factory says"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this verb."""
    parser.add_argument(
        "file",
        metavar="FILE",
        help="YAML or JSON: model_name_or_path, adapter_name_or_path, template, export_dir, export_size (gigabytes a "
        "file), infer_dtype, export_hub_model_id, trust_remote_code",
    )
    parser.add_argument("pairs", nargs="*", metavar="key=value", help="keys that replace those of the file")
    add_gguf(parser)
    parser.add_argument("--json", action="store_true", help="print the result as one object")


def run(args: argparse.Namespace) -> int:
    """Merge or convert, write the Modelfile, upload if asked, and say where the result is."""
    request = read_export({**read_file(Path(args.file)), **read_pairs(args.pairs)})
    from transformers.utils import logging

    from sft.export.hub import check_name, push_folder

    if request.hub_model_id is not None:
        check_name(request.hub_model_id)
    logging.disable_progress_bar()
    done = export(request, gguf=args.gguf)
    address = push_folder(done["path"], request.hub_model_id) if request.hub_model_id is not None else None
    if args.json:
        print(as_json({**done, "path": str(done["path"]), "hub": address}))
        return 0
    lines = [f"note: {note}" for note in done["notes"]]
    lines += [f"  {name:<22}{figure}" for name, figure in done["agreement"]]
    lines.append(f"saved: {done['path']}  ({done['dtype']})")
    if address is not None:
        lines.append(f"uploaded: {address}")
    lines.append(f"try it: sft chat --model {request.output}")
    print(plain("\n".join(lines)))
    return 0


def export(request: ExportRequest, *, gguf: str | None = None) -> dict[str, Any]:
    """Do what was asked; path, dtype, agreement and notes of it."""
    from sft.export.convert import convert_model, half_of
    from sft.export.gguf import find_converter
    from sft.export.merge import merge_adapter
    from sft.export.ollama_file import add_template, hand_over

    if request.output is None:
        raise ConfigError("export_dir is missing")
    converter = find_converter() if gguf else None
    source: dict[str, Any] = {"revision": request.revision, "trust_remote_code": request.trust_remote_code}
    dtype = request.dtype or half_of(request.model, **source)
    notes = list(request.notes)
    if request.adapter is not None:
        merged = merge_adapter(
            base_model=request.model,
            adapter_path=request.adapter,
            output_path=request.output,
            dtype=dtype,
            base_revision=request.revision,
            trust_remote_code=request.trust_remote_code,
            max_shard_size=request.max_shard_size,
        )
        path, notes, agreement = merged.path, [*notes, *merged.notes], merged.agreement()
    else:
        written = convert_model(
            request.model, request.output, dtype=dtype, max_shard_size=request.max_shard_size, **source
        )
        path, agreement = written.path, [("compared", f"{written.num_tensors} tensors as written, bit by bit")]
    notes += add_template(path, request.template, trust_remote_code=request.trust_remote_code)
    notes += hand_over(path, gguf=gguf, converter=converter, trust_remote_code=request.trust_remote_code)
    return {"path": path, "dtype": dtype, "agreement": agreement, "notes": notes}
