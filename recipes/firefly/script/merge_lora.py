"""Make an adapter part of its base model: ``python script/merge_lora.py --adapter_name_or_path A --save_path S``.

--model_name_or_path NAME     folder or hub name of the base model; unset: the one that the adapter names
--adapter_name_or_path PATH   folder or hub name of the adapter, whose tokenizer goes along; required
--save_path PATH              folder of the merged model, new or empty; required
--push_to_hub                 upload it as --hub_model_id OWNER/NAME; never without being asked
--key value ...               any option of `sft merge`, which follow
"""

import argparse
import sys

from sft.cli.main import main

NAMES = {"model_name_or_path": "base_model", "adapter_name_or_path": "adapter_path", "save_path": "output_path"}

if __name__ == "__main__":
    usage = "python script/merge_lora.py --adapter_name_or_path A --save_path S [--key value ...]"
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False, usage=usage)
    for name in NAMES:
        parser.add_argument(f"--{name}")
    args, rest = parser.parse_known_args()
    if "-h" in rest or "--help" in rest:
        print(__doc__)
    elif args.adapter_name_or_path is None or args.save_path is None:
        parser.error("--adapter_name_or_path and --save_path are required")
    given = [f"--{ours}={value}" for name, ours in NAMES.items() if (value := getattr(args, name)) is not None]
    sys.exit(main(["merge", *given, *rest]))
