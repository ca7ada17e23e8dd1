"""How a run trains, in words: for the first lines it prints and for its record."""

from __future__ import annotations

from sft.config import SFTConfig
from sft.models.qat import rounding_of
from sft.models.quantization import quantization_of


def describe_method(config: SFTConfig) -> str:
    """'QLoRA r=8, NF4, double quantisation, LoRA+ 16x' or 'full fine-tuning of the last 2 decoder layers'."""
    parts = _adapter_parts(config) if config.use_lora else [_full(config), *_bits(config)]
    if config.eaft_alpha is not None:
        parts.append(f"EAFT alpha {config.eaft_alpha:g}")
    noise = config.training_arguments.get("neftune_noise_alpha")
    return ", ".join([*parts, f"NEFTune alpha {noise:g}"] if noise else parts)


def _adapter_parts(config: SFTConfig) -> list[str]:
    quantization = quantization_of(config)
    name = "QLoRA" if config.load_in_4bit else "LoRA"
    if config.adapter_name_or_path is not None:
        parts = [f"{name} from {config.adapter_name_or_path}"]
    else:
        parts = [f"{name} r={config.lora_r}", *_variants(config)]
    if quantization is not None:
        parts.insert(1, quantization.describe())
    if config.relora_steps is not None:
        parts.append(f"begun anew every {config.relora_steps} steps (ReLoRA)")
    if config.loraplus_lr_ratio is not None:
        parts.append(f"LoRA+ {config.loraplus_lr_ratio:g}x")
    return parts


def _variants(config: SFTConfig) -> list[str]:
    parts = [name for name, on in (("rsLoRA", config.use_rslora), ("DoRA", config.use_dora)) if on]
    return parts + ([f"start {config.init_lora_weights}"] if config.init_lora_weights != "default" else [])


def _bits(config: SFTConfig) -> list[str]:
    rounding = rounding_of(config)
    parts = [] if rounding is None else [rounding.describe()]
    named = (("products in 8-bit floats", config.float8_training), ("zeros kept", config.keep_zeros))
    return parts + [name for name, on in named if on]


def _full(config: SFTConfig) -> str:
    parts = []
    if config.trainable_layers:
        side = "last" if config.trainable_layers > 0 else "first"
        parts.append(f"the {side} {abs(config.trainable_layers)} decoder layers")
    if config.trainable_modules:
        parts.append(f"weights named {', '.join(config.trainable_modules)}")
    if config.lisa_layers is not None:
        parts.append(f"{config.lisa_layers} decoder layers at a time, others every {config.lisa_interval} steps (LISA)")
    return "full fine-tuning" + (f" of {' and '.join(parts)}" if parts else "")
