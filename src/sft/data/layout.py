"""Names in a folder of prepared data, which has a folder for each part of it: train and eval."""

TRAIN, EVAL = "train", "eval"

REPORT = "report.json"
"""What became of the rows of a part; there as soon as the part is complete."""

DOCUMENTS = "documents"
"""Stage pretrain, until blocks are cut from them."""

IN_FULL = "in_full"
"""Marks a folder whose rows are rendered one by one, because shapes could not be trusted."""
