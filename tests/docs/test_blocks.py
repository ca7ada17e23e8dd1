"""Every block and every command that a page prints runs here, or says why it cannot.

A block is told by its language. Commands of ours run, in the order of the page, in a folder where a tiny model lies
under each name that the page uses; what starts several processes is checked by what each of them would do. What needs
another program stands in NOT_RUN with its reason; a reason that stands for nothing, or an unknown kind of block, fails.
"""

from __future__ import annotations

import importlib
import json
import re
import shlex
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from page_blocks import PAGES, ROOT, Block, blocks_of, relative
from page_workplace import Workplace, names_in

from sft.cli.main import VERBS, VerbParser
from sft.cli.options import config_from_words
from sft.config.catalog import OPTIONS
from sft.config.training_arguments import installed_fields
from sft.data.formats import detect_format, detect_pairs
from sft.data.types import Row, Source
from sft.evaluation.history import EvaluationEntry, EvaluationHistory

RUN_ELSEWHERE = {
    "recipes/accelerate/README.md": "tests/cli/test_recipes.py",
    "recipes/firefly/README.md": "tests/cli/test_firefly_recipe.py",
    "recipes/llama_factory/README.md": "tests/cli/test_llama_factory_recipe.py",
    "recipes/longbench/README.md": "tests/cli/test_longbench_recipe.py",
    "recipes/qwen3/README.md": "tests/cli/test_recipes.py",
}
"""Pages whose every block is run, word for word, by tests of their own."""

INSTALLS = "installs from a package index"
MAKES = "a target of the Makefile; that it exists is tested, and what it does where it has tests of its own"
DOCKER = "needs a Docker daemon; tests/docs/test_where_it_runs.py holds the Dockerfile to the package"
CLUSTER = "needs a cluster or a cloud; tests/docs/test_where_it_runs.py runs the scripts with stand-ins"
HUB = "needs the hub; tests/unit/export/test_hub.py does it against a server that speaks its protocol"
GGUF = "needs llama.cpp; tests/unit/export/test_gguf.py does it with a stand-in for its converter"
NOT_RUN: dict[str, str] = {
    "make install": MAKES,
    "make check": MAKES,
    "make quickstart": MAKES,
    "make test": MAKES,
    "make test-browser": MAKES,
    "make test-fast": MAKES,
    ".venv/bin/pre-commit install": "changes the checkout's git hooks",
    "source .venv/bin/activate": "changes the shell it is typed in",
    "pip install 'sft-kit[deepspeed]'": INSTALLS,
    "pip install -c constraints.txt '.[all]'": INSTALLS,
    "python3 -m venv .venv": INSTALLS,
    "conda env create -f environment.yml": INSTALLS,
    "conda activate sft-kit": INSTALLS,
    "docker build -t sft-kit .": DOCKER,
    "docker build -t sft-kit-cpu --target cpu .": DOCKER,
    "docker run --rm --gpus all -v '$PWD:/work' -v sft-cache:/cache sft-kit train train.yaml": DOCKER,
    "docker run --rm -v '$PWD:/work' sft-kit-cpu plan train.yaml": DOCKER,
    "sbatch examples/slurm/train.sbatch train.yaml --output_dir /shared/runs/first": CLUSTER,
    "sky launch -c sft examples/skypilot/train.yaml --env CONFIG=train.yaml": CLUSTER,
    "sky jobs launch examples/skypilot/train.yaml": CLUSTER,
    "hf auth login": HUB,
    "sft train train.yaml --push_to_hub --hub_model_id me/my-model": HUB,
    "sft merge --base_model Qwen/Qwen2.5-1.5B --adapter_path output/final_model --output_path merged --push_to_hub "
    "--hub_model_id me/my-model": HUB,
    "ollama create my-model -f for-ollama/Modelfile": "needs Ollama; tests/unit/export/test_ollama.py reads the file",
    "export 'LLAMA_CPP_DIR=$HOME/llama.cpp'": GGUF,
    "sft merge --base_model Qwen/Qwen2.5-1.5B --adapter_path output/final_model --output_path gguf --gguf q8_0": GGUF,
    "hf download GAIR/lima train.jsonl --repo-type dataset --local-dir data": "downloads",
}

LAUNCHERS = ("torchrun", "accelerate", "deepspeed")
MODELS = "model_name_or_path|base_model|model|from_pretrained"
DATA = "data_path|eval_data_path|dataset_name|train_file|path"
ADAPTERS = "adapter_path|adapter"
OUTPUTS = ("output/", "run/", "runs/")
"""How the pages name what a run leaves."""
PAGES_HERE = [page for page in PAGES if relative(page) not in RUN_ELSEWHERE and blocks_of(page)]


def commands_of(page: Path) -> list[str]:
    shell = [block for block in blocks_of(page) if block.language == "bash" and not block.text.startswith("#!")]
    return [command for block in shell for command in block.commands()]


def as_parameter(page: Path) -> Any:
    """A page that trains takes seconds."""
    trains = any(re.search(r"sft train|\.train\(\)|final_model", block.text) for block in blocks_of(page))
    return pytest.param(page, id=relative(page), marks=[pytest.mark.slow] if trains else [])


@pytest.mark.parametrize("page", [as_parameter(page) for page in PAGES_HERE])
def test_blocks_run(page: Path, workplace: Workplace) -> None:
    ran: Counter[str] = Counter()
    for block in blocks_of(page):
        try:
            RUN[kind_of(block)](block, workplace)
        except AssertionError as error:
            raise AssertionError(f"{relative(page)}:{block.line}: {error}") from error
        ran[block.language] += 1
    assert ran.total() == len(blocks_of(page))


def kind_of(block: Block) -> str:
    if block.language.startswith("{"):
        return "{"
    if block.language == "bash" and block.text.startswith("#!"):
        return "script"
    assert block.language in RUN, f"a block of an unknown kind: {block.language}"
    return block.language


def prepare(text: str, workplace: Workplace) -> None:
    """Let what a block names be there: models, then rows, then finished runs."""
    models = [name for name in names_in(text, MODELS) if "/" in name]
    for name in models:
        if not name.startswith(OUTPUTS):
            workplace.base_model(name)
    for name in names_in(text, DATA):
        if not name.startswith(OUTPUTS) and re.search(r"/|\.(jsonl?|csv)$", name):
            workplace.rows(name)
    for name in [*models, *names_in(text, ADAPTERS)]:
        if name.startswith(OUTPUTS):
            workplace.trained(name, lora=bool(re.search(r"adapter|merge|Peft", text)))


def run_bash(block: Block, workplace: Workplace) -> None:
    for command in block.commands():
        run_command(command, workplace)


def run_command(command: str, workplace: Workplace) -> None:
    if command in NOT_RUN:
        check_flags(command)
        return
    for file in re.findall(r"\S+\.(?:yaml|json)\b", command):
        if not workplace.has(file):  # a file that the page does not print: ours, with the defaults
            workplace.rows("my.jsonl")
            values = {"model_name_or_path": workplace.base, "data_path": "my.jsonl", "output_dir": "output-of-file"}
            workplace.write(file, json.dumps(values))
    prepare(command, workplace)
    words = shlex.split(command)
    if words[0] in LAUNCHERS:
        run_launch(command, workplace)
        return
    place = next((at for at, word in enumerate(words) if not re.match(r"[A-Z_]+=", word)), 0)
    assert words[place] == "sft", f"neither run nor with a reason in NOT_RUN: {command}"
    with pytest.MonkeyPatch.context() as patch:
        for setting in words[:place]:
            patch.setenv(*setting.split("=", 1))
        workplace.sft(shlex.join(words[place + 1 :]))


def check_flags(command: str) -> None:
    """What is not run has at least flags that there are."""
    words = shlex.split(command)
    if words[0] == "sft":
        known = known_flags(words[1])
        assert [word for word in words if word.startswith("--") and word not in known] == [], command


@cache
def known_flags(verb: str) -> frozenset[str]:
    """Every flag that a verb takes: its own, and the options where it takes a configuration."""
    parser = VerbParser(prog=f"sft {verb}", allow_abbrev=False)
    importlib.import_module(VERBS[verb][0]).configure(parser)
    own = {flag for action in parser._actions for flag in action.option_strings}
    options = [*OPTIONS, *installed_fields()] if parser.takes_config else []
    return frozenset({*own, *(f"--{name}" for name in options)})


def run_launch(command: str, workplace: Workplace) -> None:
    """What each process of a launch is told, as far as it can be seen without the others."""
    words = shlex.split(command)
    if words[-1] == "...":
        return
    place = words.index("sft")
    assert words[place - 1] in ("-m", "--module"), command
    verb, *rest = words[place + 1 :]
    assert verb == "train", command
    workplace.sft(shlex.join(["plan", *rest]), "--config_only")


def run_script(block: Block, workplace: Workplace) -> None:
    launches = workplace.script(block.text)
    assert launches, "the script starts nothing"
    for launch in launches:
        run_command(launch, workplace)


def run_python(block: Block, workplace: Workplace) -> None:
    prepare(block.text, workplace)
    names = {"__name__": "__main__"}
    exec(compile(block.text, f"block at line {block.line}", "exec"), names)


def read_config(block: Block, workplace: Workplace) -> None:
    """A configuration, ours or of another tool, is read as strictly as `sft train FILE` reads it."""
    name = block.file or f"block.{block.language}"
    workplace.write(name, block.text)
    if '"zero_optimization"' in block.text:  # DeepSpeed's own; the commands that name it read it
        assert json.loads(block.text)
        return
    prepare(block.text, workplace)
    if "stage" in block.text and "dataset: identity" in block.text:
        workplace.rows("data/identity.json")
        workplace.write("data/dataset_info.json", json.dumps({"identity": {"file_name": "identity.json"}}))
    assert config_from_words([name])


def read_rows(block: Block, workplace: Workplace) -> None:
    """Each line is a row of a format, or a pair."""
    for line in block.text.splitlines():
        row = Row(json.loads(line), Source("page", 1))
        assert (detect_pairs([row], {}) if "chosen" in row.values else detect_format([row], {})).format_type
    if block.file:
        workplace.write(block.file, block.text)


def use_template(block: Block, workplace: Workplace) -> None:
    """A chat template renders and masks rows."""
    workplace.write("page.jinja", block.text)
    workplace.rows("my.jsonl")
    workplace.sft(f"inspect --data_path my.jsonl --model_name_or_path {workplace.base} --chat_template page.jinja")


def look_at_output(block: Block, workplace: Workplace) -> None:
    """What a program prints, or a drawing: nothing that anybody would type."""
    assert not re.search(r"^\s*(?:\$ |sft (?!:)\w+ |python |pip |make )", block.text, re.MULTILINE)


def is_built(block: Block, workplace: Workplace) -> None:
    """A directive of the generator: tests/docs/test_site.py builds it."""
    assert block.text.strip()


RUN = {
    "": look_at_output,
    "bash": run_bash,
    "script": run_script,
    "python": run_python,
    "yaml": read_config,
    "json": read_config,
    "jsonl": read_rows,
    "jinja": use_template,
    "{": is_built,
}


def test_no_reason_stands_for_nothing() -> None:
    printed = {command for page in PAGES_HERE for command in commands_of(page)}
    assert set(NOT_RUN) - printed == set()


@pytest.mark.parametrize(("page", "test"), RUN_ELSEWHERE.items())
def test_pages_of_recipes_are_read_by_their_tests(page: str, test: str) -> None:
    text = (ROOT / test).read_text(encoding="utf-8")
    read = {block.language for block in blocks_of(ROOT / page) if f'"{block.language}"' in text}
    assert "README.md" in text
    others = [block for block in blocks_of(ROOT / page) if block.language and block.language not in read]
    assert all(is_a_history(block) for block in others)


def is_a_history(block: Block) -> bool:
    """What `eval_history.json` is shown as has the keys that are written."""
    shown = json.loads(block.text)
    (entry,) = shown["history"]
    written = EvaluationHistory([EvaluationEntry(**entry)]).to_dict()
    assert set(shown) <= set(written)
    assert written["history"] == [entry]
    return True
