"""The real download, from a hub on this machine's loopback."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ZIP_PATH = "/datasets/zai-org/LongBench/resolve/main/data.zip"
PARQUET_PATH = "/datasets/truthfulqa/truthful_qa/resolve/main/generation/validation-00000-of-00001.parquet"

READ = """
import json, sys
from sft.errors import SftError
from sft.tasks import open_tasks
for name in sys.argv[1:]:
    (task,) = open_tasks(name)
    try:
        print(json.dumps([[dict(e.inputs), e.references, e.incorrect] for e in task.examples()]))
    except SftError as error:
        print(json.dumps(str(error)))
"""


def archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as written:
        for name in names:
            row = {"context": "c", "input": name, "answers": ["a"], "length": 3, "all_classes": None, "_id": "1"}
            written.writestr(name, json.dumps(row) + "\n")
    return buffer.getvalue()


def parquet() -> bytes:
    buffer = io.BytesIO()
    row = {
        "type": "Adversarial",
        "category": "Law",
        "question": "Is it so?",
        "best_answer": "No",
        "correct_answers": ["No", ""],
        "incorrect_answers": ["Yes", "Maybe"],
        "source": "none",
    }
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), buffer)
    return buffer.getvalue()


class Hub(ThreadingHTTPServer):
    """Serves some files as the hub does, and notes what was asked of it."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        body = self.server.files.get(self.path)
        if body is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub({ZIP_PATH: archive("data/qasper.jsonl", "data/qasper_e.jsonl"), PARQUET_PATH: parquet()})
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def read(tmp_path: Path, endpoint: str, *names: str, **variables: str) -> list[object]:
    """What tasks hold in a fresh process whose hub is at ``endpoint``; the client reads its variables at import."""
    hub_variables = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    hub_variables |= variables
    dropped = ("HF_", "HUGGINGFACE_", "SFT_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    kept = {key: value for key, value in os.environ.items() if not key.upper().startswith(dropped)}
    done = subprocess.run(
        [sys.executable, "-c", READ, *names], capture_output=True, text=True, check=False, env=kept | hub_variables
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_archive_and_the_parquet_are_fetched_and_read(hub: Hub, tmp_path: Path) -> None:
    names = ("qasper", "longbench_e/qasper", "truthfulqa", "musique")
    plain, by_length, truthfulqa, missing = read(tmp_path, hub.address, *names)
    assert plain == [[{"context": "c", "input": "data/qasper.jsonl"}, ["a"], []]]
    assert by_length == [[{"context": "c", "input": "data/qasper_e.jsonl"}, ["a"], []]]
    assert truthfulqa == [[{"question": "Is it so?"}, ["No"], ["Yes", "Maybe"]]]
    assert str(missing).startswith("longbench: the subset 'musique' is asked for, but zai-org/LongBench/data.zip does")
    assert hub.asked.count(f"GET {ZIP_PATH}") == 1, "one download serves every subset"
    assert hub.asked.count(f"GET {PARQUET_PATH}") == 1


def test_a_hostile_archive_from_the_hub_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.files[ZIP_PATH] = archive("data/qasper.jsonl", "../../evil.jsonl")
    (refused,) = read(tmp_path, hub.address, "qasper")
    assert "zai-org/LongBench/data.zip: the archive is refused: its entry '../../evil.jsonl'" in str(refused)
    assert not list(tmp_path.rglob("evil*"))


def test_a_file_that_is_not_there_and_a_hub_that_is_not_asked(hub: Hub, tmp_path: Path) -> None:
    del hub.files[PARQUET_PATH]
    (gone,) = read(tmp_path, hub.address, "truthfulqa")
    assert f"could not be had from {hub.address}" in str(gone)
    assert "--truthfulqa_file or SFT_TRUTHFULQA_FILE" in str(gone)
    (offline,) = read(tmp_path, hub.address, "qasper", HF_HUB_OFFLINE="1")
    assert f"could not be had from {hub.address}" in str(offline)
    assert "--longbench_dir or SFT_LONGBENCH_DIR" in str(offline)
