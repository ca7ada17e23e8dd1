from __future__ import annotations

import pytest

from sft.config.declared import parse_annotation


@pytest.mark.parametrize(
    ("text", "kinds", "optional", "item"),
    [
        ("bool", {"bool"}, False, None),
        ("str | None", {"str"}, True, None),
        ("str | list[str] | None", {"str", "list"}, True, "str"),
        ("Optional[int]", {"int"}, True, None),
        ("Union[str, List, None]", {"str"}, True, None),
        ("list[int] | None", {"list"}, True, "int"),
        ("typing.Any", set(), False, None),
        ("dict[str, str]", {"dict"}, False, "str"),
        ("dict[str, Any] | str | None", {"dict", "str"}, True, None),
        ("str | None | Literal[False]", {"str", "bool"}, True, None),
        ("Literal['a', 'b']", {"str"}, False, None),
        ("ParallelismConfig | None", set(), True, None),
    ],
)
def test_annotations(text: str, kinds: set[str], optional: bool, item: str | None) -> None:
    declared = parse_annotation(text)
    assert (declared.kinds, declared.optional, declared.item) == (kinds, optional, item)


def test_an_enumeration_gives_the_choices() -> None:
    declared = parse_annotation("Strategy | str", {"Strategy": ("no", "steps")})
    assert declared.choices == ("no", "steps")
    assert declared.kinds == {"str"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("int", "a whole number"),
        ("int | float", "a number"),
        ("str | list[str] | None", "text or a list of texts"),
        ("dict[str, str]", "a mapping of text to text"),
        ("list[int] | None", "a list of whole numbers"),
        ("bool | str", "true or false or text"),
    ],
)
def test_what_is_wanted_in_words(text: str, wanted: str) -> None:
    assert parse_annotation(text).wanted() == wanted
