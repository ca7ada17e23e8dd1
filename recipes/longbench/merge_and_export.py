"""Make an adapter part of its base model: ``python merge_and_export.py --adapter_path ./training_output/best_adapter``.

--base_model NAME      folder or hub name of the base model; default Qwen/Qwen3-0.6B
--adapter_path PATH    folder of the adapter, whose tokenizer goes along; required
--output_path PATH     folder of the merged model; default ./merged_model
--push_to_hub          upload it as --hub_model_id OWNER/NAME
--key value ...        any option of `sft merge`, which follow
"""

import argparse
import sys

from sft.cli.main import main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--base_model", default="Qwen/Qwen3-0.6B")
    parser.add_argument("--output_path", default="./merged_model")
    args, rest = parser.parse_known_args()
    if "-h" in rest or "--help" in rest:
        print(__doc__)
    sys.exit(main(["merge", "--base_model", args.base_model, "--output_path", args.output_path, *rest]))
