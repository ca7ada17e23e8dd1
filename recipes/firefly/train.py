"""Train as a JSON file of Firefly's arguments says: ``python train.py --train_args_file train_args/NAME.json``.

--train_args_file FILE   the arguments; required (train_args/ has some)
--local_rank N           not needed; accepted from launchers that add it
--key value ...          in the place of the file's: any of its arguments, and any option of `sft train`, which follow

Also ``torchrun --nproc_per_node=N train.py ...`` and ``deepspeed --num_gpus=N train.py ...``.
"""

import argparse
import sys

from sft.cli.main import main
from sft.dialects.firefly_args import OWN_KEYS

if __name__ == "__main__":
    usage = "python train.py --train_args_file FILE [--key value ...]"
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False, usage=usage)
    parser.add_argument("--train_args_file")
    parser.add_argument("--local_rank", "--local-rank")
    for name in OWN_KEYS:
        parser.add_argument(f"--{name}")
    args, rest = parser.parse_known_args()
    own = [f"{name}={value}" for name in OWN_KEYS if (value := getattr(args, name)) is not None]
    if "-h" in rest or "--help" in rest:
        print(__doc__)
    elif args.train_args_file is None:
        parser.error("--train_args_file is missing; give a JSON file, such as train_args/llama2-7b-sft-qlora.json")
    sys.exit(main(["train", "--dialect", "firefly_args", *filter(None, [args.train_args_file]), *own, *rest]))
