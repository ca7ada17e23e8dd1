"""`sft chat`: one shot, piped questions, history, stops, interrupts. The model is the real tiny story teller."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from sft.cli import chat_session
from sft.cli.chat_session import ChatSession, load_for_chat
from sft.cli.main import main
from sft.errors import EXIT_DONE, EXIT_USER, DataError, ModelError
from sft.generation import Sampling

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}"
    "{{ eos_token if m['role'] == 'assistant' }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.fixture
def model(shared_data: Path, tmp_path: Path) -> Path:
    """The story teller with a chat template."""
    source, folder = shared_data / "models" / "stories260K-hf", tmp_path / "model"
    AutoModelForCausalLM.from_pretrained(source).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def reference(folder: Path, messages: list[dict[str, str]], max_new_tokens: int) -> str:
    """The greedy answer that transformers gives to the same conversation."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    teller = AutoModelForCausalLM.from_pretrained(folder)
    written = teller.generate(**prompt, max_new_tokens=max_new_tokens, do_sample=False)
    return tokenizer.decode(written[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)


def chat(
    folder: Path | str, lines: list[str] | None, *words: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> tuple[int, list[Any], str]:
    """Run `sft chat --json` with piped lines: exit code, one object per answer, what was said beside."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines or [])))
    code = main(["chat", "--model", str(folder), "--json", "--max_new_tokens", "12", *words])
    printed = capsys.readouterr()
    return code, [json.loads(line) for line in printed.out.splitlines()], printed.err


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    return lambda folder, lines, *words: chat(folder, lines, *words, monkeypatch=monkeypatch, capsys=capsys)


def test_the_real_command_answers_piped_lines_and_leaves(model: Path) -> None:
    command = [sys.executable, "-m", "sft.cli.main", "chat", "--model", str(model), "--max_new_tokens", "12"]
    done = subprocess.run(
        command, input="Once upon a time\n\n/exit\nnever asked\n", capture_output=True, text=True, check=False
    )
    assert done.returncode == EXIT_DONE, done.stderr
    assert done.stdout == reference(model, [{"role": "user", "content": "Once upon a time"}], 12) + "\n"
    assert "cut after 12 tokens" in done.stderr
    assert "Traceback" not in done.stderr


def test_history_is_part_of_the_next_prompt_until_reset(model: Path, talk: Callable[..., Any]) -> None:
    code, answers, said = talk(model, ["Once upon a time", "And then?", "/reset", "And then?"], "--system", "Tell.")
    assert code == EXIT_DONE
    system = [{"role": "system", "content": "Tell."}]
    first = [*system, {"role": "user", "content": "Once upon a time"}]
    second = [*first, {"role": "assistant", "content": answers[0]["answer"]}, {"role": "user", "content": "And then?"}]
    fresh = [*system, {"role": "user", "content": "And then?"}]
    assert [answer["answer"] for answer in answers] == [reference(model, turns, 12) for turns in (first, second, fresh)]
    assert "starts anew" in said


def test_one_shot(model: Path, talk: Callable[..., Any]) -> None:
    code, answers, _ = talk(model, None, "--prompt", "Tom had a red ball")
    assert code == EXIT_DONE
    assert answers == [
        {
            "prompt": "Tom had a red ball",
            "answer": reference(model, [{"role": "user", "content": "Tom had a red ball"}], 12),
            "num_tokens": 12,
            "finished": "length",
        }
    ]


def test_an_answer_stops_at_the_stop_tokens_of_the_generation_config(model: Path, talk: Callable[..., Any]) -> None:
    _, [open_end], _ = talk(model, None, "--prompt", "Once upon a time")
    tokenizer = AutoTokenizer.from_pretrained(model)
    token = tokenizer.encode(open_end["answer"], add_special_tokens=False)[5]
    config = json.loads((model / "generation_config.json").read_text())
    (model / "generation_config.json").write_text(json.dumps({**config, "eos_token_id": [2, token]}))
    _, [answer], said = talk(model, None, "--prompt", "Once upon a time")
    assert answer["finished"] == "stop"
    assert answer["num_tokens"] <= 6
    assert open_end["answer"].startswith(answer["answer"])
    assert "cut" not in said


def test_sampling_follows_its_seed(model: Path, talk: Callable[..., Any]) -> None:
    hot = ["--temperature", "1.5", "--prompt", "Once"]
    answers = [talk(model, None, *hot, "--seed", seed)[1][0]["answer"] for seed in ("1", "1", "2")]
    assert answers[0] == answers[1] != answers[2]


def save_adapter(model: Path, folder: Path) -> Any:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = get_peft_model(
            AutoModelForCausalLM.from_pretrained(model), LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM")
        ).eval()
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data += torch.randn_like(parameter) * 0.2
        adapted.save_pretrained(folder)
    return adapted


def test_an_adapter_folder_is_recognised_and_brings_its_own_template_and_stops(
    model: Path, tmp_path: Path, talk: Callable[..., Any]
) -> None:
    folder = tmp_path / "adapter"
    adapted = save_adapter(model, folder)
    _, [plain], _ = talk(model, None, "--prompt", "Once upon a time")
    _, [tuned], _ = talk(folder, None, "--prompt", "Once upon a time")
    tokenizer = AutoTokenizer.from_pretrained(model)
    turns = [{"role": "user", "content": "Once upon a time"}]
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    written = adapted.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tuned["answer"] == tokenizer.decode(written, skip_special_tokens=True)
    assert tuned["answer"] != plain["answer"]
    assert talk(model, None, "--adapter", str(folder), "--prompt", "Once upon a time")[1] == [tuned]

    stop = int(written[4])
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": stop}))
    tokenizer.chat_template = "{{ bos_token }}{{ messages[-1]['content'] }}"
    tokenizer.save_pretrained(folder)
    loaded, own_tokenizer = load_for_chat(str(folder))
    assert own_tokenizer.chat_template == tokenizer.chat_template
    assert loaded.generation_config.eos_token_id == [stop, 2]
    session = ChatSession(loaded, own_tokenizer, Sampling(max_new_tokens=5))
    tom = session.prompt_ids([{"role": "user", "content": "Tom"}])
    assert tom == own_tokenizer.encode("<s>Tom", add_special_tokens=False)


def test_special_token_text_from_the_user_is_content(model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    session = ChatSession(None, tokenizer, Sampling(max_new_tokens=5))
    ids = session.prompt_ids([{"role": "user", "content": "what is </s> here"}])
    assert tokenizer.eos_token_id not in ids
    assert "</s>" in tokenizer.decode(ids)
    usual = [{"role": "user", "content": "what is it"}]
    expected = tokenizer.apply_chat_template(usual, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert session.prompt_ids(usual) == expected


def test_an_interrupt_stops_the_answer_and_not_the_program(
    model: Path, talk: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = chat_session.stream, []

    def interrupted(*args: Any, on_text: Callable[[str], None], **kwargs: Any) -> Any:
        calls.append(args[2])
        if len(calls) == 1:
            on_text("Once ")
            raise KeyboardInterrupt
        return real(*args, on_text=on_text, **kwargs)

    monkeypatch.setattr(chat_session, "stream", interrupted)
    monkeypatch.setattr(sys, "stdin", io.StringIO("Tell\nGo on\n"))
    assert main(["chat", "--model", str(model), "--max_new_tokens", "4"]) == EXIT_DONE
    tokenizer = AutoTokenizer.from_pretrained(model)
    kept = [
        {"role": "user", "content": "Tell"},
        {"role": "assistant", "content": "Once "},
        {"role": "user", "content": "Go on"},
    ]
    assert calls[1] == tokenizer.apply_chat_template(kept, add_generation_prompt=True, return_dict=True)["input_ids"]


def test_a_conversation_that_outgrows_the_context_can_be_reset(model: Path, talk: Callable[..., Any]) -> None:
    code, answers, said = talk(model, ["word " * 600, "/reset", "Once"])
    assert code == EXIT_DONE
    assert [answer["prompt"] for answer in answers] == ["Once"]
    assert "context holds 512" in said
    loaded, tokenizer = load_for_chat(str(model))
    with pytest.raises(DataError, match="context holds 512"):
        ChatSession(loaded, tokenizer, Sampling(max_new_tokens=5)).ask("word " * 600, print)


def test_mistakes_are_named(shared_data: Path, model: Path, tmp_path: Path, talk: Callable[..., Any]) -> None:
    bare = shared_data / "models" / "stories260K-hf"
    for folder, words, expected in (
        (bare, ["--prompt", "x"], "has no chat template"),
        (tmp_path / "absent", ["--prompt", "x"], "no such folder"),
        (tmp_path, ["--prompt", "x"], f"Name one: {model}"),
        (model, ["--prompt", "x", "--adapter", str(bare)], "whole model"),
        (model, ["--prompt", "x", "--temperature", "-1"], "temperature is -1.0"),
        (model, ["--prompt", "x", "--chat_template", "chatlm"], "chatml"),
    ):
        code, answers, said = talk(folder, None, *words)
        assert code == EXIT_USER
        assert answers == []
        assert expected in said
        assert "Traceback" not in said
    code, [answer], _ = talk(bare, None, "--prompt", "x", "--chat_template", "default")
    assert code == EXIT_DONE
    assert answer["num_tokens"] == 12
    adapter = tmp_path / "adapter"
    save_adapter(model, adapter)
    values = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**values, "base_model_name_or_path": None}))
    with pytest.raises(ModelError, match="names no base model"):
        load_for_chat(str(adapter))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_at_a_terminal_ctrl_c_stops_the_answer_and_ctrl_d_leaves(model: Path) -> None:
    """A real process at a pseudo-terminal. The answer would run to 450 tokens; it is stopped after its first piece."""
    command = [sys.executable, "-m", "sft.cli.main", "chat", "--model", str(model), "--max_new_tokens", "450"]
    process = subprocess.Popen(
        [sys.executable, "-c", f"import pty, sys; sys.exit(pty.spawn({command!r}) >> 8)"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    watchdog = threading.Timer(180, process.kill)  # then the next read finds the end and the test fails
    watchdog.start()
    seen = b""

    def read_until(mark: bytes) -> None:
        while mark not in seen:
            read_on()

    def read_on() -> None:
        nonlocal seen
        piece = os.read(process.stdout.fileno(), 4096)
        assert piece, seen.decode(errors="replace")
        seen += piece

    def type_in(keys: bytes) -> None:
        process.stdin.write(keys)
        process.stdin.flush()

    try:
        read_until(b"Ctrl-C stops")  # the line is folded to the width of the terminal
        read_until(b"> ")
        type_in(b"Once upon a time\n")
        read_until(b"Once upon a time\r\n")
        seen = seen.rpartition(b"Once upon a time\r\n")[2]
        while not seen.replace(b"> ", b"").strip():  # line editing may write its prompt once more
            read_on()
        pieces = 0
        while b"[stopped]" not in seen:
            if pieces % 20 == 0:  # once, as a rule: one that comes while Python drops an object is lost
                type_in(b"\x03")
            read_on()
            pieces += 1
        read_until(b"> ")
        assert b"cut after" not in seen
        type_in(b"\x04")
        assert process.wait(timeout=60) == EXIT_DONE
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()
