"""Train a LoRA adapter on LongBench, and measure it by generation as it learns: ``python train.py --model_name M``.

--model_name NAME      folder or hub name of the model; required
--gpu 0,1              GPUs to use, one process for each; absent, empty or all: those that are there, or else the CPU
--num_epochs N         passes over the data; default 3
--batch_size N         rows per device and forward pass; default 4
--warmup_ratio SHARE   share of all steps over which the learning rate rises; default 0.1
--train_datasets NAMES subsets of LongBench with commas between them; default all
--key value ...        any option of `sft train`, which follow; defaults of this recipe are in its README
"""

import os
import sys

from train_args import parse_args, take_gpus

from sft import SftError
from sft.cli.main import main as sft
from sft.errors import ConfigError


def main() -> int:
    """Start the processes that are asked for and train, or say what is wrong with the words."""
    try:
        return start()
    except SftError as error:
        print(f"train.py: error: {error}", file=sys.stderr)
        return error.exit_code


def start() -> int:
    """Set the GPUs before anything imports torch, start a process for each, and train."""
    gpus, words = take_gpus(sys.argv[1:])
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    if "-h" in words or "--help" in words:
        print(__doc__)
    elif is_complete(words) and (processes := num_processes(gpus)) > 1:
        launcher = [sys.executable, "-m", "sft.cli.launcher", "--standalone", f"--nproc_per_node={processes}"]
        os.execv(sys.executable, [*launcher, __file__, *words])
    return sft(["train", "--dialect", "longbench_args", *words])


def is_complete(words: list[str]) -> bool:
    """Whether the arguments can be used. A mistake is said by one process, before there are several."""
    try:
        parse_args([word for word in words if word != "--json"])
    except SftError:
        return False
    return True


def num_processes(gpus: list[str]) -> int:
    """One for each GPU that is named, or else for each that is there; 1 on a CPU and below a launcher.

    Raises:
        ConfigError: some of the GPUs that are named are there, others are not.
    """
    if "LOCAL_RANK" in os.environ:
        return 1
    import torch

    there = torch.cuda.device_count()
    if there < len(gpus):
        lacking = f"--gpu {','.join(gpus)}: {there or 'no'} GPU of these is there"
        if there:
            raise ConfigError(f"{lacking}. Name those that are, or leave --gpu out to take all of them.")
        print(f"note: {lacking}; going on with {len(gpus)} process(es) on the CPU", file=sys.stderr)
    return len(gpus) or max(1, there)


if __name__ == "__main__":
    sys.exit(main())
