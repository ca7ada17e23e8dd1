"""The commands of recipes/longbench, run as its README prints them, and the output folder it draws.

What is changed: the model is a tiny local one that ends its answers soon, rows are few real ones, steps and evaluated
rows are few. Where a command names several GPUs, one process stands for them, but for one test with two.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# PEFT still asks for a name that transformers is giving up.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "longbench"
README = (RECIPE / "README.md").read_text(encoding="utf-8")
SMALL = {
    "--batch_size": "1",
    "--gradient_accumulation_steps": "1",
    "--max_steps": "2",
    "--eval_steps": "1",
    "--save_steps": "1",
    "--eval_samples": "2",
    "--max_length": "512",
    "--learning_rate": "0.01",
    "--warmup_ratio": "0",
}

Run = Callable[[str, dict[str, str]], Path]


def blocks(language: str) -> list[str]:
    """The code blocks of the README."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def commands(program: str) -> list[str]:
    """Its commands that call a program, each on one line."""
    lines = "".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [" ".join(line.split()) for line in lines if program in shlex.split(line)]


def options(words: list[str]) -> dict[str, str]:
    """['--gpu', '0', '--bf16', 'False'] by name."""
    return dict(zip(words[::2], words[1::2], strict=True))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# ---- the model, the rows and the ways to run ------------------------------------------------------------------------


@pytest.fixture(scope="session")
def places(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables that name a little of the real data: three short rows of each subset, two meetings, TruthfulQA."""
    folder = tmp_path_factory.mktemp("rows")
    lines = (shared_data / "minilongbench" / "rows_longbench_schema.jsonl").read_text(encoding="utf-8").splitlines()
    subsets: dict[str, list[str]] = {}
    for line in sorted(lines, key=len):
        subsets.setdefault(json.loads(line)["dataset"], []).append(line)
    (folder / "longbench").mkdir()
    for subset, rows in subsets.items():
        (folder / "longbench" / f"{subset}.jsonl").write_text("\n".join(rows[:3]) + "\n", encoding="utf-8")
    meetings = (shared_data / "qmsum" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    (folder / "qmsum").mkdir()
    (folder / "qmsum" / "train.jsonl").write_text("\n".join(sorted(meetings, key=len)[:2]) + "\n", encoding="utf-8")
    return {
        "SFT_LONGBENCH_DIR": str(folder / "longbench"),
        "SFT_QMSUM_DIR": str(folder / "qmsum"),
        "SFT_TRUTHFULQA_FILE": str(shared_data / "truthfulqa" / "TruthfulQA-817.csv"),
    }


@pytest.fixture(scope="session")
def tokenizer(places: dict[str, str]) -> Any:
    """Words of those meetings, and ChatML."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from sft.data.templates import read_template

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=800,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train([str(Path(places["SFT_QMSUM_DIR"]) / "train.jsonl")], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = read_template("chatml")
    return fast


def save_model(folder: Path, tokenizer: Any, *, context: int) -> Path:
    """A random Qwen3-shaped model. Its end token is likely, so that answers are short."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            max_position_embeddings=context,
            initializer_range=0.2,
            tie_word_embeddings=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    with torch.no_grad():
        model.lm_head.weight[tokenizer.eos_token_id] *= 8
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model_folder(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("short-context"), tokenizer, context=512)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The recipe where it may write."""
    return Path(shutil.copytree(RECIPE, tmp_path / "longbench", ignore=shutil.ignore_patterns("*/", "__pycache__")))


@pytest.fixture
def environment(places: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """What every run needs: no hub, no GPU, the rows, a cache of its own."""
    return {
        **places,
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "SFT_CACHE_DIR": str(tmp_path / "cache"),
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHON": sys.executable,
    }


@pytest.fixture
def run_here(recipe: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a script of the recipe in this process, which has imported torch already."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(recipe)
    monkeypatch.syspath_prepend(recipe)

    def run(script: str, words: list[str], code: int | str = 0) -> None:
        monkeypatch.setattr(sys, "argv", [script, *words])
        monkeypatch.delitem(sys.modules, "train_args", raising=False)
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(recipe / script), run_name="__main__")
        assert end.value.code == code

    return run


def small(words: list[str], model: Path) -> dict[str, str]:
    """The options of a command with everything that costs time made small."""
    given = options(words)
    changed = {**given, **SMALL, "--model_name": str(model)}
    return {**changed, "--gpu": "0"} if "--gpu" in given else changed


def as_words(chosen: dict[str, str]) -> list[str]:
    return [word for pair in chosen.items() for word in pair]


def check_output(output: Path, *, steps: int, samples: int = 2) -> None:
    """Everything that the README draws."""
    assert_adapter(output / "final_model")
    assert_adapter(output / "best_adapter")
    history = read_json(output / "eval_history.json")
    assert history.keys() >= {"best_step", "best_score", "history"}
    assert [entry["step"] for entry in history["history"]] == list(range(steps + 1))
    checkpoints = [output / f"checkpoint-{step}" for step in range(max(1, steps - 2), steps + 1)]
    assert sorted(output.glob("checkpoint-*")) == checkpoints, "the last three"
    for entry in history["history"]:
        assert entry.keys() >= {"step", "timestamp", "combined_score", "results"}
        check_evaluation(output / f"eval_step_{entry['step']}", entry, samples)
        if entry["step"]:
            assert_adapter(output / f"adapter_step_{entry['step']}")
    final = read_json(output / "final_eval_results.json")
    assert final["combined_score"] == history["history"][-1]["combined_score"]
    assert (final["best_step"], final["best_score"]) == (history["best_step"], history["best_score"])
    assert final["results"].keys() == {"qmsum", "truthfulqa"}


def check_evaluation(folder: Path, entry: dict[str, Any], samples: int) -> None:
    """The files of one evaluation agree with its entry in the history."""
    qmsum, truthfulqa = entry["results"]["qmsum"], entry["results"]["truthfulqa"]
    assert entry["combined_score"] == pytest.approx(
        truthfulqa["accuracy"] + qmsum["rougeL"] + truthfulqa["avg_max_score"]
    )
    for task, scores in entry["results"].items():
        (results,) = folder.glob(f"*_{task}_*_results.json")
        (predictions,) = folder.glob(f"*_{task}_*_predictions.jsonl")
        kept = read_json(results)
        assert {name: kept[name] for name in scores} == scores
        assert kept["num_samples"] == samples
        rows = [json.loads(line) for line in predictions.read_text(encoding="utf-8").splitlines()]
        assert len({row["id"] for row in rows}) == len(rows) == samples, "each row is asked once"


def assert_adapter(folder: Path) -> None:
    assert (folder / "adapter_config.json").is_file(), folder
    assert (folder / "adapter_model.safetensors").is_file()
    assert (folder / "tokenizer.json").is_file()


# ---- the commands ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", commands("train.py"))
def test_train_command(command: str, run_here: Callable[..., None], recipe: Path, model_folder: Path) -> None:
    _, _, *words = shlex.split(command)
    chosen = small(words, model_folder)
    if "--resume_from_checkpoint" in chosen:
        del chosen["--resume_from_checkpoint"]
        run_here("train.py", as_words({**chosen, "--max_steps": "1"}))
        chosen["--resume_from_checkpoint"] = "./training_output/checkpoint-1"
    run_here("train.py", as_words(chosen))

    output = recipe / options(words).get("--output_dir", "./training_output")
    check_output(output, steps=2)
    adapter = read_json(output / "final_model" / "adapter_config.json")
    assert adapter["r"] == int(chosen.get("--lora_r", 16))
    assert adapter["lora_alpha"] == int(chosen.get("--lora_alpha", 32))
    assert set(adapter["target_modules"]) == {
        *("q_proj", "k_proj", "v_proj", "o_proj"),
        *("gate_proj", "up_proj", "down_proj"),
    }
    if "--resume_from_checkpoint" in chosen:
        assert read_json(output / "run.json")["result"]["resumed_from"]


def test_long_documents_lose_their_middle(
    run_here: Callable[..., None], recipe: Path, tokenizer: Any, tmp_path: Path
) -> None:
    """In training and in evaluation. No row is lost, and no answer is cut."""
    model = save_model(tmp_path / "model", tokenizer, context=2048)
    once = {**SMALL, "--max_steps": "1", "--eval_samples": "1", "--max_length": "2048"}
    run_here("train.py", as_words({**once, "--model_name": str(model), "--train_datasets": "qmsum"}))
    record = read_json(recipe / "training_output" / "run.json")["plan"]
    assert record["dropped"] == {}
    assert 2000 < record["lengths"]["longest"] <= 2048
    (path,) = (recipe / "training_output" / "eval_step_1").glob("*_qmsum_*_results.json")
    results = read_json(path)
    assert (results["prompts_cut"], results["max_new_tokens"]) == (1, 512)
    assert 1400 < results["max_prompt_tokens"] < 2048 - 512


def test_from_training_to_a_merged_model(
    run_here: Callable[..., None], recipe: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The adapter as the README loads it, and the merged model, are one model."""
    import torch
    from transformers import AutoModelForCausalLM

    run_here("train.py", as_words({**SMALL, "--model_name": str(model_folder), "--train_datasets": "hotpotqa"}))
    (command,) = commands("merge_and_export.py")
    run_here("merge_and_export.py", shlex.split(command.replace("Qwen/Qwen3-0.6B", str(model_folder)))[2:])
    assert "top-1 agreement       100.00%" in capsys.readouterr().out

    (block,) = blocks("python")
    loaded: dict[str, Any] = {}
    exec(block.replace("Qwen/Qwen3-0.6B", str(model_folder)), loaded)
    ids = loaded["tokenizer"]("What is said about the meeting?", return_tensors="pt").input_ids
    merged, untrained = (AutoModelForCausalLM.from_pretrained(path) for path in (recipe / "merged_model", model_folder))
    with torch.no_grad():
        one, other, before = (model.eval()(ids).logits for model in (loaded["model"], merged, untrained))
    torch.testing.assert_close(one.float(), other.float(), atol=1e-4, rtol=0)
    assert (one - before).abs().max() > 1e-3, "nothing was trained"


def test_merging_wants_an_adapter(run_here: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    run_here("merge_and_export.py", ["--output_path", "somewhere"], 2)
    assert "--adapter_path" in capsys.readouterr().err


def shell(command: str, folder: Path, environment: dict[str, str], timeout: float = 240) -> str:
    """A command of the README in a shell; what it printed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SFT_", "ACCELERATE_"))}
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def test_two_processes_share_one_evaluation(
    recipe: Path, environment: dict[str, str], run_here: Callable[..., None], model_folder: Path
) -> None:
    """``GPU="0,1"`` starts both by itself; what they find together is what one finds alone."""
    (command,) = [line for line in commands("./run_train.sh") if "OUTPUT_DIR" in line]
    command = command.replace("Qwen/Qwen3-0.6B", str(model_folder)).replace("EVAL_STEPS=20", "EVAL_STEPS=1")
    command = command.replace("MAX_STEPS=200", "MAX_STEPS=1")
    few = {"EVAL_SAMPLES": "3", "BATCH_SIZE": "1", "GRAD_ACCUM": "1", "MAX_LENGTH": "512"}
    told = shell(command, recipe, {**environment, **few})
    assert "no GPU of these is there; going on with 2 process(es) on the CPU" in told
    output = recipe / "my_output"
    check_output(output, steps=1, samples=3)
    assert read_json(output / "run.json")["plan"]["rows_per_step"] == 2
    assert told.count("combined score") == 3, "two evaluations and the verdict, each said once"

    alone = {**SMALL, "--model_name": str(model_folder), "--train_datasets": "qmsum,trivia_qa", "--max_steps": "1"}
    run_here("train.py", as_words({**alone, "--eval_samples": "3", "--output_dir": "alone"}))
    for path in sorted((recipe / "alone" / "eval_step_0").glob("*_predictions.jsonl")):
        assert path.read_text() == (output / "eval_step_0" / path.name).read_text()


@pytest.fixture
def printed_words(recipe: Path, tmp_path: Path) -> Callable[[str, dict[str, str]], dict[str, str]]:
    """The options that run_train.sh hands to train.py; nothing is trained."""
    echo = tmp_path / "echo.sh"
    echo.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    echo.chmod(0o755)

    def run(command: str, environment: dict[str, str]) -> dict[str, str]:
        script, *words = shell(command, recipe, {**environment, "PYTHON": str(echo)}).splitlines()
        assert script.endswith("train.py")
        return options(words)

    return run


def test_variables_of_the_script(printed_words: Callable[[str, dict[str, str]], dict[str, str]]) -> None:
    """Names and defaults are those of the README's table, and every variable decides its argument."""
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.+?) \| `(--\w+)`", README, re.MULTILINE)
    table = {variable: (default, argument) for variable, default, argument in rows}
    assert len(table) == 14
    unset = printed_words("./run_train.sh", {})
    for variable, (default, argument) in table.items():
        expected = {"as EVAL_STEPS": "20", "all": None}.get(default, default)
        assert unset.get(argument) == expected, variable
        assert printed_words("./run_train.sh", {variable: "7"})[argument] == "7"
    assert unset["--save_steps"] == "20"
    assert printed_words("./run_train.sh", {"EVAL_STEPS": "5"})["--save_steps"] == "5"
    assert printed_words("./run_train.sh", {"GPU": ""})["--gpu"] == ""
    assert printed_words("./run_train.sh --seed 3", {})["--seed"] == "3"


def test_words_behind_the_script_win(printed_words: Callable[[str, dict[str, str]], dict[str, str]]) -> None:
    """As its first lines promise. Handed on beside the script's own they would be refused as given twice."""
    words = printed_words("./run_train.sh --eval_steps 1 --bf16 False", {"EVAL_STEPS": "9"})
    assert (words["--eval_steps"], words["--save_steps"], words["--bf16"]) == ("1", "9", "False")
    assert list(words)[-2:] == ["--eval_steps", "--bf16"], "once, and not where the script has it"


def test_settings_in_front_of_the_script(printed_words: Callable[[str, dict[str, str]], dict[str, str]]) -> None:
    (command,) = [line for line in commands("./run_train.sh") if "MAX_STEPS=500" in line]
    words = printed_words(command, {})
    assert (words["--gpu"], words["--max_steps"], words["--eval_steps"]) == ("0,1,2,3", "500", "100")


# ---- stopped in the middle ------------------------------------------------------------------------------------------


def test_a_killed_run_goes_on_as_if_it_had_not_been(
    recipe: Path, environment: dict[str, str], run_here: Callable[..., None], model_folder: Path
) -> None:
    chosen = {**SMALL, "--model_name": str(model_folder), "--max_steps": "4", "--train_datasets": "qmsum,trivia_qa"}
    run_here("train.py", as_words({**chosen, "--output_dir": "whole"}))

    words = as_words({**chosen, "--output_dir": "killed"})
    process = subprocess.Popen(
        [sys.executable, "train.py", *words],
        cwd=recipe,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for(recipe / "killed" / "eval_step_3", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (recipe / "killed" / "final_model").exists()
    run_here("train.py", words)

    whole, resumed = recipe / "whole", recipe / "killed"
    assert read_json(resumed / "run.json")["result"]["resumed_from"].endswith("checkpoint-2")
    check_output(resumed, steps=4)
    assert without_times(read_json(resumed / "eval_history.json")) == without_times(
        read_json(whole / "eval_history.json")
    )
    assert read_json(resumed / "final_eval_results.json") == read_json(whole / "final_eval_results.json")
    for name in ("final_model", "best_adapter", *(f"adapter_step_{step}" for step in (1, 2, 3, 4))):
        weights = "adapter_model.safetensors"
        assert (resumed / name / weights).read_bytes() == (whole / name / weights).read_bytes(), name


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until a process has made a folder: an evaluation begins to write."""
    end = time.monotonic() + 120
    while not path.is_dir():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.02)


def without_times(history: dict[str, Any]) -> dict[str, Any]:
    entries = [{name: value for name, value in entry.items() if name != "timestamp"} for entry in history["history"]]
    return {**history, "history": entries}


# ---- GPUs, files and names ------------------------------------------------------------------------------------------


class Launched(Exception):
    """The command line that would have taken this process's place."""


@pytest.fixture
def start(run_here: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str] | None]:
    """train.py on a machine with some GPUs: the launcher's command line, or None where it trains by itself."""
    import torch

    def take_over(path: str, words: list[str]) -> None:
        raise Launched(words)

    def run(words: list[str], *, there: int, code: int | str = 0) -> list[str] | None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
        try:
            run_here("train.py", words, code)
        except Launched as launched:
            return list(launched.args[0])
        return None

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "as before")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(os, "execv", take_over)
    monkeypatch.setattr("sft.cli.main.main", lambda words: 0)
    return run


@pytest.mark.parametrize(
    ("gpus", "there", "processes"),
    [
        (None, 0, 1),
        (None, 1, 1),
        (None, 4, 4),
        ("", 0, 1),
        ("", 2, 2),
        ("0", 1, 1),
        ("3", 0, 1),
        ("0,1", 2, 2),
        ("0, 1,3", 3, 3),
        ("2,3", 0, 2),
    ],
)
def test_one_process_for_each_gpu(
    gpus: str | None, there: int, processes: int, start: Callable[..., list[str] | None]
) -> None:
    line = start(["--model_name", "m", *([] if gpus is None else ["--gpu", gpus]), "--bf16", "False"], there=there)
    if processes == 1:
        assert line is None
    else:
        assert line is not None
        assert f"--nproc_per_node={processes}" in line
        assert line[-4:] == ["--model_name", "m", "--bf16", "False"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == (gpus.replace(" ", "") if gpus else "as before")


@pytest.mark.parametrize(
    ("gpus", "message"),
    [
        ("0,1", "1 GPU of these is there. Name those that are, or leave --gpu out to take all of them."),
        ("0,x", "'x' is no number of a GPU. Write numbers with commas between them, such as 0,1; or all."),
        ("0 1", "'0 1' is no number of a GPU. Write numbers with commas between them, such as 0,1; or all."),
        ("0,0", "'0' is named twice. Write numbers with commas between them, such as 0,1; or all."),
    ],
)
def test_gpus_that_cannot_be_taken_are_refused(
    gpus: str, message: str, start: Callable[..., list[str] | None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert start(["--model_name", "m", "--gpu", gpus], there=1, code=2) is None
    assert capsys.readouterr().err == f"train.py: error: --gpu {gpus}: {message}\n"


def test_all_gpus_may_be_asked_for_by_that_word(start: Callable[..., list[str] | None]) -> None:
    line = start(["--model_name", "m", "--gpu", "all"], there=2)
    assert line is not None
    assert line[-2:] == ["--model_name", "m"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "as before"


def test_a_launcher_has_started_the_processes(
    start: Callable[..., list[str] | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert start(["--model_name", "m", "--gpu", "0,1"], there=2) is None


def test_a_mistake_is_said_once(start: Callable[..., list[str] | None]) -> None:
    """By one process, before there are several."""
    assert start(["--model_name", "m", "--gpu", "0,1", "--num_epoch", "3"], there=2) is None
    assert start(["--model_name", "m", "--gpu", "0,1", "--num_epochs", "3", "--json"], there=2) is not None


def test_help_has_every_argument(run_here: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = set(re.findall(r"^\| `(--\w+)` \|", README, re.MULTILINE))
    assert len(arguments) >= 24
    run_here("train.py", ["--help"])
    assert arguments <= set(re.findall(r"--\w+", capsys.readouterr().out))


def test_the_other_files_lead_to_the_package(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sft
    from sft.tasks.longbench import read_subsets
    from sft.training.evaluation_callback import GenerationEvaluation

    monkeypatch.syspath_prepend(recipe)
    trainer, arguments, loader = (
        runpy.run_path(str(recipe / f"{name}.py")) for name in ("trainer", "train_args", "longbench_loader")
    )
    assert trainer["SFTTrainer"] is sft.SFTTrainer
    assert trainer["GenerationEvaluation"] is GenerationEvaluation
    config = arguments["parse_args"](["--model_name", "m", "--gpu", "0,1", "--num_epochs", "2"])
    assert isinstance(config, sft.SFTConfig)
    assert config.num_train_epochs == 2
    assert loader["SUBSETS"] == tuple(read_subsets())


def test_the_loader_reads_rows(recipe: Path, places: dict[str, str]) -> None:
    load = runpy.run_path(str(recipe / "longbench_loader.py"))["load"]
    tasks = load("hotpotqa,trivia_qa", longbench_dir=places["SFT_LONGBENCH_DIR"])
    assert [task.name for task in tasks] == ["longbench/hotpotqa", "longbench/triviaqa"]
    assert all(len(task.examples()) == 3 for task in tasks)


def test_deepspeed_files() -> None:
    two, three = (read_json(RECIPE / f"ds_config_zero{stage}.json") for stage in (2, 3))
    assert two["bf16"]["enabled"] is True
    for file, stage in ((two, 2), (three, 3)):
        assert file["zero_optimization"]["stage"] == stage
        assert file["zero_optimization"]["overlap_comm"] is True
        assert file["train_micro_batch_size_per_gpu"] == file["gradient_accumulation_steps"] == "auto"
    assert two["zero_optimization"]["allgather_bucket_size"] == two["zero_optimization"]["reduce_bucket_size"] == 2e8
    assert not any("offload" in name for name in two["zero_optimization"])
    assert three["zero_optimization"]["sub_group_size"] == 1e9
    assert three["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] is True
    assert three["zero_optimization"]["reduce_bucket_size"] == "auto"


def test_requirements_are_this_checkout() -> None:
    text = (RECIPE / "requirements.txt").read_text(encoding="utf-8")
    ((path, extras),) = re.findall(r"^-e (.+)\[(.+)\]$", text, re.MULTILINE)
    project = (RECIPE / path / "pyproject.toml").read_text(encoding="utf-8")
    assert 'name = "sft-kit"' in project
    assert all(f"\n{extra} = [" in project for extra in extras.split(","))
