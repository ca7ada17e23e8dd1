"""The messages of errors, read from the source: what errors.md promises a heading for, and what its site page lists.

A message is a text that is raised, collected as a problem, or made by a function that returns an error. Where it has
values in it, … stands for each.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "sft"
GAP = "…"
MARKER = re.compile(r"^<!-- from: (.+?) -->$", re.MULTILINE)
DRAW = frozenset({"cli", "notebook", "report", "terminal"})
"""Parts of the package that make texts to be shown: what their functions yield is no list of problems."""

FEWEST_LETTERS = 9
"""Shorter ones are pieces that are put into other messages."""


def error_names() -> frozenset[str]:
    """The classes of sft/errors.py, and of those the rest of the package derives from them."""
    bases: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                bases.setdefault(node.name, set()).update(base.id for base in node.bases if isinstance(base, ast.Name))
    known = {"SftError"}
    while more := {name for name, above in bases.items() if above & known} - known:
        known |= more
    return frozenset(known)


def messages_in(path: Path, errors: frozenset[str]) -> list[str]:
    """The messages of one file, in its order."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    yielding = errors if path.relative_to(PACKAGE).parts[0] in DRAW else errors | {"Iterator[str]"}
    found = dict.fromkeys(text for node in sources_in(tree, errors, yielding) for text in texts(node))
    return [text for text in found if len(re.sub(r"[\W_]", "", text)) >= FEWEST_LETTERS]


def sources_in(tree: ast.Module, errors: frozenset[str], returned: frozenset[str]) -> Iterator[ast.AST]:
    """Pieces of code whose texts are messages; ``returned``: what functions that make them say they return."""
    made_by = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        match node:
            case ast.Raise(exc=ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args, keywords=named)):
                if name in errors or not hasattr(builtins, name):
                    for given in [*args, *(keyword.value for keyword in named)]:
                        yield given
                        if isinstance(given, ast.Call) and getattr(given.func, "id", None) in made_by:
                            yield from without_docstring(made_by[given.func.id].body)
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=name) | ast.Attribute(attr=name), attr="append" | "extend"),
                args=args,
            ):
                if name == "problems":
                    yield from args
            case ast.Call(func=ast.Name(id="refuse" | "refused"), args=args):
                yield from args
            case ast.FunctionDef(returns=returns, body=body) if returns and ast.unparse(returns) in returned:
                yield from without_docstring(body)
            case _:
                pass


def without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0]
    return body[1:] if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) else body


def texts(node: ast.AST) -> Iterator[str]:
    """The texts of an expression; a sum of texts is one."""
    text = text_of(node)
    if text is not None:
        yield " ".join(text.split())
        return
    for child in ast.iter_child_nodes(node):
        yield from texts(child)


def text_of(node: ast.AST) -> str | None:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(GAP if text_of(value) is None else str(text_of(value)) for value in values)
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            sides = text_of(left), text_of(right)
            return None if sides == (None, None) else "".join(GAP if side is None else side for side in sides)
        case _:
            return None


def sections_of(page: str) -> dict[str, tuple[str, ...]]:
    """Heading -> the files and folders of the package whose messages it explains."""
    sections = {}
    for section in re.split(r"^#{2,3} ", page, flags=re.MULTILINE)[1:]:
        marker = MARKER.search(section)
        if marker:
            sections[section.splitlines()[0]] = tuple(marker[1].split())
    return sections


def heading_of(path: str, sections: dict[str, tuple[str, ...]]) -> str | None:
    """The heading whose files include this one most exactly; ``path`` counts from the package."""
    fitting = [
        (len(place), heading)
        for heading, places in sections.items()
        for place in places
        if path == place or (place.endswith("/") and path.startswith(place))
    ]
    return max(fitting)[1] if fitting else None


def all_messages() -> dict[str, list[str]]:
    """File of the package -> its messages; files without any are left out."""
    errors = error_names()
    found = {path.relative_to(PACKAGE).as_posix(): messages_in(path, errors) for path in sorted(PACKAGE.rglob("*.py"))}
    return {path: messages for path, messages in found.items() if messages}


def with_messages(page: str) -> str:
    """The page with a list of messages under each heading that has files."""
    sections, found = sections_of(page), all_messages()
    for heading, places in sections.items():
        lines = [
            f"- <code>{escaped(text)}</code>"
            for path, messages in found.items()
            if heading_of(path, sections) == heading
            for text in messages
        ]
        marker = f"<!-- from: {' '.join(places)} -->"
        closed = f"<details><summary>All {len(lines)} messages of this kind</summary>"
        page = page.replace(marker, "\n\n".join([closed, "\n".join(lines), "</details>"]))
    return page


def escaped(text: str) -> str:
    """As HTML inside Markdown, where neither means anything."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#+!|~$-])", r"\\\1", text)
