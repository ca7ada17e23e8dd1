"""One of two processes that evaluate together; writes what it saw into a file of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch.distributed as dist

from sft.errors import DataError, GenerationError
from sft.evaluation.prompting import PromptWriter
from sft.evaluation.run import evaluate_tasks
from sft.evaluation.sharing import Ranks
from sft.generation.scripted import ScriptedEngine
from sft.models.tokenizer import load_tokenizer
from sft.tasks import TaskOptions, open_tasks


def main(rank: int, folder: Path, data: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    seen = {"shared": evaluate(folder / f"out{rank}", data), "failures": failures(rank, folder, data)}
    seen["on_first"] = Ranks.current().on_first(lambda: f"said by {rank}")
    (folder / f"seen{rank}.json").write_text(json.dumps(seen))
    dist.destroy_process_group()


def evaluate(out: Path, data: Path, engine: ScriptedEngine | None = None) -> dict[str, Any]:
    """The results, and how many rows this process asked."""
    places = TaskOptions(truthfulqa_file=str(data / "truthfulqa" / "TruthfulQA-817.csv"), qmsum_dir=str(data / "qmsum"))
    prompts = PromptWriter(load_tokenizer(str(data / "models" / "stories260K-hf")), context_length=512)
    engine = engine or ScriptedEngine(lambda prompt: f"It is {sum(map(ord, prompt)) % 89}.")
    told: list[Any] = []
    tasks = open_tasks("qmsum,truthfulqa", places)
    found = evaluate_tasks(tasks, engine, prompts, samples=7, folder=out, stem="m_step0", on_progress=told.append)
    written = sorted(path.name for path in out.glob("*"))
    last = [told[-1].done, told[-1].total] if told else None
    return {"results": found, "asked": len(engine.asked), "written": written, "progress": last}


def failures(rank: int, folder: Path, data: Path) -> list[str]:
    """What each process hears when one of them fails, in one place or another."""

    def dies(prompt: str) -> str:
        raise RuntimeError("out of memory")

    def refuses(prompt: str) -> str:
        raise DataError("that is no prompt")

    said = []
    for engine in (dies, refuses):
        try:
            evaluate(folder / "none", data, ScriptedEngine(engine if rank == 1 else lambda prompt: "fine"))
        except (DataError, GenerationError) as error:
            said.append(f"{type(error).__name__}: {error}")
    blocked = folder / "blocked"
    blocked.write_text("a file where the first process wants a folder")
    try:
        evaluate(blocked, data)
    except (DataError, GenerationError) as error:
        said.append(f"{type(error).__name__}: {error}")
    return said


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
