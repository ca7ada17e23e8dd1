"""Files for other places to run: they agree with the package, and what they launch is what `sft` takes."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from typing import Any

import pytest
import yaml
from page_blocks import ROOT
from page_workplace import Workplace

from sft.cli.options import config_from_words

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SLURM = ROOT / "examples" / "slurm" / "train.sbatch"
SKYPILOT = ROOT / "examples" / "skypilot" / "train.yaml"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def lines_of(file: str) -> list[str]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_requirements_are_those_of_the_package() -> None:
    assert lines_of("requirements.txt") == PROJECT["dependencies"]


def test_conda_installs_the_package_with_the_tested_versions() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, by_pip = environment["dependencies"]
    assert pip == "pip"
    assert f"Programming Language :: Python :: {python.removeprefix('python=')}" in PROJECT["classifiers"]
    constraint, package = by_pip["pip"]
    assert (ROOT / constraint.removeprefix("-c ")).is_file()
    extras = re.fullmatch(r"-e \.\[(.+)\]", package)
    assert extras is not None
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])


def test_the_image_is_made_of_what_is_there() -> None:
    copied = [name for names in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE) for name in names.split()]
    let_in = [line.removeprefix("!") for line in lines_of(".dockerignore") if line.startswith("!")]
    assert sorted(set(copied)) == sorted(let_in)
    assert [name for name in copied if not (ROOT / name).exists()] == []
    needed = {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml", "src"}
    assert needed <= set(copied), "what the build of the package reads"
    extras = {name for names in re.findall(r"^ARG EXTRAS=(.+)$", DOCKERFILE, re.MULTILINE) for name in names.split(",")}
    assert extras <= set(PROJECT["optional-dependencies"])
    (python,) = re.findall(r"^ARG PYTHON=(.+)$", DOCKERFILE, re.MULTILINE)
    assert f"Programming Language :: Python :: {python}" in PROJECT["classifiers"]
    assert re.findall(r"^torch==\S+$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture
def cluster(workplace: Workplace) -> dict[str, str]:
    """An environment like that of a job: programs of Slurm as stand-ins, an activation that does nothing."""
    workplace.write("env/bin/activate", "")
    workplace.script("torchrun -m sft train")  # writes the stand-ins
    return {
        **os.environ,
        "PATH": f"{workplace.folder / 'stubs'}{os.pathsep}{os.environ['PATH']}",
        "SFT_ENV": str(workplace.folder / "env"),
        "LAUNCHED": str(workplace.folder / "launched"),
        "SLURM_GPUS_ON_NODE": "4",
    }


def test_slurm_launches_what_sft_takes(workplace: Workplace, cluster: dict[str, str]) -> None:
    (workplace.folder / "launched").write_text("")
    workplace.rows("my.jsonl")
    words = ["--data_path", "my.jsonl", "--lora_r", "4", "--use_lora"]
    done = subprocess.run(["bash", str(SLURM), *words], env=cluster, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (launch,) = (workplace.folder / "launched").read_text().splitlines()
    before, told = launch.split("-m sft train ")
    assert shlex.split(before)[1:] == [
        *("--nnodes=2", "--nproc_per_node=4", "--rdzv_backend=c10d", "--rdzv_id=7", "--rdzv_endpoint=first:29500")
    ]
    assert config_from_words(shlex.split(told)).lora_r == 4
    nodes, gpus = (re.search(rf"^#SBATCH --{name}=(\d+)$", SLURM.read_text(), re.MULTILINE) for name in
                   ("nodes", "gpus-per-node"))  # fmt: skip
    assert nodes is not None
    assert gpus is not None
    assert (nodes[1], gpus[1]) == ("2", "4")


def test_slurm_asks_a_run_to_stop_and_queues_it_again(workplace: Workplace, cluster: dict[str, str]) -> None:
    """The run gets SIGTERM, has time to save, and only then the job is queued again."""
    saves = 'trap "echo saved >> happened; kill %1; exit 75" TERM; sleep 60 & echo > started; wait'
    workplace.write("stubs/srun", f"#!/bin/bash\n{saves}\n")
    workplace.write("stubs/scontrol", '#!/bin/bash\n[[ $1 == show ]] && echo first || echo "$@" >> happened\n')
    os.mkfifo(workplace.folder / "started")
    with subprocess.Popen(["bash", str(SLURM), "my.yaml"], env=cluster) as job:
        (workplace.folder / "started").read_text()  # waits until it is written to
        job.send_signal(signal.SIGUSR1)
        assert job.wait(60) == 0
    assert (workplace.folder / "happened").read_text().splitlines() == ["saved", "requeue 7"]


def test_slurm_tells_how_a_run_failed(workplace: Workplace, cluster: dict[str, str]) -> None:
    workplace.write("stubs/srun", "#!/bin/bash\nexit 2\n")
    assert subprocess.run(["bash", str(SLURM), "my.yaml"], env=cluster, check=False).returncode == 2


def test_skypilot_launches_what_sft_takes(workplace: Workplace) -> None:
    task = yaml.safe_load(SKYPILOT.read_text(encoding="utf-8"))
    assert set(task) <= {"name", "resources", "num_nodes", "workdir", "file_mounts", "envs", "secrets", "setup", "run"}
    for script in ("setup", "run"):
        assert subprocess.run(["bash", "-n", "-c", task[script]], check=False).returncode == 0
    extras = re.search(r"pip install -c constraints\.txt -e '\.\[(.+)\]'", task["setup"])
    assert extras is not None
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])
    workplace.write(".venv/bin/activate", "")
    config = ROOT / task["envs"]["CONFIG"]
    assert config.is_file()
    node = {"SKYPILOT_NUM_NODES": "1", "SKYPILOT_NODE_RANK": "0", "SKYPILOT_NUM_GPUS_PER_NODE": "8"}
    given = {**node, "SKYPILOT_NODE_IPS": "10.0.0.1", "SKYPILOT_TASK_ID": "sky-1", "CONFIG": str(config)}
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in given.items())
    (launch,) = workplace.script(exports + task["run"])
    before, told = launch.split("-m sft train ")
    assert "--nproc_per_node=8" in before
    assert config_from_words(shlex.split(told)).output_dir == "/checkpoints/sky-1"
