"""Fine-tune a Qwen model: ``python train_sft.py --data_path rows.json``, or with ``torchrun --nproc_per_node=N``.

--data_path PATH         training data: JSON, JSONL, a folder, or a data set on the Hugging Face hub
--eval_data_path PATH    held-out data; the checkpoint of the lowest evaluation loss is kept
--no_eval                do not evaluate
--no_chat_template       plain 'Instruction: / Response:' text
--warmup_ratio NUMBER    share of all steps over which the learning rate rises; default 0.03
--report_to NAME ...     trackers; default wandb where it is installed and logged in
--key value ...          any option of `sft train`, which follow
"""

import sys

from sft.cli.main import main

if __name__ == "__main__":
    if "-h" in sys.argv or "--help" in sys.argv:
        print(__doc__)
    sys.exit(main(["train", "--dialect", "qwen3_args", *sys.argv[1:]]))
