"""JSON over HTTP to one server; whatever goes wrong on the way is a GenerationError that says what was asked and came.

The standard library's client: no proxy of the environment stands between us and a server on this machine, no
redirection is followed, and nothing is kept between requests.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sft.errors import ConfigError, GenerationError

MAX_ANSWER_BYTES = 64 * 1024 * 1024
SHOWN = 300


class ServerUnreachable(GenerationError):
    """Nobody listens, or the connection broke before a whole answer came. Asking again may help."""


class ServerTimeout(GenerationError):
    """The connection stands but no whole answer came in time. Asking again would only wait once more."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: any status, any body."""

    request: str
    """The request, for messages: "POST http://127.0.0.1:8000/v1/completions"."""

    status: int
    body: bytes

    @property
    def shown(self) -> str:
        """The body for a message: one line, shortened."""
        text = " ".join(self.body.decode("utf-8", "replace").split())
        return (text[:SHOWN] + " ..." if len(text) > SHOWN else text) or "(empty)"

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            GenerationError: the status is not 200, or the body is no JSON.
        """
        if self.status != 200:
            raise GenerationError(f"{self.request} was answered with HTTP {self.status}: {self.shown}")
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise GenerationError(f"{self.request} was answered with text that is no JSON: {self.shown}") from error


class HttpClient:
    """Requests to one address, from any number of threads."""

    def __init__(self, address: str, *, api_key: str | None = None) -> None:
        """Take an address such as ``http://127.0.0.1:8000`` or ``127.0.0.1:8000``; ``/v1`` at its end may be left out.

        Raises:
            ConfigError: it is no HTTP address.
        """
        self.address, self._parts = _read_address(address)
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._aborted = threading.Event()

    def get(self, route: str, *, timeout: float) -> Answer:
        """Ask for a route; ``timeout`` in seconds bounds the whole exchange."""
        return self._exchange("GET", route, None, timeout)

    def post(self, route: str, body: Mapping[str, Any], *, timeout: float) -> Answer:
        """Send a JSON object; ``timeout`` in seconds bounds the whole exchange."""
        return self._exchange("POST", route, json.dumps(body).encode(), timeout)

    def abort(self) -> None:
        """End every exchange that is under way and refuse new ones, until ``resume``."""
        with self._lock:
            self._aborted.set()
            for connection in self._open:
                _shut(connection)

    def resume(self) -> None:
        """Take requests again."""
        self._aborted.clear()

    def pause(self, seconds: float) -> None:
        """Wait before asking again; ``abort`` ends the wait."""
        self._aborted.wait(seconds)

    def _exchange(self, method: str, route: str, payload: bytes | None, timeout: float) -> Answer:
        request = f"{method} {self.address}{route}"
        deadline = time.monotonic() + timeout
        connection = self._connection(timeout)
        try:
            connection.connect()
            with self._registered(connection.sock, request) as stream:
                connection.request(method, self._parts.path + route, payload, self._headers)
                stream.settimeout(max(deadline - time.monotonic(), 0.001))
                response = connection.getresponse()
                return Answer(request, response.status, _read_body(response, stream, deadline))
        except TimeoutError as error:
            raise ServerTimeout(f"{request} brought no whole answer within {timeout:g} s.") from error
        except (OSError, http.client.HTTPException) as error:
            raise ServerUnreachable(f"{request} failed: {_describe(error)}.") from error
        finally:
            connection.close()

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        return kind(self._parts.hostname or "", self._parts.port, timeout=timeout)

    @contextmanager
    def _registered(self, connection: socket.socket, request: str) -> Iterator[socket.socket]:
        with self._lock:
            if self._aborted.is_set():
                raise GenerationError(f"{request} was not sent, because another request failed first.")
            self._open.add(connection)
        try:
            yield connection
        finally:
            with self._lock:
                self._open.discard(connection)


def _read_address(address: str) -> tuple[str, Any]:
    text = address if "://" in address else f"http://{address}"
    text = text.rstrip("/").removesuffix("/v1").rstrip("/")
    try:
        parts = urlsplit(text)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise ConfigError(f"{address!r} is no address of a server. Write it as http://127.0.0.1:8000")
    return text, parts


def _read_body(response: http.client.HTTPResponse, stream: socket.socket, deadline: float) -> bytes:
    body = bytearray()
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        stream.settimeout(left)
        piece = response.read1(65536)
        if not piece:
            break
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise http.client.HTTPException(f"the answer is longer than {MAX_ANSWER_BYTES:,} bytes")
    if response.length:  # bytes that were announced and never came
        raise http.client.IncompleteRead(bytes(body), response.length)
    return bytes(body)


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # it is closed already
        return


def _describe(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there"
    if isinstance(error, http.client.IncompleteRead):
        return f"the connection ended after {len(error.partial):,} bytes, in the middle of the answer"
    if isinstance(error, http.client.RemoteDisconnected | ConnectionResetError | BrokenPipeError):
        return "the server closed the connection without an answer"
    if isinstance(error, socket.gaierror):
        return f"its host name is not known ({error.strerror})"
    return f"{error}" or type(error).__name__
