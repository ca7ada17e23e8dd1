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


OPTIONAL_COLUMNS = ("input", "system", "history", "tools", "weight")
"""Columns that a row is read without."""

UNREAD = "\0"
"""A name that no column has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatOptions:
    """The choices of a user that decide how a row becomes a conversation."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Names of the user's columns: prompt, input, response, system, history, messages, tools, text, weight."""

    role_names: Mapping[str, str] = field(default_factory=dict)
    """What the user's roles mean, over ROLE_NAMES."""

    system_prompt: str | None = None
    """System message for conversations that have none."""

    pairs: bool = False
    """Rows hold a better and a worse answer (stage dpo)."""

    only_columns: bool = False
    """Whether optional columns that ``columns`` does not name are left unread."""

    role_key: str | None = None
    """Key of a turn under which its role stands; None: role or from."""

    content_key: str | None = None
    """Key of a turn under which its text stands; None: content or value."""

    drop_system: bool = False
    """Whether system messages of the rows are left out; ``system_prompt`` comes in their place."""

    response_prefix: str = ""
    """What every answer of a question with columns of its own begins with, over what the row has."""

    input_separator: str = "\n\n"
    """What stands between instruction and input. LLaMA-Factory writes one line break instead."""

    def column(self, key: str, usual: str) -> str:
        """Return the name of a column: the user's, else the usual one; UNREAD where it is not to be read."""
        return self.columns.get(key, UNREAD if self.only_columns and key in OPTIONAL_COLUMNS else usual)

    def meaning(self, role: str) -> str | None:
        """Return the role that a name stands for, or None if nobody uses it so."""
        return self.role_names.get(role) or ROLE_NAMES.get(role) or ROLE_NAMES.get(role.lower())
