"""Uploads, against a small server that speaks the hub's protocol: what arrives, what is said, what stays unsaid."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sft.cli.main import main
from sft.errors import EXIT_DONE, EXIT_USER, ExportError
from sft.export.hub import open_repository, push_folder
from sft.training.save import ModelSaver

TOKEN = "hf_" + "abcdefghij" * 3


class Hub(ThreadingHTTPServer):
    """Repositories and the files that were committed to them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.tokens: set[str] = set()
        self.refuses: int | None = None
        self.refuses_commits = 0
        """So many, then no more."""
        self.commits: dict[str, list[dict[str, bytes]]] = {}
        """Repository -> the files that came with each of its commits."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        if "/tree/main" in self.path:
            name = self.path.split("/api/models/")[-1].split("/tree")[0]
            files = self.server.repositories[name].items()
            self._say([{"type": "file", "path": path, "size": len(text), "oid": "0" * 40} for path, text in files])
            return
        name = self.path.split("/api/models/")[-1].split("/revision")[0]
        self._say({"id": name, "sha": "0" * 40, "siblings": []} if name in self.server.repositories else None)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.tokens.add(self.headers.get("Authorization", "").removeprefix("Bearer "))
        if self.server.refuses:
            self._say({"error": f"no right to write with {TOKEN}"}, self.server.refuses)
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            self.server.repositories.setdefault(name, {})
            self.server.private[name] = bool(asked.get("private")) or asked.get("visibility") == "private"
            self._say({"url": f"{self.server.address}/{name}", "name": name, "id": name})
        elif self.path == "/api/validate-yaml":
            self._say({"errors": [], "warnings": []})
        elif self.path.endswith("/preupload/main"):
            files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            self._say({"files": [{**file, "shouldIgnore": False, "oid": None} for file in files]})
        elif self.path.endswith("/commit/main"):
            name = self.path.removeprefix("/api/models/").removesuffix("/commit/main")
            if self.server.refuses_commits:
                self.server.refuses_commits -= 1
                self._say({"error": f"no right to write with {TOKEN}"}, 403)
                return
            lines = [json.loads(line) for line in body.decode().splitlines()]
            self._commit(name, lines)
            oid = "1" * 40
            self._say({"success": True, "commitOid": oid, "commitUrl": f"{self.server.address}/{name}/commit/{oid}"})
        else:
            self._say(None)

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        files = [line["value"] for line in lines if line["key"] == "file"]
        came = {file["path"]: base64.b64decode(file["content"]) for file in files}
        there = self.server.repositories[name]
        for line in lines:
            if line["key"] == "deletedFile":
                del there[line["value"]["path"]]
        there.update(came)
        self.server.commits.setdefault(name, []).append(came)

    def _say(self, value: object, status: int = 200) -> None:
        text = json.dumps({"error": "not found"} if value is None else value).encode()
        self.send_response(404 if value is None else status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.address)  # HF_ENDPOINT is read once, at import
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", server.address)
    monkeypatch.setattr("transformers.utils.hub._hf_api", None)  # keeps the address of its first use
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_file_arrives_byte_by_byte(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlibrary_name: peft\n---\n# mine\n")
    (tmp_path / "model.safetensors").write_bytes(bytes(range(256)) * 40)
    assert push_folder(tmp_path, "me/mine", private=True) == f"{hub.address}/me/mine"
    files = hub.repositories["me/mine"]
    kept = {name: content for name, content in files.items() if name != ".gitattributes"}
    assert kept == {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert hub.private == {"me/mine": True}
    assert hub.tokens == {TOKEN}


def test_a_hub_that_refuses_is_told_without_the_token(hub: Hub, tmp_path: Path) -> None:
    hub.refuses = 403
    (tmp_path / "README.md").write_text("# mine\n")
    calls: list[Callable[[], str]] = [lambda: push_folder(tmp_path, "me/mine"), lambda: open_repository("me/mine")]
    for call in calls:
        with pytest.raises(ExportError, match="hf auth login") as refused:
            call()
        assert "403" in str(refused.value)
        assert TOKEN not in str(refused.value)


def words_of_a_run(model: Path, data: Path, output: Path) -> list[str]:
    rows = json.loads(data.read_text())[:8]
    data.write_text(json.dumps(rows))
    return [
        *("train", "--model_name_or_path", str(model), "--data_path", str(data), "--output_dir", str(output)),
        *("--cache_dir", str(output.parent / "cache"), "--max_steps", "1", "--use_lora", "--save_strategy", "no"),
        *("--push_to_hub", "--hub_model_id", "me/tuned"),
    ]


def test_a_run_leaves_model_and_card_on_the_hub(
    hub: Hub, tiny_model_folder: Path, alpaca_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, words = tmp_path / "run", words_of_a_run(tiny_model_folder, alpaca_file, tmp_path / "run")
    words[words.index("--save_strategy") + 1] = "steps"
    assert main([*words, "--save_steps", "1"]) == EXIT_DONE  # and what hub_strategy is by default
    printed = capsys.readouterr()
    assert f"uploaded: {hub.address}/me/tuned" in printed.out + printed.err
    there = hub.repositories["me/tuned"]
    here = {path.name: path.read_bytes() for path in (output / "final_model").iterdir()}
    assert {name: there[name] for name in here} == here
    assert [set(sent) - {".gitattributes"} for sent in hub.commits["me/tuned"]] == [set(here)] * 2
    card = there["README.md"].decode()
    assert card.startswith("---\nlibrary_name: peft\n")
    assert "## Training" in card
    written = [
        path.read_text(errors="replace") for path in output.rglob("*") if path.suffix in (".json", ".log", ".md")
    ]
    assert all(TOKEN not in text for text in [printed.out, printed.err, *written])


def test_a_missing_right_is_told_before_anything_is_read(
    hub: Hub, tiny_model_folder: Path, alpaca_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.refuses = 401
    output = tmp_path / "run"
    assert main(words_of_a_run(tiny_model_folder, alpaca_file, output)) == EXIT_USER
    said = capsys.readouterr().err
    assert "cannot be opened on the hub" in said
    assert TOKEN not in said
    assert not (output / "final_model").exists()
    assert not (tmp_path / "cache").exists(), "the rows were prepared for nothing"


def words_of_saves(model: Path, data: Path, output: Path, strategy: str, steps: int) -> list[str]:
    words = words_of_a_run(model, data, output)
    words[words.index("--save_strategy") + 1] = "steps"
    words[words.index("--max_steps") + 1] = str(steps)
    return [*words, "--save_steps", "1", "--hub_strategy", strategy, "--hub_always_push"]


def of_checkpoint(folder: Path, name: str) -> dict[str, bytes]:
    """A checkpoint as it is to be under a name on the hub."""
    return {f"{name}/{path.name}": path.read_bytes() for path in folder.iterdir()}


def test_saves_send_what_the_end_sends_and_checkpoints_where_asked(
    hub: Hub, tiny_model_folder: Path, alpaca_file: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    assert main(words_of_saves(tiny_model_folder, alpaca_file, output, "all_checkpoints", 2)) == EXIT_DONE
    *meanwhile, last = hub.commits["me/tuned"]
    assert len(meanwhile) == 2
    for step, sent in enumerate(meanwhile, start=1):
        assert {name for name in sent if "/" not in name} == set(last), "another set of files than the end sends"
        assert f"| steps | {step} |" in sent["README.md"].decode()
        beside = {name: content for name, content in sent.items() if "/" in name}
        assert beside == of_checkpoint(output / f"checkpoint-{step}", f"checkpoint-{step}")
    there = hub.repositories["me/tuned"]
    assert not [name for name in there if name.endswith((".bin", ".pt", ".pkl", ".pth"))]
    assert all(TOKEN.encode() not in content for content in there.values())
    assert not [path for path in output.iterdir() if path.suffix in (".bin", ".safetensors")], "it would be copied here"
    assert not (output / ".uploading").exists()


def test_a_save_that_hub_or_disk_refuse_costs_nothing_else(
    hub: Hub,
    tiny_model_folder: Path,
    alpaca_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And a merged model takes the place of the adapters that were uploaded before it."""
    save = ModelSaver.save

    def save_or_not(self: ModelSaver, name: str, results: Any) -> Path:
        if name.startswith(".uploading/2/"):
            raise OSError(28, "No space left on device")
        return save(self, name, results)

    monkeypatch.setattr(ModelSaver, "save", save_or_not)
    hub.refuses_commits = 1
    words = words_of_saves(tiny_model_folder, alpaca_file, tmp_path / "run", "checkpoint", 3)
    assert main([*words, "--quiet", "--merged_dir", "merged"]) == EXIT_DONE
    said = capsys.readouterr().err
    assert said.count("step 1: the hub did not take the model") == 1
    assert TOKEN not in said
    assert said.count("step 2: nothing is uploaded, for the disk did not take the copy: [Errno 28]") == 1
    (third, merged), there = hub.commits["me/tuned"], hub.repositories["me/tuned"]
    assert "adapter_config.json" in third
    checkpoint = of_checkpoint(tmp_path / "run" / "checkpoint-3", "last-checkpoint")
    assert {name: content for name, content in third.items() if "/" in name} == checkpoint
    assert "model.safetensors" in merged
    assert set(there) - {".gitattributes", *checkpoint} == set(merged), "an adapter is left beside the merged model"
