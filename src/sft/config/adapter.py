"""Which weights are trained."""

from __future__ import annotations

from dataclasses import dataclass

from sft.config.option import option


@dataclass(frozen=True, kw_only=True)
class AdapterOptions:
    """Full fine-tuning, of all layers or some, or a LoRA adapter (https://arxiv.org/abs/2106.09685)."""

    use_lora: bool = option(False, "Train a LoRA adapter over the frozen model. False: train every weight.")
    lora_r: int = option(8, "Width of the LoRA matrices. Memory grows linearly with it; 8 to 64 is usual.", minimum=1)
    lora_alpha: float = option(16, "LoRA scale: the adapter's output is multiplied by lora_alpha / lora_r.", above=0)
    lora_dropout: float = option(0.05, "Share of the adapter's inputs dropped while training.", minimum=0, maximum=0.99)
    target_modules: str | list[str] | None = option(
        None,
        "Layers that get LoRA matrices: names, a regular expression, or all-linear. Unset: q_proj, k_proj, v_proj, "
        "o_proj, gate_proj, up_proj and down_proj where the model has them, else all linear layers.",
    )
    target_parameters: list[str] | None = option(
        None,
        "Weights that stand in no layer of their own and get LoRA matrices too, by the end of their name: the experts "
        "of a mixture, such as mlp.experts.gate_up_proj.",
    )
    exclude_modules: str | list[str] | None = option(
        None, "Layers among target_modules that get none after all: names, or a regular expression."
    )
    layers_to_transform: list[int] | None = option(
        None, "Numbers of the decoder layers, from 0, whose target_modules get LoRA matrices. Unset: every layer."
    )
    modules_to_save: list[str] | None = option(
        None, "Layers trained whole beside the adapter and saved in it, such as embed_tokens."
    )
    lora_bias: str = option("none", "Which biases are trained with LoRA.", choices=["none", "all", "lora_only"])
    use_rslora: bool = option(False, "Scale by lora_alpha / sqrt(lora_r) (https://arxiv.org/abs/2312.03732).")
    use_dora: bool = option(False, "Weight-decomposed LoRA (https://arxiv.org/abs/2402.09353).")
    init_lora_weights: str = option(
        "default",
        "How the matrices begin: default (the adapter changes nothing), gaussian, orthogonal, olora, pissa (the "
        "largest singular values of the weight; https://arxiv.org/abs/2404.02948), pissa_niter_16 (the same by a fast "
        "approximation), loftq (what load_in_4bit lost; https://arxiv.org/abs/2310.08659). The saved adapter fits the "
        "original model in each case; that of loftq fits the model in 4 bits.",
    )
    loraplus_lr_ratio: float | None = option(
        None,
        "LoRA+: the learning rate of the B matrices is this many times learning_rate; 16 is usual "
        "(https://arxiv.org/abs/2402.12354). Matrices on an embedding then learn at 1e-6. Unset: one rate for all.",
        above=0,
    )
    adapter_name_or_path: str | None = option(None, "A trained adapter to go on from. Unset: a new one.")
    trainable_layers: int | None = option(
        None,
        "Full fine-tuning of this many decoder layers, counted from the last; a negative number counts from the first. "
        "Everything else is frozen but trainable_modules. Unset: every layer.",
    )
    trainable_modules: list[str] | None = option(
        None,
        "Full fine-tuning of the weights whose name one of these regular expressions is found in, such as lm_head or "
        "'layers\\.0\\.mlp'. Everything else is frozen but trainable_layers.",
    )
