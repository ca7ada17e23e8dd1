"""Files of a run folder that the page is made of. The parts of a run that write them need torch, the page does not."""

from __future__ import annotations

import re

PAGE = "report.html"
RECORD = "run.json"
METRICS = "metrics.jsonl"
INCIDENTS = "incidents.jsonl"
SUMMARY = "data_summary.json"
"""Of the data: lengths, sources and a few examples."""
QUESTIONS = "eval_questions.jsonl"
"""What the evaluations of a run ask, once for all steps."""

BEST = ("best_adapter", "best_model")
"""Folders of the best evaluated model."""

CHECKPOINT = re.compile(r"checkpoint-(\d+)")
MANIFEST = "manifest.json"
STEP_FOLDER = "eval_step_{step}"
OWN_ANSWERS_FOLDER = "gen_results"
OWN_ANSWERS = re.compile(r"gen_step_(\d+)\.json")
"""Answers to ``gen_questions_file``."""
