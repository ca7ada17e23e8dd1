"""Wrong configurations: each is refused in one readable message that names the key, or the file and line.

The command is `sft plan`, which reads data right after the configuration; none of these gets that far.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sft.cli.main import main


@dataclass(frozen=True)
class Bad:
    """One wrong configuration and what its message must hold."""

    name: str
    says: list[str]
    argv: list[str] = field(default_factory=list)
    file: str | None = None
    text: str | bytes = ""

    def command(self, folder: Path) -> list[str]:
        """Write the file, if there is one, and give the words of the command line."""
        if self.file is None:
            return ["plan", *self.argv]
        path = folder / self.file
        content = self.text if isinstance(self.text, bytes) else self.text.encode()
        path.write_bytes(content)
        return ["plan", str(path), *self.argv]


DATA = "data_path: d.jsonl\n"
ADAPTER = DATA + "use_lora: true\n"

YAML_CASES = [
    Bad(
        "misspelt key",
        ["a.yaml:2", "lerning_rate", "Did you mean learning_rate?"],
        [],
        "a.yaml",
        DATA + "lerning_rate: 1",
    ),
    Bad("other tool's key", ["a.yaml:2", "lora_rank", "lora_r"], [], "a.yaml", DATA + "lora_rank: 8"),
    Bad("unlike any key", ["a.yaml:2", "zzz", "no option"], [], "a.yaml", DATA + "zzz: 8"),
    Bad("negative length", ["max_length = -5", "a.yaml:2", "at least 2"], [], "a.yaml", DATA + "max_length: -5"),
    Bad(
        "negative accumulation",
        ["gradient_accumulation_steps = -2", "a.yaml:1", "at least 1"],
        [],
        "a.yaml",
        "gradient_accumulation_steps: -2\n" + DATA,
    ),
    Bad(
        "huge learning rate",
        ["learning_rate = 1000000.0", "a.yaml:2", "at most 10"],
        [],
        "a.yaml",
        DATA + "learning_rate: 1e6",
    ),
    Bad("zero learning rate", ["learning_rate = 0", "a.yaml:2", "above 0"], [], "a.yaml", DATA + "learning_rate: 0"),
    Bad("null number", ["learning_rate = null", "a.yaml:2", "a number"], [], "a.yaml", DATA + "learning_rate: null"),
    Bad(
        "word for number",
        ["learning_rate = 'fast'", "a.yaml:2", "a number"],
        [],
        "a.yaml",
        DATA + "learning_rate: fast",
    ),
    Bad("nan", ["weight_decay = nan", "a.yaml:2", "finite"], [], "a.yaml", DATA + "weight_decay: .nan"),
    Bad("infinity", ["learning_rate = inf", "a.yaml:2", "finite"], [], "a.yaml", DATA + "learning_rate: .inf"),
    Bad("fraction for count", ["lora_r = 2.5", "a.yaml:3", "a whole number"], [], "a.yaml", ADAPTER + "lora_r: 2.5"),
    Bad("boolean for number", ["seed = true", "a.yaml:2", "a whole number"], [], "a.yaml", DATA + "seed: true"),
    Bad("number for boolean", ["packing = 1", "a.yaml:2", "true or false"], [], "a.yaml", DATA + "packing: 1"),
    Bad("list for text", ["output_dir", "a.yaml:2", "must be text"], [], "a.yaml", DATA + "output_dir: [a, b]"),
    Bad("number for text", ["run_name = 7", "a.yaml:2", "quote"], [], "a.yaml", DATA + "run_name: 7"),
    Bad("text for mapping", ["columns = 'q'", "a.yaml:2", "mapping"], [], "a.yaml", DATA + "columns: q"),
    Bad(
        "number in list of texts",
        ["target_modules", "a.yaml:3", "list of texts"],
        [],
        "a.yaml",
        ADAPTER + "target_modules: [1, 2]",
    ),
    Bad(
        "unknown column key",
        ["columns", "a.yaml:2", "question", "prompt"],
        [],
        "a.yaml",
        DATA + "columns: {question: q}",
    ),
    Bad(
        "unknown role",
        ["role_names", "a.yaml:2", "wizard", "assistant"],
        [],
        "a.yaml",
        DATA + "role_names: {bot: wizard}",
    ),
    Bad(
        "choice", ["train_on = 'answer'", "a.yaml:2", "did you mean answers?"], [], "a.yaml", DATA + "train_on: answer"
    ),
    Bad("duplicate key", ["a.yaml:3", "seed is given twice", "line 2"], [], "a.yaml", DATA + "seed: 1\nseed: 2"),
    Bad(
        "duplicate inner key",
        ["a.yaml:4", "prompt is given twice"],
        [],
        "a.yaml",
        DATA + "columns:\n  prompt: a\n  prompt: b",
    ),
    Bad("python tag", ["a.yaml:2", "tag"], [], "a.yaml", DATA + "run_name: !!python/object/apply:os.getcwd []"),
    Bad("any tag", ["a.yaml:2", "tag", "not allowed"], [], "a.yaml", DATA + "run_name: !!str 7"),
    Bad("tab", ["a.yaml:3", "spaces, not tabs"], [], "a.yaml", DATA + "columns:\n\tprompt: q"),
    Bad("unclosed", ["a.yaml:", "not usable as YAML"], [], "a.yaml", DATA + "columns: {prompt: q\nseed: 3"),
    Bad("list at the top", ["a.yaml:1", "a mapping of options", "a list"], [], "a.yaml", "- data_path: d"),
    Bad("two documents", ["a.yaml:2", "document"], [], "a.yaml", DATA + "---\nseed: 1"),
    Bad(
        "alias bomb",
        ["a.yaml:", "aliases"],
        [],
        "a.yaml",
        "a: &a [x, x]\n" + "".join(f"b{n}: [*a, *a, *a]\n" for n in range(20)),
    ),
    Bad("recursive alias", ["a.yaml:2", "not usable as YAML"], [], "a.yaml", DATA + "columns: &c {prompt: *c}"),
    Bad("merge key", ["a.yaml:3", "merge keys"], [], "a.yaml", DATA + "columns: &c {prompt: q}\n<<: *c"),
    Bad("deep nesting", ["a.yaml", "nested too deeply"], [], "a.yaml", "columns: " + "[" * 5000),
    Bad("not UTF-8", ["a.yaml:2", "UTF-8"], [], "a.yaml", b"data_path: d\nrun_name: caf\xe9\n"),
    Bad("control character", ["a.yaml:2", "U+0000"], [], "a.yaml", b"data_path: d\nrun_name: a\x00b\n"),
    Bad("UTF-16", ["a.yaml:1", "UTF-8"], [], "a.yaml", "data_path: d\n".encode("utf-16")),
    Bad("both precisions", ["fp16", "bf16", "a.yaml:2", "a.yaml:3"], [], "a.yaml", DATA + "fp16: true\nbf16: true"),
    Bad("4-bit without adapter", ["load_in_4bit", "a.yaml:2", "use_lora"], [], "a.yaml", DATA + "load_in_4bit: true"),
    Bad("lora_r without use_lora", ["lora_r = 16", "a.yaml:2", "use_lora"], [], "a.yaml", DATA + "lora_r: 16"),
    Bad(
        "best model without evaluation",
        ["load_best_model_at_end", "a.yaml:2", "eval_data_path"],
        [],
        "a.yaml",
        DATA + "load_best_model_at_end: true",
    ),
    Bad(
        "eval_steps without data",
        ["eval_steps = 10", "a.yaml:2", "eval_data_path"],
        [],
        "a.yaml",
        DATA + "eval_steps: 10",
    ),
    Bad("max_steps 0", ["max_steps = 0", "a.yaml:2", "trains nothing"], [], "a.yaml", DATA + "max_steps: 0"),
    Bad("model_dir outside", ["model_dir", "a.yaml:2", "output_dir"], [], "a.yaml", DATA + "model_dir: ../elsewhere"),
    Bad(
        "merged over adapter",
        ["merged_dir", "a.yaml:3", "one folder"],
        [],
        "a.yaml",
        ADAPTER + "merged_dir: ./final_model",
    ),
    Bad(
        "smoothing", ["label_smoothing_factor", "a.yaml:2", "loss"], [], "a.yaml", DATA + "label_smoothing_factor: 0.1"
    ),
    Bad("token in file", ["hub_token", "a.yaml:2", "run.json"], [], "a.yaml", DATA + "hub_token: hf_x"),
    Bad(
        "passed through, wrong type",
        ["adam_beta2 = 'high'", "a.yaml:2", "a number"],
        [],
        "a.yaml",
        DATA + "adam_beta2: high",
    ),
    Bad("optimizer", ["optim = 'adamw'", "a.yaml:2", "adamw_torch"], [], "a.yaml", DATA + "optim: adamw"),
    Bad("tracker", ["report_to", "a.yaml:2", "wandb"], [], "a.yaml", DATA + "report_to: [wandbb]"),
    Bad("no data", ["data_path is missing"], [], "a.yaml", "seed: 1"),
    Bad("no data, empty value", ["data_path is missing"], [], "a.yaml", "data_path:\n"),
    Bad("empty path", ["data_path = ''", "a.yaml:1", "not empty"], [], "a.yaml", "data_path: ''"),
    Bad(
        "old and new name",
        ["warmup_ratio", "warmup_steps", "a.yaml:3"],
        [],
        "a.yaml",
        DATA + "warmup_steps: 5\nwarmup_ratio: 0.1",
    ),
    Bad("ratio above one", ["warmup_ratio = 10", "a.yaml:2", "share"], [], "a.yaml", DATA + "warmup_ratio: 10"),
    Bad("old value", ["save_safetensors", "a.yaml:2", "safetensors"], [], "a.yaml", DATA + "save_safetensors: false"),
]

OTHER_CASES = [
    Bad("JSON syntax", ["a.json:2", "not usable as JSON"], [], "a.json", '{"seed": 1,\n oops}'),
    Bad(
        "JSON duplicate", ["a.json:3", "seed is given twice"], [], "a.json", '{"seed": 1,\n"max_length": 9,\n"seed": 2}'
    ),
    Bad("JSON unknown key", ["a.json:2", "sed", "Did you mean seed?"], [], "a.json", '{"data_path": "d",\n "sed": 1}'),
    Bad("JSON NaN", ["a.json:1", "NaN is no number"], [], "a.json", '{"learning_rate": NaN}'),
    Bad("JSON list", ["a.json:1", "one JSON object", "data_path"], [], "a.json", '[{"instruction": "x"}]'),
    Bad("JSON deep", ["a.json", "nested too deeply"], [], "a.json", '{"columns": ' + "[" * 100_000),
    Bad("JSON type", ["max_length = 'long'", "a.json:1"], [], "a.json", '{"max_length": "long"}'),
    Bad("TOML syntax", ["a.toml:2", "not usable as TOML"], [], "a.toml", "seed = 1\nmax_length ="),
    Bad("TOML duplicate", ["a.toml:2", "not usable as TOML"], [], "a.toml", "seed = 1\nseed = 2\n"),
    Bad("TOML unknown key", ["a.toml:2", "max_lenth", "max_length"], [], "a.toml", 'data_path = "d"\nmax_lenth = 5\n'),
    Bad("TOML date", ["run_name", "a.toml:1", "text"], [], "a.toml", "run_name = 2024-01-01\n"),
    Bad("wrong suffix", ["a.conf", ".yaml"], [], "a.conf", "seed: 1"),
    Bad("data as configuration", ["a.jsonl", "is data", "--data_path"], [], "a.jsonl", "{}"),
    Bad("missing file", ["missing.yaml", "no such file"], ["missing.yaml"]),
    Bad("unknown flag", ["--lora_rr", "Did you mean lora_r?"], ["--data_path", "d", "--lora_rr", "8"]),
    Bad("abbreviated flag", ["learning_r", "Did you mean learning_rate?"], ["--data_path", "d", "--learning_r", "0.5"]),
    Bad("flag given twice", ["--seed is given twice", "1", "2"], ["--data_path", "d", "--seed", "1", "--seed=2"]),
    Bad("flag without value", ["--learning_rate needs a value"], ["--data_path", "d", "--learning_rate"]),
    Bad(
        "flag with a bad value",
        ["lora_r = eight (--lora_r)"],
        ["--data_path", "d", "--use_lora", "--lora_r", "eight"],
    ),
    Bad("two files", ["b.yaml", "configuration file"], ["b.yaml"], "a.yaml", DATA),
    Bad("key=value", ["seed=1", "--seed 1"], ["seed=1"], "a.yaml", DATA),
    Bad("one dash", ["-seed", "two dashes"], ["-seed", "1"], "a.yaml", DATA),
    Bad("config flag", ["--config", "sft train FILE"], ["--config", "a.yaml"]),
    Bad("no_ flag", ["no_packing", "--packing False"], ["--data_path", "d", "--no_packing"]),
    Bad("override out of range", ["save_steps = 0", "--save_steps"], ["--save_steps", "0"], "a.yaml", DATA),
    Bad("file and flag conflict", ["fp16", "a.yaml:2", "--bf16"], ["--bf16"], "a.yaml", DATA + "fp16: true"),
]

CASES = YAML_CASES + OTHER_CASES


@pytest.mark.parametrize("bad", CASES, ids=[bad.name for bad in CASES])
def test_is_refused_in_one_message(bad: Bad, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(bad.command(tmp_path))
    told = capsys.readouterr()
    assert code == 2
    assert told.out == ""
    assert told.err.startswith("sft: error: ")
    assert told.err.count("sft: error: ") == 1
    assert "Traceback" not in told.err
    for part in bad.says:
        assert part in told.err


def test_all_problems_are_reported_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("data_path: d\nmax_length: -5\ngradient_accumulation_steps: -2\nlerning_rate: 1\nfp16: true\n")
    code = main(["plan", str(path), "--bf16", "--learning_rate", "1e6", "--seed"])
    message = capsys.readouterr().err
    assert code == 2
    assert "6 problems" in message
    for part in ("a.yaml:2", "a.yaml:3", "a.yaml:4", "a.yaml:5", "--bf16", "--learning_rate", "--seed needs a value"):
        assert part in message


MEASURE = """
import json, sys, time
from sft.cli.main import main
results = []
for command in json.load(sys.stdin):
    start = time.process_time()
    code = main(command)
    results.append([code, time.process_time() - start])
print(json.dumps({"results": results, "heavy": sorted({"torch", "transformers", "numpy"} & set(sys.modules))}))
"""


def test_refused_at_once_and_without_torch(tmp_path: Path) -> None:
    commands = []
    for number, bad in enumerate(CASES):
        folder = tmp_path / str(number)
        folder.mkdir()
        commands.append(bad.command(folder))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], input=json.dumps(commands), capture_output=True, text=True, check=True
    )
    measured = json.loads(done.stdout.splitlines()[-1])
    assert measured["heavy"] == []
    assert [code for code, _ in measured["results"]] == [2] * len(CASES)
    assert max(seconds for _, seconds in measured["results"]) < 1.0
