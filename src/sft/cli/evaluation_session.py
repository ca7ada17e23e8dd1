"""One evaluation of one model: loaded here or served elsewhere, asked, scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sft.cli.loaded_model import load_for_use, load_tokenizer_for_use, on_usual_device
from sft.evaluation.engines import EngineChoice, open_server, visible_gpus
from sft.evaluation.files import result_stem
from sft.evaluation.progress import ProgressDisplay
from sft.evaluation.prompting import PromptWriter
from sft.evaluation.run import evaluate_tasks
from sft.export.adapter import read_adapter
from sft.export.fit import read_base_config
from sft.export.merge import merge_adapter
from sft.generation import Engine
from sft.generation.adapter_folder import LoraShape, read_lora_shape
from sft.generation.in_process import InProcessEngine, context_of
from sft.generation.launch import LaunchOptions
from sft.generation.probe import make_probe
from sft.generation.proof import Probe
from sft.generation.stop_tokens import own_stop_tokens
from sft.models.tokenizer import choose_template
from sft.tasks import Task
from sft.tasks.task import Results


@dataclass(frozen=True, kw_only=True)
class ModelEvaluation:
    """What is measured, and how it is asked."""

    base: str
    """Folder or hub name."""

    adapter: str | None
    tasks: Sequence[Task]
    choice: EngineChoice
    samples: int | None = None
    folder: Path | None = None
    max_prompt_tokens: int | None = None
    chat_template: str | None = None
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "auto"
    bits: int | None = None
    """4 or 8: hold the base in as many, in this process."""
    trust_remote_code: bool = False

    def run(self) -> dict[str, Results]:
        """Results by task; files too, where there is a folder for them."""
        return self.run_served() if self.choice.is_served else self.run_here()

    def run_here(self) -> dict[str, Results]:
        """With the model in this process, on the GPU where there is one."""
        model, tokenizer = self.load()
        self.decide_template(tokenizer)
        model = on_usual_device(model)
        prompts = PromptWriter(tokenizer, self.template_kwargs, self.max_prompt_tokens, context_of(model))
        return self.ask(InProcessEngine(model, tokenizer), prompts)

    def run_served(self) -> dict[str, Results]:
        """With a server. The adapter is also loaded here, to know what the server must say."""
        tokenizer = load_tokenizer_for_use(self.base, self.adapter, trust_remote_code=self.trust_remote_code)
        self.decide_template(tokenizer)
        probe, stops = (None, ()) if self.adapter is None else self.probe(tokenizer)
        path = None if self.adapter is None else read_adapter(self.adapter).path
        options = self.launch_options(None if path is None else read_lora_shape(path))
        config = read_base_config(self.base, trust_remote_code=self.trust_remote_code).get_text_config()
        with open_server(self.choice, self.base, tokenizer, options, make_merged=self.merge) as engine:
            engine.use(path, probe)
            context = engine.context(getattr(config, "max_position_embeddings", None))
            prompts = PromptWriter(
                tokenizer, self.template_kwargs, self.max_prompt_tokens, context, stop_token_ids=stops
            )
            return self.ask(engine, prompts)

    def ask(self, engine: Engine, prompts: PromptWriter) -> dict[str, Results]:
        """Ask all tasks and write what comes."""
        named = self.base if self.adapter is None else f"{self.base}_{Path(self.adapter).name}"
        display = ProgressDisplay()
        try:
            return evaluate_tasks(
                self.tasks,
                engine,
                prompts,
                samples=self.samples,
                folder=self.folder,
                stem=result_stem(named),
                on_progress=display,
                facts={"model_name": self.base, "adapter": self.adapter},
            )
        finally:
            display.close()

    def load(self) -> tuple[Any, Any]:
        """Model and tokenizer on the CPU."""
        return load_for_use(
            self.base, self.adapter, dtype=self.dtype, bits=self.bits, trust_remote_code=self.trust_remote_code
        )

    def decide_template(self, tokenizer: Any) -> None:
        """The one asked for, else the tokenizer's own, else the one that training would take for it."""
        if self.chat_template is not None or tokenizer.chat_template is None:
            choose_template(tokenizer, self.chat_template)

    def probe(self, tokenizer: Any) -> tuple[Probe, tuple[int, ...]]:
        """What the adapter says and the base model does not; and the tokens that end the adapter's answers."""
        model, _ = self.load()
        return make_probe(model, tokenizer), own_stop_tokens(model, tokenizer)

    def launch_options(self, lora: LoraShape | None) -> LaunchOptions:
        """How a server of ours is started."""
        log_file = None if self.folder is None else self.folder / "server.log"
        return LaunchOptions(gpus=visible_gpus(), dtype=self.dtype, lora=lora, log_file=log_file)

    def merge(self, adapter: Path, output: Path) -> None:
        """A merged model for a server that cannot load the adapter."""
        merge_adapter(
            base_model=self.base, adapter_path=adapter, output_path=output, trust_remote_code=self.trust_remote_code
        )
