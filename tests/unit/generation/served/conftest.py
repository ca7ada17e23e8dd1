"""A real HTTP server on loopback that plays whatever part a test gives it."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

Part = Callable[["Handler", Any], None]
"""Answers one request, given its handler and the decoded body."""


class Handler(BaseHTTPRequestHandler):
    stage: Stage

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.stage.play(self, None)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.stage.play(self, json.loads(body))

    def send(self, status: int, body: Any) -> None:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Broken connections are what it is for."""


class Stage:
    """The server: parts by route, and a record of what it was asked."""

    def __init__(self) -> None:
        self.parts: dict[str, list[Part]] = {
            "/health": [answer(200, {})],
            "/v1/models": [answer(200, models("tiny"))],
            "/v1/completions": [complete],
        }
        self.asked: list[tuple[str, Any]] = []
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._server = _QuietServer(("127.0.0.1", 0), type("StageHandler", (Handler,), {"stage": self}))
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def on(self, route: str, *parts: Part) -> None:
        """Play these parts, one a request; the last one from then on."""
        self.parts[route] = list(parts)

    def play(self, handler: Handler, body: Any) -> None:
        with self._lock:
            self.asked.append((handler.path, body))
            parts = self.parts.get(handler.path, [answer(404, {"detail": "Not Found"})])
            part = parts.pop(0) if len(parts) > 1 else parts[0]
        part(handler, body)

    def count(self, route: str) -> int:
        """How often a route was asked."""
        return sum(path == route for path, _ in self.asked)

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


def answer(status: int, body: Any) -> Part:
    """This status and body."""
    return lambda handler, _: handler.send(status, body)


def models(*names: str) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": name, "parent": None} for name in names]}


def completion(body: Any, **changes: Any) -> dict[str, Any]:
    """A good answer to a request, with changes at its top, in its choice or in its usage."""
    prompt = body["prompt"]
    num_prompt = len(prompt.split()) if isinstance(prompt, str) else len(prompt)
    choice: dict[str, Any] = {"index": 0, "text": f" heard {prompt}", "finish_reason": "stop", "logprobs": None}
    usage: dict[str, Any] = {"prompt_tokens": num_prompt, "completion_tokens": 1}
    full: dict[str, Any] = {"model": body["model"], "choices": [choice], "usage": usage}
    for name, value in changes.items():
        place = next(part for part in (usage, full, choice) if name in part or part is choice)
        place[name] = value
    return full


def complete(handler: Handler, body: Any) -> None:
    """A good answer."""
    handler.send(200, completion(body))


def changed(**changes: Any) -> Part:
    """An answer that is good but for these values."""
    return lambda handler, body: handler.send(200, completion(body, **changes))


def hang(handler: Handler, _: Any) -> None:
    """Nothing, for as long as the test runs."""
    handler.stage.over.wait(60)


def close(handler: Handler, _: Any) -> None:
    """The end of the connection without a word."""
    handler.connection.shutdown(socket.SHUT_RDWR)


def reset(handler: Handler, _: Any) -> None:
    """A reset connection, as of a server that was killed."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def half(handler: Handler, body: Any) -> None:
    """The first half of a good answer, then the end of the connection."""
    payload = json.dumps(completion(body)).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(payload)))
    handler.end_headers()
    handler.wfile.write(payload[: len(payload) // 2])


def drip(handler: Handler, _: Any) -> None:
    """One byte after another, each soon enough, without an end."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    while not handler.stage.over.wait(0.02):
        try:
            handler.wfile.write(b" ")
        except OSError:
            return


def after(seconds: float, part: Part) -> Part:
    """A part that begins late."""

    def late(handler: Handler, body: Any) -> None:
        time.sleep(seconds)
        part(handler, body)

    return late


@pytest.fixture
def stage() -> Iterator[Stage]:
    server = Stage()
    yield server
    server.close()


@pytest.fixture(scope="session")
def tokenizer(tiny_tokenizer_folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_tokenizer_folder)


@pytest.fixture(scope="session")
def parts() -> Any:
    """The parts above, for tests, which cannot import this file."""

    class Parts:
        pass

    for part in (answer, models, completion, complete, changed, hang, close, reset, half, drip, after):
        setattr(Parts, part.__name__, staticmethod(part))
    return Parts
