"""Naming one of several classes (LongBench's ``classification``)."""

from __future__ import annotations

from collections.abc import Sequence


def classification(prediction: str, reference: str, classes: Sequence[str]) -> float:
    """1 over the number of classes that the answer names, if the wanted one is among them, else 0.

    A class whose name is only a part of the wanted one's does not count. LongBench takes such classes out of the list
    that it is walking through, so that the class behind each of them is never looked at and stays; so it does here.
    """
    named = [name for name in classes if name in prediction]
    position = 0
    while position < len(named):
        name = named[position]
        if name in reference and name != reference:
            named.remove(name)
        position += 1
    return 1.0 / len(named) if reference in named else 0.0
