"""Fine-tune as one YAML file says: ``accelerate launch sft.py --config default_train_config.yaml``.

--config FILE               sections model, dataset, training; default: default_train_config.yaml
--gen_questions_file FILE   one question a line, answered every gen_every_n_steps into output_dir/gen_results
--key value ...             any option of `sft train`; wins over the file
"""

import argparse
import sys
from pathlib import Path

# Python puts the folder of a script first on its path, and this script is called as the package is: without this line
# `import sft` would find the script itself.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

from sft.cli.main import main  # noqa: E402

if __name__ == "__main__":
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--config", default="default_train_config.yaml")
    args, rest = parser.parse_known_args()
    if "-h" in rest or "--help" in rest:
        print(__doc__)
    sys.exit(main(["train", args.config, *rest]))
