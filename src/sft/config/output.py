"""Where things are written and who is told."""

from __future__ import annotations

from dataclasses import dataclass

from sft.config.option import option

ALSO_WRITTEN = ("trainer_log", "results", "loss_plot", "trainer_state", "arguments", "log")


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """The run folder, checkpoints, logs."""

    output_dir: str = option("./output", "Folder of this run.")
    overwrite_output_dir: bool = option(
        False, "Start anew in an output_dir that holds another run; its checkpoints are removed."
    )
    model_dir: str = option(
        "final_model", "Folder in output_dir for the trained model or adapter. '.': output_dir itself."
    )
    merged_dir: str | None = option(
        None, "Folder in output_dir for the merged model of a LoRA run ('.': output_dir itself). Unset: not merged."
    )
    logging_steps: float = option(10, "Steps between logged metrics: below 1 a share of all steps.", above=0)
    save_strategy: str = option("steps", "When checkpoints are written.", choices=["steps", "epoch", "no"])
    save_steps: float = option(500, "Steps between checkpoints: below 1 a share of all steps.", above=0)
    save_total_limit: int | None = option(3, "Checkpoints kept; the oldest go first. Unset: all.", minimum=1)
    save_in_background: bool | None = option(
        None,
        "Write checkpoints from a copy in memory while training goes on. Unset: where free memory takes two copies.",
    )
    on_failed_save: str = option(
        "continue",
        "What becomes of a run when a checkpoint cannot be written (a full disk): continue, with the ones that are "
        "there, or stop.",
        choices=["continue", "stop"],
    )
    run_name: str | None = option(None, "Name of the run in trackers. Unset: output_dir.")
    report_to: str | list[str] = option(
        "none",
        "Trackers that get the metrics: tensorboard, wandb, mlflow, trackio, ... (any that transformers knows), all or "
        "none.",
    )
    track_texts: bool = option(
        True,
        "Give trackers texts, too: answers of evaluations (100 rows a task) and the page of the run. false: figures "
        "and options only.",
    )
    report_page: bool = option(
        True,
        "Write report.html into output_dir, the page of the run (docs/report.md): while training, and at the end. It "
        "shows a few training examples and the evaluations' answers.",
    )
    also_write: list[str] = option(
        [],
        "Files in output_dir that users of other tools look for: trainer_log (trainer_log.jsonl, a line a logged "
        "step), results (train_results.json, eval_results.json, all_results.json), loss_plot (training_loss.png; needs "
        "matplotlib), trainer_state (trainer_state.json), arguments (train_args.json) and log (train.log, what the run "
        "says).",
    )
    quiet: bool = option(False, "Say nothing but what goes wrong and, at the end, where the result is.")
