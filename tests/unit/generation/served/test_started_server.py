"""A server of ours is started, waited for, brought back, and gone when it should be, whatever happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from sft.errors import GenerationError
from sft.generation import Sampling
from sft.generation.launch import Launch, LaunchOptions
from sft.generation.openai_dialect import OpenAIDialect
from sft.generation.server_engine import ServerEngine
from sft.generation.server_process import ServerProcess, inherited_environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")

GREEDY = Sampling(max_new_tokens=4)

SERVER = '''
"""A small server with habits: python server.py PORT MODEL HABIT..."""
import json, os, signal, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
port, model, habits = int(sys.argv[1]), sys.argv[2], set(sys.argv[3:])
print("starting with", *sorted(habits), flush=True)
if "has-children" in habits:
    for flags in ({}, {"start_new_session": True}):
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], **flags)
if "ignores-sigterm" in habits:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "dies" in habits:
    sys.exit("CUDA out of memory, or so")
if "slow" in habits:
    time.sleep(1)
if "never-up" in habits:
    time.sleep(600)

class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass
    def reply(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def do_GET(self):
        self.reply({"data": [{"id": model}]})
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "dies-of-the-first-request" in habits or body["prompt"] == "die":
            print("EngineCore died", flush=True)
            os._exit(7)
        if body["prompt"] == "hang":
            time.sleep(600)
        text = os.environ.get("ANSWER", "fine")
        choice = {"text": text, "finish_reason": "stop"}
        self.reply({"model": body["model"], "choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})

ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
'''


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sft.generation.running_server.RETRY_PAUSES", (0.01, 0.01))
    monkeypatch.setattr("sft.generation.running_server.POLL_SECONDS", 0.02)
    monkeypatch.setattr("sft.generation.server_engine.CHECK_SECONDS", 1.0)
    monkeypatch.setattr("sft.generation.server_process.GRACE_SECONDS", 1.0)


class Habits:
    """Starts servers with habits, which may change from one start to the next."""

    def __init__(self, folder: Path) -> None:
        self.now: list[str] = []
        self.folders: list[str] = []
        self.log = folder / "server.log"
        self._script = folder / "server.py"
        self._script.write_text(SERVER)

    def engine(self, *, start_timeout: float = 30, request_timeout: float = 5, **options: Any) -> ServerEngine:
        def command(folder: str, name: str, port: int) -> list[str]:
            self.folders.append(folder)
            return [sys.executable, str(self._script), str(port), name, *self.now]

        launch_options = LaunchOptions(log_file=self.log, start_timeout=start_timeout)
        launch = Launch(launch_options, "base-model", command, options.pop("environment", {}))
        return ServerEngine(OpenAIDialect(), None, launch=launch, request_timeout=request_timeout, **options)


@pytest.fixture
def habits(tmp_path: Path) -> Habits:
    return Habits(tmp_path)


def group_of(engine: ServerEngine) -> list[int]:
    """The guard, the server and everything they started, found by their parents."""
    assert engine.server.process is not None
    return family(engine.server.process.pid)


def family(root: int) -> list[int]:
    found = [root]
    for pid in found:
        children = Path(f"/proc/{pid}/task/{pid}/children")
        found.extend(int(child) for child in children.read_text().split() if children.exists())
    return found


def are_gone(pids: list[int], within: float = 10) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if not any(is_alive(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def server_pid(engine: ServerEngine) -> int:
    """The server itself: the guard's first child."""
    return group_of(engine)[1]


def test_it_is_waited_for_asked_and_stopped_with_its_children(habits: Habits) -> None:
    habits.now = ["slow", "has-children"]
    with habits.engine() as engine:
        pids = group_of(engine)
        assert len(pids) == 4
        assert engine.complete(["a", "b"], GREEDY)[1].text == "fine"
    assert are_gone(pids, within=0.1)
    assert "starting with has-children slow" in habits.log.read_text()
    engine.stop()


def test_it_listens_on_loopback_under_a_name_of_its_own(habits: Habits) -> None:
    names = []
    for _ in range(2):
        with habits.engine() as engine:
            assert engine.server.client.address.startswith("http://127.0.0.1:")
            names.append(engine.server.model)
    assert len(set(names)) == 2


def test_an_early_end_is_noticed_at_once_with_the_end_of_its_log(habits: Habits) -> None:
    habits.now = ["dies"]
    engine = habits.engine()
    started = time.monotonic()
    with pytest.raises(GenerationError) as caught:
        engine.start()
    assert time.monotonic() - started < 10
    assert "it ended while it started" in str(caught.value)
    assert "ended with exit code 1" in str(caught.value)
    assert "CUDA out of memory, or so" in str(caught.value)
    habits.now = []
    with engine:
        assert engine.complete(["a"], GREEDY)[0].text == "fine"


def test_healthy_is_not_enough(habits: Habits) -> None:
    habits.now = ["dies-of-the-first-request"]
    with pytest.raises(GenerationError, match=r"(?s)exit code 7.*EngineCore died"):
        habits.engine().start()


def test_one_that_never_comes_up_is_given_up_and_ended(habits: Habits) -> None:
    habits.now = ["never-up", "ignores-sigterm", "has-children"]
    engine = habits.engine(start_timeout=0.6)
    with pytest.raises(GenerationError, match=r"not up 0\.6 s after its start\. Raise start_timeout"):
        engine.start()
    with pytest.raises(GenerationError, match="is not started"):
        engine.complete(["a"], GREEDY)


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        GenerationError, match=r"'/no/python' is no program that can be run\. Give the path of the Python"
    ):
        ServerProcess(["/no/python"], environment={}, log_file=tmp_path / "log")


@pytest.mark.parametrize("habit", ["ignores-sigterm", "has-children"])
def test_one_that_does_not_want_to_end_is_killed(habits: Habits, habit: str) -> None:
    habits.now = [habit]
    with habits.engine() as engine:
        pids = group_of(engine)
    assert are_gone(pids, within=0.1)


def test_one_that_was_stopped_is_ended_too(habits: Habits) -> None:
    habits.now = ["ignores-sigterm"]
    with habits.engine() as engine:
        pids = group_of(engine)
        os.kill(server_pid(engine), signal.SIGSTOP)
    assert are_gone(pids, within=0.1)


def test_death_in_the_middle_is_noticed_and_the_next_start_brings_it_back(habits: Habits) -> None:
    with habits.engine(request_timeout=60) as engine:
        pids = group_of(engine)
        threading.Timer(0.3, os.kill, (server_pid(engine), signal.SIGKILL)).start()
        started = time.monotonic()
        with pytest.raises(GenerationError, match=r"(?s)(closed the connection|nobody listens).*exit code 137"):
            engine.complete(["a", "hang"], GREEDY)
        assert time.monotonic() - started < 10
        with pytest.raises(GenerationError, match="failed before"):
            engine.complete(["a"], GREEDY)
        engine.use_adapter(None)
        assert engine.complete(["a"], GREEDY)[0].text == "fine"
        assert not set(group_of(engine)) & set(pids)
    assert habits.folders == ["base-model", "base-model"]


def test_a_hang_costs_the_time_out_and_the_next_start_is_a_new_one(habits: Habits) -> None:
    with habits.engine(request_timeout=0.5) as engine:
        pids = group_of(engine)
        os.kill(server_pid(engine), signal.SIGSTOP)
        with pytest.raises(GenerationError, match=r"within 0\.5 s(?s:.*)Its process runs"):
            engine.complete(["a"], GREEDY)
        engine.start()
        assert are_gone(pids, within=0.1)
        assert engine.complete(["a"], GREEDY)[0].text == "fine"


def test_a_request_that_failed_alone_needs_no_new_start(habits: Habits) -> None:
    with habits.engine(request_timeout=0.5) as engine:
        pids = group_of(engine)
        with pytest.raises(GenerationError, match="within"):
            engine.complete(["hang"], GREEDY)
        engine.start()
        assert group_of(engine) == pids


def test_one_that_dies_between_two_evaluations_is_started_again(habits: Habits) -> None:
    with habits.engine() as engine:
        os.kill(server_pid(engine), signal.SIGKILL)
        assert are_gone(group_of(engine)[1:])
        engine.use_adapter(None)
        assert engine.complete(["a"], GREEDY)[0].text == "fine"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_workers_of_ours_do_not_keep_it(habits: Habits) -> None:
    with habits.engine() as engine:
        pids = group_of(engine)
        worker = os.fork()
        if worker == 0:  # like a data loader's: it has copies of all our pipes
            time.sleep(60)
            os._exit(0)
        try:
            started = time.monotonic()
            engine.stop()
            assert time.monotonic() - started < 5
            assert are_gone(pids, within=0.1)
        finally:
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)


def test_killing_the_guard_leaves_no_server(habits: Habits) -> None:
    habits.now = ["has-children"]
    with habits.engine() as engine:
        pids = group_of(engine)
        os.kill(pids[0], signal.SIGKILL)
        assert are_gone(pids[1:2])
        with pytest.raises(GenerationError, match="ended with exit code 137"):
            engine.complete(["a"], GREEDY)
        in_group = [pid for pid in pids[1:] if is_alive(pid) and os.getpgid(pid) == pids[0]]
    assert are_gone(in_group)
    for pid in pids:  # one child left the group; only the guard could have found it
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_us_however_we_end(tmp_path: Path, number: int) -> None:
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    ours = f"""
import sys, time
from pathlib import Path
from sft.generation.server_process import ServerProcess
server = ServerProcess([sys.executable, {str(script)!r}, "0", "m", "has-children"], environment={{}},
                       log_file=Path({str(tmp_path / "log")!r}))
print(server.pid, flush=True)
time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", ours], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    guard = int(process.stdout.readline())
    deadline = time.monotonic() + 20
    while len(pids := family(guard)) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(pids) == 4
    process.send_signal(number)
    process.wait(20)
    process.stdout.close()
    assert are_gone(pids)


def test_a_server_sees_nothing_of_a_distributed_run_or_of_our_interpreter(habits: Habits) -> None:
    ours = {"PATH": "/bin", "HF_HUB_OFFLINE": "1", "RANK": "1", "MASTER_PORT": "2", "PYTHONPATH": "x"}
    ours |= {"TORCHELASTIC_RUN_ID": "r", "ACCELERATE_MIXED_PRECISION": "bf16", "WORLD_SIZE": "2", "VIRTUAL_ENV": "v"}
    assert inherited_environment(ours) == {"PATH": "/bin", "HF_HUB_OFFLINE": "1"}
    with habits.engine(environment={"ANSWER": "as told"}) as engine:
        assert engine.complete(["a"], GREEDY)[0].text == "as told"


def write_adapter(folder: Path) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8}))
    (folder / "adapter_model.safetensors").write_bytes(folder.name.encode())
    return folder


def test_an_adapter_that_cannot_be_loaded_is_served_as_a_merged_model(habits: Habits, tmp_path: Path) -> None:
    merged: list[tuple[Path, Path]] = []

    def merge(adapter: Path, output: Path) -> None:
        merged.append((adapter, output))
        output.mkdir()

    one, two = write_adapter(tmp_path / "one"), write_adapter(tmp_path / "two")
    with habits.engine(make_merged=merge) as engine:
        engine.use_adapter(one)
        assert habits.folders[-1] == str(merged[0][1])
        assert merged[0][0] == one
        assert engine.complete(["a"], GREEDY)[0].text == "fine"
        engine.use_adapter(one)
        assert len(merged) == 1
        engine.use_adapter(two)
        assert not merged[0][1].exists()
        assert merged[1][1].exists()
        engine.use_adapter(None)
        assert habits.folders[-1] == "base-model"
        assert not merged[1][1].exists()
        engine.use_adapter(one)
    assert not merged[2][1].parent.exists()


def test_a_merge_that_fails_costs_this_evaluation(habits: Habits, tmp_path: Path) -> None:
    folders = []

    def merge(adapter: Path, output: Path) -> None:
        folders.append(output)
        raise RuntimeError("no space left on device")

    with habits.engine(make_merged=merge) as engine:
        with pytest.raises(GenerationError, match=r"Cannot merge the adapter .*one to serve it: no space left"):
            engine.use_adapter(write_adapter(tmp_path / "one"))
        assert not folders[0].parent.exists()
        engine.use_adapter(None)
        assert engine.complete(["a"], GREEDY)[0].text == "fine"


def test_without_a_way_to_merge_it_is_said(habits: Habits, tmp_path: Path) -> None:
    with habits.engine() as engine, pytest.raises(GenerationError, match="make_merged"):
        engine.use_adapter(write_adapter(tmp_path / "one"))
