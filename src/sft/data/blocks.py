"""Stage pretrain: plain texts -> blocks of ``max_length`` tokens.

    Conversation (a text)  ->  document: its tokens and an end token  ->  Block: stretches of documents that share a row

A block is full, except the last one; a document that does not fit goes on in the next block. Every token is trained
but the first of a row, before which there is nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sft.config import SFTConfig
from sft.data.growing import JOURNAL, GrowingStore
from sft.data.render import Renderer
from sft.data.report import DataReport
from sft.data.store import ExampleStore, StoreWriter
from sft.data.types import Conversation, Example, Pack
from sft.errors import RowError

BLOCK_TOKENS = 1 << 24
"""Tokens in blocks that are appended at one go."""

Block = list[Example]
"""Stretches of documents, in order, that together fill one row."""


def cut_into_blocks(documents: Path, folder: Path, config: SFTConfig, report: DataReport) -> None:
    """Stage pretrain: documents on disk -> blocks on disk. Cut anew from the first, if it was killed."""
    (folder / JOURNAL).unlink(missing_ok=True)
    store = GrowingStore(folder)
    examples, trained = StoreWriter(), 0
    for example in make_blocks(ExampleStore(documents), config, report):
        examples.add(example)
        trained += example.num_trained_tokens
        if examples.num_tokens >= BLOCK_TOKENS:
            store.append(examples.arrays(), examples.paths, {})
            examples = StoreWriter()
    store.append(examples.arrays(), examples.paths, {})
    store.finish()
    store.close()
    report.examples, report.tokens, report.trained_tokens = store.num_examples, store.num_tokens, trained


def make_blocks(documents: Iterable[Example], config: SFTConfig, report: DataReport) -> Iterator[Example]:
    """Documents -> what the store keeps: one example a block; or, isolated, one for each stretch of a document.

    ``group_blocks`` finds the blocks again among the stretches.
    """
    for block in cut_blocks(documents, config.max_length):
        if sum(map(len, block)) < 2:
            report.drop(str(block[0].source), "one token left over, with nothing before it", 1)
        else:
            report.blocks += 1
            yield from block if config.isolate_documents else [join(block)]


def render_documents(
    renderer: Renderer, conversations: Iterable[Conversation], report: DataReport
) -> Iterator[Example]:
    """Each text as its tokens and the end token; rows that are no texts are counted."""
    report.stop_token_ids = [int(renderer.tokenizer.eos_token_id)] if renderer.tokenizer.eos_token else []
    for conversation in conversations:
        try:
            if conversation.text is None:
                raise RowError(
                    conversation.source,
                    "a conversation, where stage pretrain reads texts",
                    "Name the column of the text with columns: {text: ...}, or set stage: sft",
                )
            document = renderer.render(conversation)[0]
        except RowError as error:
            report.reject(error)
        else:
            report.documents += 1
            report.rendered += 1
            report.rendered_tokens += len(document)
            is_weighted = document.weights is not None  # the first token counts too: in a block others precede it
            yield replace(document, weights=np.full(len(document), conversation.weight)) if is_weighted else document


def cut_blocks(documents: Iterable[Example], max_length: int) -> Iterator[Block]:
    """Fill rows of ``max_length`` tokens with documents one after the other; the last row may be shorter."""
    block: Block = []
    space = max_length
    for document in documents:
        start = 0
        while start < len(document):
            stop = min(start + space, len(document))
            block.append(_stretch(document, start, stop))
            space -= stop - start
            start = stop
            if not space:
                yield block
                block, space = [], max_length
    if block:
        yield block


def join(block: Block) -> Example:
    """The stretches of a block as one sequence, as if they were one text."""
    ids = np.concatenate([stretch.input_ids for stretch in block])
    weights = None
    if any(stretch.weights is not None for stretch in block):
        weights = np.concatenate([np.ones(len(one)) if one.weights is None else one.weights for one in block])
    mask = np.ones(len(ids), np.uint8)
    mask[0] = 0
    return Example(input_ids=ids, loss_mask=mask, weights=weights, text="", source=block[0].source)


def group_blocks(lengths: Sequence[int], max_length: int) -> list[Pack]:
    """Which stretches, kept one after the other, fill a block together."""
    packs: list[Pack] = []
    space = 0
    for position, length in enumerate(lengths):
        if not space:
            packs.append([])
            space = max_length
        packs[-1].append(position)
        space -= length
    return packs


def _stretch(document: Example, start: int, stop: int) -> Example:
    """Some tokens of a document; all but the first are trained, as nothing in the stretch is before that one."""
    mask = np.ones(stop - start, np.uint8)
    mask[0] = 0
    weights = None if document.weights is None else document.weights[start:stop]
    return replace(document, input_ids=document.input_ids[start:stop], loss_mask=mask, weights=weights, text="")
