"""What a config says of evaluation by generation -> the callback that does it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers.integrations import is_deepspeed_zero3_enabled

from sft.config import SFTConfig
from sft.errors import ConfigError, UserError
from sft.evaluation.engines import EngineChoice, ServedModel, open_server, visible_gpus
from sft.evaluation.files import result_stem
from sft.evaluation.progress import ProgressDisplay
from sft.evaluation.prompting import PromptWriter
from sft.evaluation.questions import write_questions
from sft.evaluation.run import evaluate_tasks
from sft.evaluation.sharing import Ranks
from sft.evaluation.table import compare_table
from sft.export.merge import merge_adapter
from sft.generation.adapter_folder import LoraShape
from sft.generation.in_process import InProcessEngine, context_of
from sft.generation.launch import LaunchOptions
from sft.generation.probe import make_probe
from sft.models.residual import saved_width
from sft.tasks import Task
from sft.tasks.combined import CombinedWeights
from sft.tasks.task import Results
from sft.training.base import RunTrainer
from sft.training.evaluation_callback import EvaluationPlan, GenerationEvaluation
from sft.training.incidents import EVALUATION_FAILED
from sft.training.launch import announce, is_main_process, warn
from sft.training.save import ModelSaver
from sft.training.task_data import open_eval_tasks

STEP_FOLDER = "eval_step_{step}"
ADAPTER_FOLDER = "adapter_step_{step}"


def build_evaluation(saver: ModelSaver) -> GenerationEvaluation:
    """The callback that measures the model of a run, and keeps the best.

    Raises:
        ConfigError: the engine cannot be used with this run.
    """
    config, trainer = saver.config, saver.trainer
    if config.eval_engine == "in_process" and is_sharded(trainer):
        raise ConfigError(
            "eval_engine in_process with weights that are sharded over the processes (FSDP or ZeRO-3): each process "
            "would have to generate in step with all others. Use eval_engine sglang or vllm, or ZeRO-2 or DDP."
        )
    weights = CombinedWeights(**config.combined_weights)
    report = saver.plan.data.train.report
    measured = MeasuredModel(saver, open_eval_tasks(config), engine_choice(config))
    return GenerationEvaluation(
        evaluate=measured.evaluate,
        save=lambda name: saver.save(name, {}),
        announce=announce,
        on_failure=lambda step, why: tell_failure(trainer, step, why),
        log=trainer.log,
        compare=lambda before, now: compare_table(before, now, weights=weights),
        close=measured.close,
        plan=EvaluationPlan(
            folder=Path(config.output_dir),
            weights=weights,
            partial=config.eval_samples is not None,
            contaminated=report.overlapping.total() if report.contaminated else 0,
        ),
        best_name="best_adapter" if config.use_lora else "best_model",
        every_adapter=config.use_lora,
        stopper=trainer.stopper,
    )


def tell_failure(trainer: RunTrainer, step: int, why: str) -> None:
    """A score that is missing is missed days later: it is said under ``quiet`` too, and stands with the incidents."""
    warn(f"step {step}: the evaluation failed and training goes on: {why}")
    if trainer.guard is not None:
        trainer.guard.incidents.add(EVALUATION_FAILED, step, why=why)


def is_sharded(trainer: RunTrainer) -> bool:
    """Whether no process holds all weights."""
    return bool(trainer.is_fsdp_enabled) or is_deepspeed_zero3_enabled()


def engine_choice(config: SFTConfig) -> EngineChoice:
    """What answers the tasks of a config."""
    return EngineChoice(
        name=config.eval_engine,
        python=config.eval_engine_python,
        url=config.eval_engine_url,
        arguments=tuple(config.eval_engine_args),
    )


@dataclass
class MeasuredModel:
    """The model that is being trained, as evaluation sees it: in this process, or through a server."""

    saver: ModelSaver
    tasks: tuple[Task, ...]
    choice: EngineChoice
    _server: ServedModel | None = field(default=None, init=False)
    _kept_questions: bool = field(default=False, init=False)

    def evaluate(self, step: int) -> dict[str, Results]:
        """Ask and score the model as it is now; called on every process."""
        if not self.choice.is_served:
            model = self._model()
            return self._ask(InProcessEngine(model, self.saver.tokenizer), step, context_of(model), None)
        ranks = Ranks.current()
        return ranks.on_first(lambda: self._ask_server(step))

    def close(self) -> None:
        """End the server, if one was started."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def _ask_server(self, step: int) -> dict[str, Results]:
        """Tell the server of this step's adapter, have it proven which weights answer, then ask."""
        model = self._model()
        server = self._open_server(model)
        root = Path(self.saver.config.output_dir)
        adapter = root / ADAPTER_FOLDER.format(step=step) if step else None
        server.use(adapter, make_probe(model, self.saver.tokenizer))
        return self._ask(server, step, server.context(context_of(model)), Ranks())

    def _open_server(self, model: Any) -> ServedModel:
        if self._server is None:
            config = self.saver.config
            options = LaunchOptions(
                gpus=visible_gpus(),
                lora=lora_shape(model),
                log_file=Path(config.output_dir) / "eval_server.log",
            )
            self._server = open_server(
                self.choice, config.model_name_or_path, self.saver.tokenizer, options, make_merged=self._merge
            )
        return self._server

    def _ask(
        self, engine: InProcessEngine | ServedModel, step: int, context: int | None, ranks: Ranks | None
    ) -> dict[str, Results]:
        config, report = self.saver.config, self.saver.plan.data.train.report
        prompts = PromptWriter(
            self.saver.tokenizer,
            report.generation_kwargs,
            config.eval_max_prompt_tokens,
            context,
            stop_token_ids=report.stop_token_ids,
            allow_special_tokens=config.allow_special_tokens,
        )
        display = ProgressDisplay()
        self._keep_questions()
        try:
            return evaluate_tasks(
                self.tasks,
                engine,
                prompts,
                samples=config.eval_samples,
                folder=Path(config.output_dir) / STEP_FOLDER.format(step=step),
                stem=result_stem(config.model_name_or_path, step),
                on_progress=display,
                facts={"step": step, "model_name": config.model_name_or_path},
                ranks=ranks,
                is_given_up=self._is_asked_to_stop,
            )
        finally:
            display.close()

    def _is_asked_to_stop(self) -> bool:
        stopper = self.saver.trainer.stopper
        return stopper is not None and stopper.is_asked

    def _keep_questions(self) -> None:
        """Write down once what is asked. Where that fails, answers stand without questions; nobody waits for it."""
        config = self.saver.config
        if self._kept_questions or not is_main_process():
            return
        self._kept_questions = True
        try:
            write_questions(Path(config.output_dir), self.tasks, config.eval_samples)
        except (OSError, UserError) as error:
            announce(f"what the tasks ask could not be kept in {config.output_dir}: {error}")

    def _model(self) -> Any:
        return self.saver.trainer.accelerator.unwrap_model(self.saver.trainer.model)

    def _merge(self, adapter: Path, output: Path) -> None:
        config = self.saver.config
        merge_adapter(
            base_model=config.model_name_or_path,
            adapter_path=adapter,
            output_path=output,
            base_revision=config.model_revision,
            trust_remote_code=config.trust_remote_code,
        )


def lora_shape(model: Any) -> LoraShape:
    """The room that saved adapters of this model need in a server."""
    adapter = model.peft_config[model.active_adapter]
    targets = {str(name).rpartition(".")[2] for name in adapter.target_modules}
    return LoraShape(rank=saved_width(adapter), target_modules=tuple(sorted(targets)))
