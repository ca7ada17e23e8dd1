"""Proof that a served engine answers from the weights it was asked for.

A server may answer from other weights with all the signs of success: the base model in the adapter's place, an adapter
of before, one at another scale. So it is asked for the first token after prompts at which the model in this process,
with and without its adapter, likes different tokens best; see ``probe`` for how they are found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any, Literal, Protocol

from sft.errors import GenerationError
from sft.generation.engine import Prompt

Weights = Literal["adapter", "base"]

DECISIVE_MARGIN = 0.25
"""In nats. Engines that compute in bfloat16 may disagree with each other by a tenth."""

AGREEMENT = 0.75
"""Share of the tokens that must be as expected; one in four may fall to rounding."""

NOISE = 0.02
"""In nats, mean over prompts: nearer than this, two models are not told apart by their probabilities."""


@dataclass(frozen=True, slots=True)
class FirstToken:
    """What came first after a prompt."""

    text: str

    logprob: float | None
    """Natural log of its probability, where the engine tells."""


class FirstTokens(Protocol):
    """An engine that can be probed."""

    @property
    def adapter(self) -> str | None:
        """What answers."""
        ...

    def first_tokens(self, prompts: Sequence[Prompt]) -> list[FirstToken]:
        """The likeliest token after each prompt, by the bare weights."""
        ...


@dataclass(frozen=True, slots=True)
class ProbePrompt:
    """One prompt, and what the model in this process thinks comes next."""

    ids: tuple[int, ...]

    tokens: Mapping[Weights, str]
    """Text of the likeliest token, with the adapter and without."""

    logprobs: Mapping[Weights, Mapping[str, float]]
    """Of these one or two tokens by each."""

    margin: float
    """In nats. Where the two like different tokens: how much more each likes its own than any other. Else 0."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Prompts at which adapter and base model differ most."""

    prompts: tuple[ProbePrompt, ...]

    @property
    def decisive(self) -> tuple[ProbePrompt, ...]:
        """Those at which they firmly like different tokens."""
        return tuple(prompt for prompt in self.prompts if prompt.margin >= DECISIVE_MARGIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the probe found; it stands in the results of the evaluation."""

    asked: Weights
    adapter: str | None
    """Name of the adapter that was asked, a hash of its weights included."""

    shown_by: Literal["tokens", "probabilities", "equality"]
    """equality: adapter and base model cannot be told apart (an untrained adapter), and the answers fit both."""

    num_prompts: int
    num_as_expected: int
    """First tokens that are those of the weights that were asked for."""

    logprob_difference: float | None
    """Mean difference, in nats, of the first tokens' log probabilities from those computed in this process."""

    logprob_difference_to_other: float | None
    """The same, from those of the other weights."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


def prove_weights(engine: FirstTokens, probe: Probe, *, asked: Weights) -> Proof:
    """Probe an engine.

    Args:
        engine: told to use the adapter, or the base model.
        probe: made with the model of this process in its present state.
        asked: which of the two must answer.

    Raises:
        GenerationError: the engine fails, or other weights answer.
    """
    other: Weights = "base" if asked == "adapter" else "adapter"
    judged = probe.decisive or probe.prompts
    found = engine.first_tokens([prompt.ids for prompt in judged])
    pairs = list(zip(judged, found, strict=True))
    hits = sum(is_same(prompt.tokens[asked], token.text) for prompt, token in pairs)
    near, far = mean_difference(pairs, asked), mean_difference(pairs, other)
    if hits < AGREEMENT * len(pairs):
        raise GenerationError(_wrong_tokens(pairs, asked, other, engine.adapter))
    if near is not None and far is not None and near > NOISE and near > far / 2 and (probe.decisive or far < near / 2):
        raise GenerationError(
            f"Asked for {_name(asked, engine.adapter)}, it gives first tokens whose log probabilities are {near:.3f} "
            f"from those computed here, and {far:.3f} from those of {_name(other, None)}: the weights that answer are "
            "not those that were asked for. Nothing it says is used."
        )
    return Proof(
        asked=asked,
        adapter=engine.adapter,
        shown_by=_shown_by(probe, near, far),
        num_prompts=len(pairs),
        num_as_expected=hits,
        logprob_difference=near,
        logprob_difference_to_other=far,
    )


def is_same(expected: str, text: str) -> bool:
    """Whether two texts are of one token; some servers drop or keep the space before a word."""
    return expected.strip() == text.strip()


def mean_difference(pairs: Sequence[tuple[ProbePrompt, FirstToken]], weights: Weights) -> float | None:
    """Mean difference in nats between the engine's log probabilities and those of some weights; None: none given."""
    differences = [
        abs(token.logprob - value)
        for prompt, token in pairs
        if token.logprob is not None
        for text, value in prompt.logprobs[weights].items()
        if is_same(text, token.text)
    ]
    return mean(differences) if differences else None


def _shown_by(probe: Probe, near: float | None, far: float | None) -> Literal["tokens", "probabilities", "equality"]:
    if probe.decisive:
        return "tokens"
    if near is not None and far is not None and far > NOISE and near < far / 2:
        return "probabilities"
    return "equality"


def _wrong_tokens(
    pairs: Sequence[tuple[ProbePrompt, FirstToken]], asked: Weights, other: Weights, adapter: str | None
) -> str:
    hits = sum(is_same(prompt.tokens[asked], token.text) for prompt, token in pairs)
    others = sum(is_same(prompt.tokens[other], token.text) for prompt, token in pairs)
    prompt, token = next((prompt, token) for prompt, token in pairs if not is_same(prompt.tokens[asked], token.text))
    return (
        f"Asked for {_name(asked, adapter)}, it gives the first token that those weights give in this process after "
        f"{hits} of {len(pairs)} probe prompts, and that of {_name(other, None)} after {others}. For example, after "
        f"{len(prompt.ids)} tokens it says {token.text!r}, not {prompt.tokens[asked]!r}. Other weights answer than "
        "were asked for, or it computes something else from them (another precision, quantisation, or template). "
        "Nothing it says is used."
    )


def _name(weights: Weights, adapter: str | None) -> str:
    if weights == "base":
        return "the base model"
    return "the adapter" if adapter is None else f"the adapter {adapter}"
