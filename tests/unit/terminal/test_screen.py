"""Lines that stay, the line that changes, and where there is none."""

from __future__ import annotations

import io
import threading
import warnings

import pytest

from sft.terminal import screen
from sft.terminal.screen import Screen, changes_in_place, is_terminal, takes_colour


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    found = Terminal()
    for name, value in (("TERM", "xterm"), ("COLUMNS", "60")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(screen, "SECONDS_BETWEEN", 0.0)
    return found


def stands(text: str) -> list[str]:
    """What each line of a terminal holds in the end."""
    lines = []
    for line in text.split("\n"):
        now = ""
        for written in line.split("\r"):
            now = written + now[len(written) :]
        lines.append(now.rstrip())
    return lines


def test_lines_that_stay_push_the_other_down(terminal: Terminal) -> None:
    shown = Screen(terminal)
    now = ["step 1"]
    view = lambda width: now[0]  # noqa: E731
    shown.show(view)
    shown.say("plan")
    now[0] = "step 2, and more"
    shown.show(view)
    assert stands(terminal.getvalue()) == ["plan", "step 2, and more"]
    now[0] = "short"
    shown.show(view)
    assert stands(terminal.getvalue()) == ["plan", "short"]
    shown.hide(view)
    assert stands(terminal.getvalue()) == ["plan", ""]


def test_the_newest_line_is_seen_until_it_goes(terminal: Terminal) -> None:
    shown = Screen(terminal)
    shown.show(lambda width: "step 1")
    with shown.doing("saving checkpoint-1"):
        assert stands(terminal.getvalue()) == ["saving checkpoint-1"]
        shown.say("note")
    assert stands(terminal.getvalue()) == ["note", "step 1"]
    shown.leave()
    assert stands(terminal.getvalue()) == ["note", ""]


def test_what_fails_leaves_no_line_behind(terminal: Terminal) -> None:
    shown = Screen(terminal)
    shown.show(lambda width: "reading")
    seen: dict[str, str] = {}
    with pytest.raises(KeyError), shown.as_before():
        shown.show(lambda width: seen["a step"])
    assert stands(terminal.getvalue()) == ["reading"]


def test_no_view_is_trusted_to_fit(terminal: Terminal) -> None:
    shown = Screen(terminal)
    shown.show(lambda width: "日本\x1b[2J" * 50)
    written = terminal.getvalue()
    assert "\x1b" not in written
    assert written.startswith("\r日本\\x1b[2J日本")
    assert screen.num_columns(written[1:]) <= 57


def test_the_key_that_a_terminal_wrote_is_wiped(terminal: Terminal) -> None:
    shown = Screen(terminal)
    shown.show(lambda width: "x" * width)
    terminal.write("^C")
    shown.say("Ctrl-C: saving")
    assert stands(terminal.getvalue())[0] == "Ctrl-C: saving"


def test_a_line_is_not_drawn_more_often_than_it_can_be_read(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen, "SECONDS_BETWEEN", 1000.0)
    shown, steps = Screen(terminal), iter(range(100))
    view = lambda width: f"step {next(steps)}"  # noqa: E731
    for _ in range(50):
        shown.show(view)
    assert terminal.getvalue() == "\rstep 0"
    shown.show(view, at_once=True)
    assert terminal.getvalue().endswith("\rstep 1")


def test_a_pipe_gets_lines_alone(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Screen()
    shown.show(lambda width: "step 1")
    shown.say(f"row \x1b[31m of {'words ' * 50}")
    shown.leave()
    assert capsys.readouterr().err == f"row \\x1b[31m of {'words ' * 50}\n"


def test_quiet_is_broken_only_by_what_must_be_heard(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Screen()
    shown.quiet = True
    shown.say("plan")
    shown.say("the disk is full", must_be_heard=True)
    assert capsys.readouterr().err == "the disk is full\n"


def test_warnings_are_lines_that_stay(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Screen(terminal)
    monkeypatch.setattr(screen, "SCREEN", shown)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # given back in the end
    screen.route_warnings()
    shown.show(lambda width: "step 1")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning(UserWarning("old \x1b[2J"), UserWarning, "some.py", 7)
    lines = stands(terminal.getvalue())
    assert lines[0].startswith("some.py:7: UserWarning: old \\x1b[2J")
    assert lines[-1] == "step 1"


def test_threads_do_not_write_into_each_others_lines(terminal: Terminal) -> None:
    shown = Screen(terminal)
    view = lambda width: "step 1"  # noqa: E731

    def speak(name: str) -> None:
        for number in range(50):
            shown.say(f"{name} {number}")
            shown.show(view)

    threads = [threading.Thread(target=speak, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shown.leave()
    lines = stands(terminal.getvalue())
    assert sorted(lines[:-1]) == sorted(f"{name} {number}" for name in "abc" for number in range(50))


@pytest.mark.parametrize(
    ("environment", "watched", "changes", "coloured"),
    [
        ({}, True, True, True),
        ({"TERM": "xterm-256color", "CI": ""}, True, True, True),
        ({"CI": "false"}, True, True, True),
        ({"CI": "true"}, False, False, False),
        ({"CI": "1"}, False, False, False),
        ({"TERM": "dumb"}, True, False, False),
        ({"NO_COLOR": "1"}, True, True, False),
        ({"NO_COLOR": ""}, True, True, True),  # https://no-color.org: "when present and not an empty string"
    ],
)
def test_what_a_terminal_is_used_for(environment: dict[str, str], watched: bool, changes: bool, coloured: bool) -> None:
    asked = (is_terminal, changes_in_place, takes_colour)
    assert tuple(ask(Terminal(), environment) for ask in asked) == (watched, changes, coloured)
    assert not any(ask(io.StringIO(), environment) for ask in asked)
