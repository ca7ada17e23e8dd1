"""Peak memory of `merge_adapter` while it writes, beside the largest weight file and the whole model.

    python benchmarks/merge_memory.py [--hidden 1024] [--layers 16] [--max_shard_size 100MB]

A Llama of random bfloat16 weights is written shard by shard, gets a random LoRA adapter on every linear layer, and is
merged with `check="layers"`, as a model that does not fit into memory is. A second merge in memory, by PEFT and
transformers, shows what that would take.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

VOCABULARY = 32_000


def main() -> None:
    """Make the models, merge each way in a process of its own, print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--max_shard_size", default="100MB")
    parser.add_argument("--step", choices=["make", "streamed", "memory"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step is not None:
        steps = {"make": make, "streamed": merge_streamed, "memory": merge_in_memory}
        print(json.dumps(steps[args.step](Path(args.folder), args)))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = {step: run_step(step, folder) for step in ("make", "streamed", "memory")}
    size, largest = found["make"]["bytes"], found["streamed"]["largest_file"]
    made = found["make"]
    print(f"{'model':<18}{size / 1e6:7.0f} MB in {made['files']} files, adapter {made['adapter'] / 1e6:.0f} MB")
    print(f"{'largest shard':<18}{largest / 1e6:7.0f} MB")
    peaks = {
        "written by layers": (found["streamed"]["writing"], found["streamed"]["seconds"]),
        "and checked": (found["streamed"]["peak"], found["streamed"]["seconds"]),
        "whole model": (found["memory"]["peak"], found["memory"]["seconds"]),
    }
    for name, (peak, seconds) in peaks.items():
        print(
            f"{name:<18}{peak / 1e6:7.0f} MB above start, {peak / largest:.2f} of the largest shard, "
            f"{peak / size:.2f} of the model, {seconds:.1f} s"
        )


def run_step(step: str, folder: str) -> dict[str, float]:
    """One step in a process of its own, so that no memory of another counts."""
    words = [sys.executable, __file__, *sys.argv[1:], "--step", step, "--folder", folder]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def make(folder: Path, args: argparse.Namespace) -> dict[str, float]:
    """Write the base model and the adapter."""
    import torch
    from peft import LoraConfig, get_peft_model
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.set_default_dtype(torch.bfloat16)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=args.hidden,
        intermediate_size=args.hidden * 3,
        num_hidden_layers=args.layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        eos_token_id=0,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder / "base", max_shard_size=args.max_shard_size)
    words = Tokenizer(models.WordLevel({"<s>": 0, "a": 1}, unk_token="<s>"))
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<s>").save_pretrained(folder / "base")
    torch.set_default_dtype(torch.float32)
    adapted = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.01)
    adapted.peft_config["default"].base_model_name_or_path = str(folder / "base")
    adapted.save_pretrained(folder / "adapter")
    files = list((folder / "base").glob("*.safetensors"))
    return {
        "bytes": sum(path.stat().st_size for path in files),
        "files": len(files),
        "adapter": (folder / "adapter" / "adapter_model.safetensors").stat().st_size,
    }


def merge_streamed(folder: Path, args: argparse.Namespace) -> dict[str, float]:
    """Merge layer by layer, and check the layers as written."""
    from sft.export.memory import PeakMemory
    from sft.export.merge import merge_adapter

    warm_up()
    with PeakMemory() as memory:
        result = merge_adapter(
            base_model=None,
            adapter_path=folder / "adapter",
            output_path=folder / "streamed",
            max_shard_size=args.max_shard_size,
            check="layers",
        )
    return {
        "peak": memory.rise or 0,
        "largest_file": result.largest_file,
        "seconds": memory.seconds,
        "writing": result.peak_memory or 0,
    }


def merge_in_memory(folder: Path, args: argparse.Namespace) -> dict[str, float]:
    """Load, merge and save with PEFT and transformers."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from sft.export.memory import PeakMemory

    warm_up()
    with PeakMemory() as memory:
        model = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
        merged = PeftModel.from_pretrained(model, str(folder / "adapter")).merge_and_unload(safe_merge=True)
        merged.to(torch.bfloat16).save_pretrained(folder / "in-memory", max_shard_size=args.max_shard_size)
    return {"peak": memory.rise or 0, "seconds": memory.seconds}


def warm_up() -> None:
    """Load what every merge loads, so that code does not count as memory of the merge."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    import sft.export.merge  # noqa: F401

    tiny = LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    get_peft_model(LlamaForCausalLM(tiny), LoraConfig(target_modules=["q_proj"]))
    torch.randn(64, 64) @ torch.randn(64, 64)


if __name__ == "__main__":
    main()
