"""Every way in which an exchange can go wrong ends in time, and in words."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from sft.errors import ConfigError, GenerationError
from sft.generation.http_client import HttpClient, ServerTimeout, ServerUnreachable

ROUTE = "/v1/completions"
BODY = {"model": "tiny", "prompt": [1, 2]}


def test_an_answer_comes_back_whatever_its_status(stage: Any, parts: Any) -> None:
    stage.on("/odd", parts.answer(418, {"error": "I am\n a  teapot"}))
    client = HttpClient(stage.address)
    answer = client.get("/odd", timeout=5)
    assert answer.status == 418
    assert answer.shown == '{"error": "I am\\n a teapot"}'
    with pytest.raises(GenerationError, match=r"GET http://127.0.0.1:\d+/odd was answered with HTTP 418: .*teapot"):
        answer.json()
    assert client.post(ROUTE, BODY, timeout=5).json()["usage"]["prompt_tokens"] == 2


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("reset", "closed the connection without an answer"),
        ("close", "closed the connection without an answer"),
        ("half", "in the middle of the answer"),
    ],
)
def test_a_broken_connection_is_unreachable(stage: Any, parts: Any, part: str, words: str) -> None:
    stage.on(ROUTE, getattr(parts, part))
    with pytest.raises(ServerUnreachable, match=words):
        HttpClient(stage.address).post(ROUTE, BODY, timeout=5)


def test_nobody_listens() -> None:
    with socket.socket() as taken:  # bound, so that nobody else gets it, and not listening
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ServerUnreachable, match="nobody listens there"):
            HttpClient(f"127.0.0.1:{taken.getsockname()[1]}").get("/health", timeout=5)


@pytest.mark.parametrize("part", ["hang", "drip"])
def test_the_time_out_is_for_the_whole_exchange(stage: Any, parts: Any, part: str) -> None:
    stage.on(ROUTE, getattr(parts, part))
    started = time.monotonic()
    with pytest.raises(ServerTimeout, match=r"no whole answer within 0\.3 s"):
        HttpClient(stage.address).post(ROUTE, BODY, timeout=0.3)
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("body", [b"<html>busy</html>", b"", b'{"choices": [', b"\xff\xfe\x00"])
def test_garbage_is_no_json(stage: Any, parts: Any, body: bytes) -> None:
    stage.on(ROUTE, parts.answer(200, body))
    with pytest.raises(GenerationError, match="no JSON"):
        HttpClient(stage.address).post(ROUTE, BODY, timeout=5).json()


def test_what_is_no_http_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def speak() -> None:
            connection, _ = server.accept()
            connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            connection.close()

        thread = threading.Thread(target=speak)
        thread.start()
        with pytest.raises(ServerUnreachable, match=r"SSH-2\.0"):
            HttpClient(f"127.0.0.1:{server.getsockname()[1]}").get("/health", timeout=5)
        thread.join()


def test_an_endless_answer_is_given_up(stage: Any, parts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sft.generation.http_client.MAX_ANSWER_BYTES", 10_000)
    stage.on(ROUTE, parts.answer(200, b" " * 200_000))
    with pytest.raises(ServerUnreachable, match="longer than 10,000 bytes"):
        HttpClient(stage.address).post(ROUTE, BODY, timeout=5)


def test_abort_ends_what_is_under_way_and_refuses_more(stage: Any, parts: Any) -> None:
    stage.on(ROUTE, parts.hang)
    client = HttpClient(stage.address)
    threading.Timer(0.2, client.abort).start()
    started = time.monotonic()
    with pytest.raises(ServerUnreachable):
        client.post(ROUTE, BODY, timeout=30)
    with pytest.raises(GenerationError, match="another request failed first"):
        client.get("/health", timeout=5)
    client.pause(30)
    assert time.monotonic() - started < 5
    client.resume()
    assert client.get("/health", timeout=5).status == 200


def test_proxies_and_redirections_are_not_followed(stage: Any, parts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    stage.on("/health", parts.answer(302, {}))
    assert HttpClient(stage.address).get("/health", timeout=5).status == 302


def test_the_key_is_sent_and_not_shown(stage: Any, parts: Any) -> None:
    seen = []
    stage.on("/health", lambda handler, _: (seen.append(handler.headers["Authorization"]), handler.send(401, {})))
    client = HttpClient(stage.address, api_key="secret-key")
    with pytest.raises(GenerationError) as caught:
        client.get("/health", timeout=5).json()
    assert seen == ["Bearer secret-key"]
    assert "secret-key" not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://host:8000/v1/", "http://host:8000"),
        ("https://host/prefix/v1", "https://host/prefix"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_addresses(written: str, address: str) -> None:
    assert HttpClient(written).address == address


@pytest.mark.parametrize("written", ["", "http://", "ftp://host", "http://host:port", "http://host:99999", "file:///x"])
def test_what_is_no_address(written: str) -> None:
    with pytest.raises(ConfigError, match="no address of a server"):
        HttpClient(written)


def test_a_prefix_stands_before_every_route(stage: Any, parts: Any) -> None:
    stage.on("/prefix/health", parts.answer(200, {"ok": True}))
    assert HttpClient(f"{stage.address}/prefix/").get("/health", timeout=5).json() == {"ok": True}
