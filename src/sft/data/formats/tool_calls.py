"""Tools that are offered, and calls of them, in the shapes that chat templates expect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sft.data.formats.fields import describe, parsed, refuse, shorten
from sft.data.types import Row


def read_tools(row: Row, column: str = "tools") -> tuple[Mapping[str, Any], ...]:
    """Return the tools of a row as ``{"type": "function", "function": {...}}``, which is how servers hand them to chat
    templates; a bare function is put into that form. The list, or each of its entries, may be JSON text.
    """
    found = row.values.get(column)
    if not found:
        return ()
    tools = parsed(row, found, column)
    if tools is None:
        return ()
    if not isinstance(tools, list):
        refuse(row, f"{column!r} is {describe(tools)}, not a list", f"Found {shorten(tools)}")
    tools = [parsed(row, tool, column) for tool in tools]
    for tool in tools:
        if not isinstance(tool, dict):
            refuse(row, f"a tool is {describe(tool)}, not an object", f"Found {shorten(tool)}")
    return tuple({"type": "function", "function": tool} if _is_bare(tool) else tool for tool in tools)


def _is_bare(tool: Mapping[str, Any]) -> bool:
    return "name" in tool and "function" not in tool and "type" not in tool


def read_calls(row: Row, value: Any, where: str) -> tuple[Mapping[str, Any], ...]:
    """Return tool calls as ``{"type": "function", "function": {"name": ..., "arguments": {...}}}``.

    ``value`` is one call or a list of them, or either as JSON text. ``arguments`` may be JSON text, too, as APIs write
    it; templates write objects anew and would quote a text twice.
    """
    calls = parsed(row, value, "tool_calls")
    if not isinstance(calls, list):
        calls = [calls]
    return tuple(_read_call(row, parsed(row, call, "tool_calls"), where) for call in calls)


def _read_call(row: Row, call: Any, where: str) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        refuse(row, "a tool call has no name", f"{where} holds {shorten(call)}; a call needs name and arguments")
    arguments = function.get("arguments", function.get("parameters"))
    if arguments is None or arguments == "":
        arguments = {}
    arguments = parsed(row, arguments, "arguments")
    if not isinstance(arguments, dict):
        refuse(row, f"tool call arguments are {describe(arguments)}, not an object", f"{where}: {shorten(arguments)}")
    read: dict[str, Any] = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    if isinstance(call.get("id"), str):
        read["id"] = call["id"]
    return read
