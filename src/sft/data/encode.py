"""Text -> token ids, with the ids of every prompt exactly as inference will have them.

A text is encoded whole, as ``tokenizer(text, add_special_tokens=False)`` does it. Two things make an exception:

- A token may straddle the border between a prompt and its answer ("\\n" + "\\n" is one token). Then the two sides are
  encoded apart, so that the answer follows the ids that the prompt alone has.
- A row may own special-token text, which is content. The stretch around it, up to the template's own control tokens,
  is encoded with special tokens switched off.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from transformers import PreTrainedTokenizerBase

from sft.data.control import ControlTokens

Spans = Sequence[tuple[int, int]]

# Put before a stretch from the middle of a text, it keeps the tokenizer from adding its start-of-text space.
GUARDS = ("\n", "a", "0", ".", "\t")
REMEMBERED_TAIL = 80


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the text that was encoded at one go."""

    start: int
    first_token: int
    num_tokens: int
    encoding: Any
    """The backend's encoding, which knows the characters of each token; None for tokenizers without a fast backend."""
    guard: str = ""
    guard_tokens: int = 0

    def token_holding(self, position: int) -> int | None:
        """Index of the first token that holds the character at ``position``; None if no token does."""
        token = self.encoding.char_to_token(position - self.start + len(self.guard))
        return None if token is None else self.first_token + token - self.guard_tokens

    def token_at(self, position: int) -> int:
        """Index of the first token that begins at ``position`` or after it."""
        if self.encoding is None:
            return self.first_token + (self.num_tokens if position > self.start else 0)
        token = None
        before = position
        while token is None and before > self.start:
            before -= 1
            token = self.token_holding(before)
        token = self.first_token if token is None else token
        end = self.first_token + self.num_tokens
        while token < end and self._begin(token) < position:
            token += 1
        return token

    def _begin(self, token: int) -> int:
        characters = self.encoding.token_to_chars(token - self.first_token + self.guard_tokens)
        return self.start + int(characters[0]) - len(self.guard)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a text."""

    ids: list[int]
    text: str
    pieces: tuple[Piece, ...]
    borders: dict[int, int]
    """Character -> index of the token that begins there, for the borders asked for."""

    @property
    def is_apart(self) -> bool:
        """Whether the text was not encoded at one go."""
        return len(self.pieces) > 1

    def piece_at(self, position: int) -> Piece:
        """The piece that holds the character before ``position``."""
        return next((piece for piece in reversed(self.pieces) if piece.start < position), self.pieces[0])

    def token_at(self, position: int) -> int:
        """Index of the first token that begins at ``position`` or after it."""
        if position >= len(self.text):
            return len(self.ids)
        if position in self.borders:
            return self.borders[position]
        return self.piece_at(position).token_at(position)


class Encoder:
    """Encodes rendered text with one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, control: ControlTokens) -> None:
        self.tokenizer = tokenizer
        self.control = control
        known = (tokenizer.convert_tokens_to_ids(text) for text in control.texts)
        self.control_ids = frozenset(int(token) for token in known if token is not None)
        self._backend = getattr(tokenizer, "backend_tokenizer", None) if tokenizer.is_fast else None
        self._tails: dict[str, list[int]] = {}
        bare = self._run("a")[0]
        self._adds_space = self._run_joined("a")[0] != bare
        probe = "a b" + (control.texts[0] if control.texts else "")
        self._keeps_spaces = not self._adds_space and self.decode(self._run(probe)[0]) == probe
        after_control = self._run((control.texts[0] if control.texts else "") + "a")[0]
        self.begins_with_bos = tokenizer.bos_token_id is not None and _first_id(tokenizer) == tokenizer.bos_token_id
        """Whether the tokenizer puts its beginning-of-sequence token before a text by itself."""
        self._adds_space_after_control = self._adds_space and after_control[-len(bare) :] == bare

    def encode(
        self, text: str, *, owned: Spans = (), borders: Iterable[int] = (), ends: Iterable[int] = (), begins_at: int = 0
    ) -> Encoded:
        """Encode a text.

        Args:
            text: the text.
            owned: places of special-token text that is content.
            borders: characters at which a prompt ends; the ids before each are those of the prompt alone.
            ends: characters at which a trained stretch ends; of use to tokenizers that cannot tell characters only.
            begins_at: where the text proper begins, after a token put before it.

        Raises:
            ValueError: the tokenizer cannot write the owned text without its special tokens.
            UnicodeEncodeError: the text holds half of a surrogate pair.
        """
        if not text:
            return Encoded([], text, (Piece(0, 0, 0, None),), {})
        plain = plain_stretches(text, owned, self.control)
        spans = [span for span in self.control.spans(text) if not _inside(span[0], plain)]
        wanted = sorted({border for border in borders if 0 < border < len(text)})
        cuts = {begins_at} if self._backend is not None else {begins_at, *wanted, *ends}
        while True:
            pieces, ids = self._encode_pieces(text, plain, spans, cuts, begins_at)
            encoded = Encoded(ids, text, pieces, {})
            found = {border: self._prompt_length(encoded, plain, spans, border) for border in wanted}
            straddled = {border for border, token in found.items() if token is None}
            if not straddled:
                return Encoded(ids, text, pieces, {border: token or 0 for border, token in found.items()})
            cuts |= straddled

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included."""
        if self._backend is not None:
            return str(self._backend.decode(ids, skip_special_tokens=False))
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def writes(self, ids: Sequence[int], text: str) -> bool:
        """Whether ids decode to a text.

        Taken as equal are Unicode's composed and decomposed forms, which many tokenizers unify, and white space for
        tokenizers that do not keep it as it is (those that put a space before a text, or between words).
        """
        decoded = self.decode(ids)
        if decoded == text:
            return True
        if not self._keeps_spaces:
            decoded, text = "".join(decoded.split()), "".join(text.split())
        return any(
            unicodedata.normalize(form, decoded) == unicodedata.normalize(form, text) for form in ("NFC", "NFKC")
        )

    def _prompt_length(self, encoded: Encoded, plain: Spans, spans: Spans, border: int) -> int | None:
        """Number of tokens before ``border``, if they are the ids of the prompt alone; else None.

        A control token is a border to every tokenizer, so only what follows the last one needs to be compared.
        """
        piece = encoded.piece_at(border + 1)
        if piece.start == border:
            return piece.first_token
        last = bisect_left(spans, (border, 0)) - 1
        start = max(piece.start, spans[last][0] if last >= 0 else 0)
        if start == piece.start:
            first: int | None = piece.first_token
            tail = self._run(piece.guard + encoded.text[start:border], _inside(start, plain))[0][piece.guard_tokens :]
        else:
            first = piece.token_holding(start)
            tail = self._tail_ids(encoded.text[start:border])
        if first is None or encoded.ids[first : first + len(tail)] != tail:
            return None
        return first + len(tail)

    def _tail_ids(self, tail: str) -> list[int]:
        if len(tail) > REMEMBERED_TAIL:
            return self._run(tail)[0]
        if tail not in self._tails:
            self._tails[tail] = self._run(tail)[0]
        return self._tails[tail]

    def _encode_pieces(
        self, text: str, plain: Spans, spans: Spans, cuts: Iterable[int], begins_at: int
    ) -> tuple[tuple[Piece, ...], list[int]]:
        places = sorted({0, len(text), *cuts, *(place for stretch in plain for place in stretch)})
        ids: list[int] = []
        pieces = []
        for start, end in pairwise(places):
            is_plain = _inside(start, plain)
            if self._adds_space and start > begins_at and self._is_joined(start, spans):
                own, encoding, guard, skipped = self._run_joined(text[start:end], is_plain)
            else:
                (own, encoding), guard, skipped = self._run(text[start:end], is_plain), "", 0
            if is_plain and not self.control_ids.isdisjoint(own):
                raise ValueError("the tokenizer cannot write special-token text as plain text")
            pieces.append(Piece(start, len(ids), len(own), encoding, guard, skipped))
            ids += own
        return tuple(pieces), ids

    def _is_joined(self, start: int, spans: Spans) -> bool:
        """Whether the tokenizer adds no space at ``start`` when it encodes the whole text."""
        if any(start == begin for begin, _ in spans):
            return False
        return not (self._adds_space_after_control and any(start == end for _, end in spans))

    def _run_joined(self, text: str, plain: bool = False) -> tuple[list[int], Any, str, int]:
        """Encode a stretch as it stands behind other text: ids, encoding, the guard put before it and its tokens."""
        for guard in GUARDS:
            before = self._run(guard, plain)[0]
            ids, encoding = self._run(guard + text, plain)
            if ids[: len(before)] == before and self.decode(ids).endswith(text):
                return ids[len(before) :], encoding, guard, len(before)
        return *self._run(text, plain), "", 0

    def _run(self, text: str, plain: bool = False) -> tuple[list[int], Any]:
        backend = self._backend
        if backend is None:
            return list(self.tokenizer(text, add_special_tokens=False, split_special_tokens=plain)["input_ids"]), None
        # Other users of the tokenizer leave these three set as they last needed them.
        if backend.truncation is not None:
            backend.no_truncation()
        if backend.padding is not None:
            backend.no_padding()
        usual = backend.encode_special_tokens
        backend.encode_special_tokens = plain
        try:
            encoding = backend.encode(text, add_special_tokens=False)
        except TypeError:
            text.encode("utf-8")  # half of a surrogate pair is what the backend cannot take: UnicodeEncodeError
            raise
        finally:
            backend.encode_special_tokens = usual
        return encoding.ids, encoding


def _first_id(tokenizer: PreTrainedTokenizerBase) -> int:
    return int(tokenizer("a")["input_ids"][0])


def plain_stretches(text: str, owned: Spans, control: ControlTokens) -> list[tuple[int, int]]:
    """Stretches around special-token text that is content: each from one control token of the template to the next."""
    if not owned:
        return []
    gaps = zip([0, *(end for _, end in owned)], [*(start for start, _ in owned), len(text)], strict=True)
    real = [(gap + a, gap + b) for gap, stop in gaps for a, b in control.spans(text[gap:stop])]
    stretches: list[tuple[int, int]] = []
    for start, end in owned:
        left = max((stop for _, stop in real if stop <= start), default=0)
        right = min((begin for begin, _ in real if begin >= end), default=len(text))
        if (left, right) not in stretches:
            stretches.append((left, right))
    return stretches


def _inside(position: int, stretches: Spans) -> bool:
    return any(start <= position < end for start, end in stretches)
