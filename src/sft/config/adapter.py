"""Which weights are trained."""

from __future__ import annotations

from dataclasses import dataclass

from sft.config.option import option


@dataclass(frozen=True, kw_only=True)
class AdapterOptions:
    """Full fine-tuning, or a LoRA adapter (https://arxiv.org/abs/2106.09685)."""

    use_lora: bool = option(False, "Train a LoRA adapter over the frozen model. False: train every weight.")
    lora_r: int = option(8, "Width of the LoRA matrices. Memory grows linearly with it; 8 to 64 is usual.", minimum=1)
    lora_alpha: float = option(16, "LoRA scale: the adapter's output is multiplied by lora_alpha / lora_r.", above=0)
    lora_dropout: float = option(0.05, "Share of the adapter's inputs dropped while training.", minimum=0, maximum=0.99)
    target_modules: str | list[str] | None = option(
        None,
        "Layers that get LoRA matrices: names, a regular expression, or all-linear. Unset: q_proj, k_proj, v_proj, "
        "o_proj, gate_proj, up_proj and down_proj where the model has them, else all linear layers.",
    )
    modules_to_save: list[str] | None = option(
        None, "Layers trained whole beside the adapter and saved in it, such as embed_tokens."
    )
    lora_bias: str = option("none", "Which biases are trained with LoRA.", choices=["none", "all", "lora_only"])
    use_rslora: bool = option(False, "Scale by lora_alpha / sqrt(lora_r) (https://arxiv.org/abs/2312.03732).")
    use_dora: bool = option(False, "Weight-decomposed LoRA (https://arxiv.org/abs/2402.09353).")
    adapter_name_or_path: str | None = option(None, "A trained adapter to go on from. Unset: a new one.")
