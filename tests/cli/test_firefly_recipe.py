"""The commands of recipes/firefly, run as its README prints them, and the output folder it draws.

The files in train_args/ are used as they are: the models they name lie in folders of those names, tiny and of the same
family. What is changed on the command line: few steps, short rows, and float32, since DeepSpeed has float16 on GPUs
only. Most commands run in this process, which has imported torch already; one of each launcher starts for itself.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft.cli.main import main

# PEFT still asks for a name that transformers is giving up; bitsandbytes says that memory of a CPU is not paged.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU:UserWarning"),
]

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "firefly"
README = (RECIPE / "README.md").read_text(encoding="utf-8")
NOT_RUN = {"pip install -r requirements.txt": "needs a package index; the file is looked at in a test of its own"}
SMALL = [
    *("--max_steps", "2", "--gradient_accumulation_steps", "2", "--learning_rate", "0.01", "--warmup_steps", "0"),
    *("--logging_steps", "1", "--save_steps", "1", "--fp16", "False"),
]

ROWS = [(f"What is {n} + {n}?", f"It is {2 * n}.") for n in range(24)]
ANSWERLESS = {"conversations": ["Are you there?", ""], "source": "stackexchange"}
PAIRS = [
    {
        "prompt": question,
        "chosen": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
        "rejected": [{"role": "user", "content": question}, {"role": "assistant", "content": "I do not know."}],
    }
    for question, answer in ROWS
]

SPECIAL = {
    "llama": {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
    "gemma": {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>"},
    "mamba": {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"},
    "bloom": {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"},
}
"""Tokens of the real tokenizers. Gemma's has those of its turns too."""

HUB_NAMES = {
    "NousResearch/Llama-2-7b-hf": "llama",
    "google/gemma-2b": "gemma",
    "state-spaces/mamba-1.4b-hf": "mamba",
    "state-spaces/mamba-2.8b-hf": "mamba",
    "bigscience/bloom-1b1": "bloom",
}


def blocks(language: str) -> list[str]:
    """The code blocks of the README."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def commands(program: str) -> list[str]:
    """Its commands that call a program, each on one line."""
    lines = "".join(blocks("bash")).replace("\\\n", " ").splitlines()
    printed = [" ".join(line.split()) for line in lines if line.strip()]
    return [line for line in printed if line.split()[0] == program and line not in NOT_RUN]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_rows(path: Path, rows: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


# ---- models, rows, ways to run --------------------------------------------------------------------------------------


def make_tokenizer(family: str, texts: list[str], size: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    names = SPECIAL[family]
    special = list(dict.fromkeys(names.values()))
    special += ["<start_of_turn>", "<end_of_turn>"] if family == "gemma" else []
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if family in ("llama", "gemma"):
        bos = names["bos_token"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def make_model(family: str, tokenizer: Any) -> Any:
    """Random, of the family's shape, with a few rows more than the tokenizer has tokens, as the real ones."""
    import torch
    from transformers import (
        BloomConfig,
        BloomForCausalLM,
        GemmaConfig,
        GemmaForCausalLM,
        LlamaConfig,
        LlamaForCausalLM,
        MambaConfig,
        MambaForCausalLM,
    )

    torch.manual_seed(0)
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    shape = {"vocab_size": len(tokenizer) + 3, "hidden_size": 64, **ids}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(**shape, **layers))
    if family == "gemma":
        return GemmaForCausalLM(GemmaConfig(**shape, **layers, num_key_value_heads=1, head_dim=32))
    if family == "mamba":
        return MambaForCausalLM(MambaConfig(**shape, num_hidden_layers=2, state_size=4))
    return BloomForCausalLM(BloomConfig(**shape, n_layer=2, n_head=2))


def save(folder: Path, family: str, texts: list[str], size: int = 400) -> None:
    tokenizer = make_tokenizer(family, texts, size)
    make_model(family, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every model that the recipe's files name, in a folder of that name."""
    root = tmp_path_factory.mktemp("hub-names")
    for name, family in HUB_NAMES.items():
        save(root / name, family, [text for row in ROWS for text in row])
    return root


@pytest.fixture
def recipe(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recipe where it may write, with models, and rows in LIMA's own form: one has an answer without text."""
    folder = Path(shutil.copytree(RECIPE, tmp_path / "firefly", ignore=shutil.ignore_patterns("__pycache__")))
    for owner in {name.split("/")[0] for name in HUB_NAMES}:
        (folder / owner).symlink_to(models / owner)
    lima = [{"conversations": [*row], "source": "stackexchange"} for row in ROWS]
    write_rows(folder / "data" / "train.jsonl", [*lima, ANSWERLESS])
    write_rows(folder / "data" / "pretrain" / "a.jsonl", [{"text": " ".join(row)} for row in ROWS * 8])
    write_rows(folder / "data" / "pretrain" / "deeper" / "b.jsonl", [{"text": "One more text."}] * 200)
    write_rows(folder / "data" / "dpo.jsonl", PAIRS)
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    return folder


def environment(folder: Path) -> dict[str, str]:
    """What every run needs: no hub, no GPU, a cache of its own."""
    return {
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "SFT_CACHE_DIR": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


@pytest.fixture
def run_here(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Run a command of the README in this process; returns where its result lies."""

    def run(command: str, *more: str, code: int = 0) -> Path:
        _, script, *words = shlex.split(command)
        monkeypatch.setattr(sys, "argv", [script, *words, *more])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(recipe / script), run_name="__main__")
        assert end.value.code == code
        given = [*words, *more]
        if "--output_dir" in given:
            return recipe / given[given.index("--output_dir") + 1]
        file = given[given.index("--train_args_file") + 1]
        return recipe / str(read_json(recipe / file)["output_dir"])

    return run


def run_apart(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in the recipe's folder; ``words`` are those after this interpreter."""
    scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PATH": scripts},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done


def rows_per_step(output: Path) -> int:
    return int(read_json(output / "run.json")["plan"]["rows_per_step"])


def drawn() -> list[str]:
    """Names of the output folder that the README draws."""
    tree = README.split("## Results")[1].split("```")[1]
    entries = [line.split(" ", 1)[1].split("   ")[0] for line in tree.splitlines() if line.startswith(("├", "└"))]
    names = [name.strip().rstrip("/") for entry in entries for name in entry.split(",")]
    return [name for name in names if name != "..."]


def check_output(output: Path, *, adapter: bool) -> None:
    """Everything that the README draws is there, and the result was trained."""
    for name in drawn():
        if name.startswith("adapter_") and not adapter:
            continue
        assert list(output.glob(name)), name
    assert list(output.glob("runs/**/events.out.tfevents.*")), "TensorBoard"
    told = read_json(output / "train_args.json")
    assert told["max_steps"] == 2
    assert read_json(output / "train_results.json")["train_loss"] > 0
    assert [entry["step"] for entry in read_json(output / "trainer_state.json")["log_history"]][:2] == [1, 2]
    assert "step 2/2: loss " in (output / "train.log").read_text(encoding="utf-8")
    assert trained(output, Path(told["model_name_or_path"]), adapter=adapter), "nothing was trained"


def trained(output: Path, base: Path, *, adapter: bool) -> bool:
    from safetensors.torch import load_file

    if adapter:
        matrices = load_file(output / "adapter_model.safetensors")
        return any(
            tensor.abs().sum() > 0
            for name, tensor in matrices.items()
            if "lora_B" in name or "lora_embedding_A" in name
        )
    after, before = load_file(output / "model.safetensors"), load_file(base / "model.safetensors")
    return any(not tensor.equal(before[name]) for name, tensor in after.items() if name in before)


# ---- training -------------------------------------------------------------------------------------------------------


TRAINED_HERE = [command for command in commands("python") if "train.py" in command]


@pytest.mark.parametrize(
    "command",
    TRAINED_HERE,
    ids=lambda command: Path(command.split()[3]).stem + " --train_mode" * ("--train_mode" in command),
)
def test_command(command: str, run_here: Any, capsys: pytest.CaptureFixture[str]) -> None:
    output = run_here(command.replace(" --fp16 False", ""), *SMALL)
    stage, mode = re.search(r"-(sft|pretrain|dpo)-(full|lora|qlora)\.json", command).groups()
    mode = "lora" if "--train_mode lora" in command else mode
    check_output(output, adapter=mode != "full")
    told = read_json(output / "train_args.json")
    assert (told["stage"], told.get("load_in_4bit", False)) == (stage, mode == "qlora")
    said = capsys.readouterr().err
    if mode != "full":
        adapter = read_json(output / "adapter_config.json")
        assert (adapter["r"], adapter["lora_alpha"], adapter["lora_dropout"]) == (64, 16, 0.05)
        assert not any("lm_head" in name for name in adapter["target_modules"])
    if stage == "sft":
        assert "24 rows" in said or "25 rows -> 24 examples" in said
    if stage == "pretrain":
        assert "224 documents" in said or "392 documents" in said


@pytest.fixture(scope="session")
def real_rows(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Firefly's own examples of rows for each stage, where the recipe looks for them, and a model that knows them."""
    folder = tmp_path_factory.mktemp("real")
    (folder / "data" / "pretrain").mkdir(parents=True)
    for name, place in {"data": "train", "pretrain": "pretrain/a", "dpo": "dpo"}.items():
        source = shared_data / "firefly" / f"dummy_{name}.jsonl"
        shutil.copy(source, folder / "data" / f"{place}.jsonl")
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("data/**/*.jsonl"))]
    save(folder / "model", "gemma", texts, size=3000)
    return folder


@pytest.mark.parametrize("name", ["gemma-2b-sft-lora", "bloom-1b1-pretrain-full", "gemma-2b-dpo-qlora"])
def test_real_rows(name: str, real_rows: Path, run_here: Any, recipe: Path) -> None:
    shutil.rmtree(recipe / "data")
    (recipe / "data").symlink_to(real_rows / "data")
    model = str(real_rows / "model")
    output = run_here(f"python train.py --train_args_file train_args/{name}.json --model_name_or_path {model}", *SMALL)
    check_output(output, adapter="full" not in name)
    told = read_json(output / "run.json")["plan"]
    assert told["examples"] > 4


@pytest.mark.slow
def test_two_processes_by_torchrun(recipe: Path) -> None:
    (command,) = commands("torchrun")
    _, *words = shlex.split(command)
    done = run_apart(["-m", "torch.distributed.run", *words, *SMALL], recipe)
    output = recipe / "output" / "llama2-7b-sft-qlora"
    check_output(output, adapter=True)
    assert rows_per_step(output) == 2 * 1 * 2, "processes, batch, accumulation"
    assert "2 processes" in done.stderr


@pytest.mark.slow
def test_two_processes_by_deepspeed(recipe: Path) -> None:
    """Its launcher adds --local_rank. The first run on a machine compiles one operator."""
    pytest.importorskip("deepspeed")
    (command,) = commands("deepspeed")
    program, count, *words = shlex.split(command)
    launcher = str(Path(sys.executable).parent / program)
    done = run_apart([launcher, count, "--master_port=29617", *words, *SMALL], recipe)
    output = recipe / "output" / "bloom-1b1-sft-full"
    check_output(output, adapter=False)
    assert rows_per_step(output) == 2 * 1 * 2, "processes, batch, accumulation"
    assert "ZeRO-3" in done.stderr


def test_a_stopped_run_goes_on(run_here: Any, capsys: pytest.CaptureFixture[str]) -> None:
    command = "python train.py --train_args_file train_args/gemma-2b-sft-lora.json"
    short = [word if word != "2" or SMALL[place - 1] != "--max_steps" else "1" for place, word in enumerate(SMALL)]
    run_here(command, *short, "--lr_scheduler_type", "constant")
    output = run_here(command, *SMALL, "--lr_scheduler_type", "constant")
    assert "resuming from" in capsys.readouterr().err
    check_output(output, adapter=True)


def test_rows_of_firefly_with_a_system_message(run_here: Any, recipe: Path) -> None:
    rows = [{"system": "Be brief.", "conversation": [{"human": a, "assistant": b}]} for a, b in ROWS]
    write_rows(recipe / "rows.jsonl", rows)
    words = [
        "--train_file",
        "rows.jsonl",
        "--eval_file",
        "rows.jsonl",
        "--output_dir",
        "output/own",
        "--train_mode",
        "lora",
    ]
    output = run_here("python train.py --train_args_file train_args/llama2-7b-sft-qlora.json", *words, *SMALL)
    result = read_json(output / "run.json")["result"]
    assert result["eval_loss"] < result["eval_loss_before"]
    prompt = load_tokenizer(output).apply_chat_template(
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}], tokenize=False
    )
    assert prompt == "<<SYS>>\nBe brief.\n<</SYS>>\n\n[INST]Hi[/INST]"


def load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


# ---- merging --------------------------------------------------------------------------------------------------------


def test_merging(run_here: Any, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The adapter of a quantised run becomes part of the model in full precision."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    (command,) = [one for one in commands("python") if "merge_lora" in one]
    run_here("python train.py --train_args_file train_args/llama2-7b-sft-qlora.json", *SMALL)
    _, script, *words = shlex.split(command)
    monkeypatch.setattr(sys, "argv", [script, *words])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(recipe / script), run_name="__main__")
    assert end.value.code == 0
    base = AutoModelForCausalLM.from_pretrained("NousResearch/Llama-2-7b-hf")
    ids = torch.arange(3, 60).view(1, -1)
    with torch.no_grad():
        untrained = base(ids).logits
        adapted = PeftModel.from_pretrained(base, "output/llama2-7b-sft-qlora").eval()(ids).logits
        merged = AutoModelForCausalLM.from_pretrained("output/llama2-7b-sft-merged")(ids).logits
    torch.testing.assert_close(merged, adapted, atol=1e-4, rtol=0)
    assert (merged - untrained).abs().max() > 1e-3


@pytest.mark.parametrize("script", ["train.py", "script/merge_lora.py"])
def test_what_is_missing_is_said(
    script: str, recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [script])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(recipe / script), run_name="__main__")
    assert end.value.code == 2
    assert "--train_args_file is missing" in (said := capsys.readouterr().err) or "are required" in said


def test_a_file_that_is_not_there_is_said(run_here: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run_here("python train.py --train_args_file train_args/llama.json --output_dir output", code=2)
    said = capsys.readouterr().err
    assert "train_args/llama.json" in said
    assert "Traceback" not in said


def test_a_system_message_without_a_place_is_no_silent_loss(
    run_here: Any, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(
        recipe / "rows.jsonl",
        [{"system": "Be brief.", "conversation": [{"human": a, "assistant": b}]} for a, b in ROWS],
    )
    command = "python train.py --train_args_file train_args/gemma-2b-sft-lora.json --train_file rows.jsonl"
    run_here(command, *SMALL, code=2)
    assert "not for system" in capsys.readouterr().err
    check_output(run_here(command, "--chat_template", "gemma", *SMALL), adapter=True)


def test_float16_that_this_machine_lacks_is_said_at_once(run_here: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("deepspeed")
    run_here("python train.py --train_args_file train_args/bloom-1b1-sft-full.json", code=2)
    said = capsys.readouterr().err
    assert "--fp16 False" in said
    assert "Traceback" not in said


# ---- the files ------------------------------------------------------------------------------------------------------


def test_translate(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (command,) = commands("sft")
    assert main(shlex.split(command)[1:]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# dialect: firefly_args")
    for key in read_json(RECIPE / "train_args" / "llama2-7b-sft-qlora.json"):
        assert re.search(rf"^# (kept|renamed|ignored) +{key}\b", printed, re.MULTILINE), key


def test_every_command_of_the_readme_is_run() -> None:
    printed = "".join(blocks("bash")).replace("\\\n", " ").splitlines()
    run = [line for program in ("python", "torchrun", "deepspeed", "sft") for line in commands(program)]
    assert {" ".join(line.split()) for line in printed if line.strip()} == {*run, *NOT_RUN}


@pytest.mark.parametrize("block", blocks("json"))
def test_rows_that_the_readme_shows_are_read(block: str, tmp_path: Path) -> None:
    from sft.data.conversations import read_conversations
    from sft.data.sources import parse_sources

    row = json.loads(block)
    write_rows(tmp_path / "rows.jsonl", [row])
    columns = {"messages": "chosen"} if "chosen" in row else None
    (conversation,) = read_conversations(parse_sources(str(tmp_path / "rows.jsonl"), columns=columns)).conversations
    assert conversation.text is not None or conversation.messages[-1].role == "assistant"


def test_requirements_are_this_checkout() -> None:
    text = (RECIPE / "requirements.txt").read_text(encoding="utf-8")
    ((path, extras),) = re.findall(r"^-e (.+)\[(.+)\]$", text, re.MULTILINE)
    project = (RECIPE / path / "pyproject.toml").read_text(encoding="utf-8")
    assert 'name = "sft-kit"' in project
    assert all(f"\n{extra} = [" in project for extra in extras.split(","))


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_files_leave_the_schedule_alone(stage: int) -> None:
    values = read_json(RECIPE / "train_args" / f"ds_z{stage}_config.json")
    assert values["zero_optimization"]["stage"] == stage
    assert not {"scheduler", "optimizer"} & set(values)
