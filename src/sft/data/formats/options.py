"""What a format is told besides the row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

FUNCTION_CALL = "function_call"
"""A turn of the assistant that is written as the JSON text of its tool calls."""

ROLE_NAMES: Mapping[str, str] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function": "tool",
    "function_response": "tool",
    "tool_response": "tool",
    "ipython": "tool",
    "function_call": FUNCTION_CALL,
    "tool_call": FUNCTION_CALL,
}
"""What roles are called in the wild, in small letters, and what they mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatOptions:
    """The choices of a user that decide how a row becomes a conversation."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Names of the user's columns: prompt, input, response, system, history, messages, tools, text, weight."""

    role_names: Mapping[str, str] = field(default_factory=dict)
    """What the user's roles mean, over ROLE_NAMES."""

    system_prompt: str | None = None
    """System message for conversations that have none."""

    input_separator: str = "\n\n"
    """What stands between instruction and input. LLaMA-Factory writes one line break instead."""

    def column(self, key: str, usual: str) -> str:
        """Return the name of a column: the user's, else the usual one."""
        return self.columns.get(key, usual)

    def meaning(self, role: str) -> str | None:
        """Return the role that a name stands for, or None if nobody uses it so."""
        return self.role_names.get(role) or ROLE_NAMES.get(role) or ROLE_NAMES.get(role.lower())
