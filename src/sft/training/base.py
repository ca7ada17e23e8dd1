"""What our trainers share over transformers' own: order of rows, rates of tokens, checkpoints without pickles."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer
from transformers import TrainingArguments

from sft.data.collate import TrainingRows
from sft.data.token_batches import RowGroups
from sft.models.adapted import is_adapted
from sft.models.kept_adapters import read_kept, write_kept
from sft.models.quantization import Quantization, write_quantization
from sft.training.adapter_restarts import restart_rate
from sft.training.checkpoints.restoring import RestoringTrainer
from sft.training.gather import gather_weights, read_weights, saved_as_whole
from sft.training.mesh import Mesh, added_later
from sft.training.offload import activations_on_cpu
from sft.training.optimizer import LoraPlusTrainer
from sft.training.order import RowOrder
from sft.training.out_of_memory import RetryingTrainer
from sft.training.pieces import load_pieces, save_pieces
from sft.training.stopping import StopWhenAsked
from sft.training.warm_up import square_warm_up
from sft.training.window_order import WindowOrder, require_end
from sft.training.window_rows import WindowRows

SCHEDULER = "scheduler.pt"
"""Where transformers keeps the state of the learning rate."""


class RunTrainer(RetryingTrainer, RestoringTrainer, LoraPlusTrainer):
    """A Trainer that a run can be assembled around; what is learned, and from what, is its subclasses' own."""

    order: RowOrder
    throughput: Throughput
    quantization: Quantization | None = None
    """How the base under an adapter is held."""
    offload_activations: bool = False
    """Keep in the CPU's memory what the backward pass needs."""
    warmup_shape: str = "linear"
    """How the learning rate rises."""
    rate_restarts: dict[str, int] | None = None
    """Where the learning rate begins anew: every, warm_up, anneal."""
    mesh = Mesh()
    """What processes share."""
    stopper: StopWhenAsked | None = None
    """Hears the signals that ask for a stop."""

    def __init__(self, *, args: TrainingArguments, **kwargs: Any) -> None:
        only_model = args.save_only_model
        args.save_only_model |= self.mesh.is_by_library  # transformers keeps no optimizer state of such models; we do
        super().__init__(args=args, **kwargs)
        args.save_only_model = only_model
        if self.mesh.tensor > 1:
            self.accelerator.gradient_state.plugin_kwargs["sync_each_batch"] = True  # see added_later

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train to the end.

        Raises:
            TrainingStopped: a signal asked for an earlier one, and everything is saved.
            DataError: rows that come while training runs cannot be used (``window_order.require_end``).
        """
        if isinstance(self.order, WindowOrder) and self.args.world_size == 1:
            self.order.stream.is_given_up = lambda: self.stopper is not None and self.stopper.asked is not None
        try:
            made = super().train(*args, **kwargs)
        finally:
            if self.stopper is not None:
                self.stopper.restore()
        if self.stopper is not None:
            self.finish_saving()
            self.stopper.require_end(self.state)
        if isinstance(self.order, WindowOrder):
            self.finish_saving()
            require_end(self.order, self.state)
        return made

    def restore(self, checkpoint: Path) -> None:
        """Take the history of a checkpoint, and its weights or those of the best one, without training on."""
        model, folder = self.accelerator.unwrap_model(self.model), self.take_history(checkpoint)
        read_weights(model, folder)
        read_kept(model, folder)

    def catch_up(self) -> None:
        """Where no step is left: what callbacks still have to do of the last one."""
        self.state.is_world_process_zero = self.is_world_process_zero()
        for one in self.callback_handler.callbacks:
            if hasattr(one, "catch_up"):
                one.catch_up(self.args, self.state)

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> Any:
        """The schedule that the arguments ask for, with the beginning that the options ask for."""
        is_new = self.lr_scheduler is None
        schedule = super().create_scheduler(num_training_steps, optimizer)
        if is_new and self.warmup_shape == "quadratic":
            steps = self.args.get_warmup_steps(num_training_steps)
            square_warm_up(schedule, steps, name=str(self.args.lr_scheduler_type.value))
        if is_new and self.rate_restarts is not None:
            restart_rate(schedule, **self.rate_restarts, name=str(self.args.lr_scheduler_type.value))
        return schedule

    def compute_loss_context_manager(self) -> Any:
        """Where a loss is made: in the precision of the run, with activations kept where they are asked to be."""
        found = super().compute_loss_context_manager()
        if not self.offload_activations:
            return found
        stack = ExitStack()
        stack.enter_context(found)
        stack.enter_context(activations_on_cpu())
        return stack

    def _get_train_sampler(self, train_dataset: Any = None) -> RowOrder:
        return self.order

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add tokens, and tokens per second, to what every tracker gets with the training loss."""
        if "loss" in logs:
            logs.update(self.throughput.since_last(self.accelerator.num_processes // self.mesh.tensor))
        super().log(logs, start_time)

    def _sum_over_processes(self, value: float) -> float:
        if self.args.world_size == 1:
            return value
        here = torch.tensor(value, dtype=torch.float64, device=self.args.device)
        return float(self.accelerator.reduce(here, reduction="sum")) / self.mesh.tensor  # which count the same rows

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the weights; what is shared out over the processes is gathered as at the end of the run."""
        weights = gather_weights(self) if self._gathers_checkpoints() else None
        if weights is None:
            super().save_model(output_dir, _internal_call)
        else:
            self._save(output_dir, state_dict=weights)

    def _gathers_checkpoints(self) -> bool:
        """FSDP can be told to leave the weights of checkpoints in shards."""
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        return plugin is None or "SHARDED" not in str(plugin.state_dict_type)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Weights as safetensors, and the tokenizer. No pickled arguments: they can hold tokens and run code."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        # rows of added tokens are in the adapter; PEFT would write all of the embedding beside them
        only_adapter: dict[str, Any] = {}
        if is_adapted(model):  # and not the copy that stage dpo may compare it with
            only_adapter = {"save_embedding_layers": False, "selected_adapters": list(model.active_adapters)}
        with saved_as_whole(model):
            model.save_pretrained(folder, state_dict=state_dict, **only_adapter)
        write_kept(model, folder)
        self.processing_class.save_pretrained(folder)
        if self.quantization is not None:
            write_quantization(folder, self.quantization)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        if self.mesh.tensor == 1:
            alone: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
            return alone
        with added_later(self.model):
            loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        return loss

    def create_optimizer(self, model: Any = None) -> Any:
        """Without groups that hold no weight, which pieces of a checkpoint cannot describe."""
        made = super().create_optimizer(model)
        if self.mesh.is_by_library:
            made.param_groups[:] = [group for group in made.param_groups if group["params"]]
        return made

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.mesh.is_by_library:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        save_pieces(self.model, self.optimizer, Path(output_dir))
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir, SCHEDULER))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self.mesh.is_by_library:  # then weights come with the optimizer's state
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            read_kept(self.accelerator.unwrap_model(self.model), Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not self.mesh.is_by_library:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        load_pieces(self.model, self.optimizer, Path(checkpoint))
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint, SCHEDULER), weights_only=True))


class Throughput:
    """Counts tokens between two logged steps. Waiting between steps is part of their time, as a user feels it.

    What comes before the first step, such as evaluating the untrained model, is not.
    """

    def __init__(self) -> None:
        self._tokens = 0
        self._trained: float | torch.Tensor = 0.0
        self._since: float | None = None

    def add(self, tokens: int, trained: float | torch.Tensor) -> None:
        """Count a step: tokens of this process (padding not counted), trained tokens of all processes."""
        if self._since is None:
            self._since = time.perf_counter()
        self._tokens += tokens
        self._trained = self._trained + trained

    def since_last(self, num_processes: int) -> dict[str, float]:
        """Tokens and rates since the last call. Other processes are taken to have had as many tokens as this one."""
        now = time.perf_counter()
        seconds = max(now - (self._since or now), 1e-9)
        tokens, trained = self._tokens * num_processes, float(self._trained)
        counts = {
            "tokens": tokens,
            "trained_tokens": round(trained),
            "tokens_per_second": round(tokens / seconds, 1),
            "trained_tokens_per_second": round(trained / seconds, 1),
        }
        self._tokens, self._trained, self._since = 0, 0.0, now
        return counts


def window_order(args: TrainingArguments, rows: WindowRows, *, mesh: Mesh | None = None) -> WindowOrder:
    """The order of rows that come window by window, by ``data_seed`` (or ``seed``)."""
    groups = args.world_size if mesh is None else mesh.row_groups
    return WindowOrder(
        rows,
        per_step=args.train_batch_size * groups * args.gradient_accumulation_steps,
        seed=args.seed if args.data_seed is None else args.data_seed,
        shuffle=args.train_sampling_strategy != "sequential",
        batch_size=args.train_batch_size,
        copies=1 if mesh is None else mesh.context,
    )


def train_order(
    args: TrainingArguments, rows: TrainingRows | RowGroups, *, filled: bool = True, mesh: Mesh | None = None
) -> RowOrder:
    """Shuffled by ``data_seed`` (or ``seed``) and epoch, the longest row first; or as the data has them.

    ``filled``: empty rows fill the last step of an epoch up, where several processes would get unequal numbers.
    """
    shuffled = args.train_sampling_strategy != "sequential"
    return RowOrder(
        len(rows),
        seed=args.seed if args.data_seed is None else args.data_seed,
        shuffle=shuffled,
        multiple=rows_per_forward(args, mesh, training=True) if filled else 1,
        first=int(rows.lengths.argmax()) if shuffled else None,
        batch_size=args.train_batch_size,
        copies=1 if mesh is None else mesh.context,
    )


def rows_per_forward(args: TrainingArguments, mesh: Mesh | None, *, training: bool) -> int:
    """Rows that all processes together take in one forward pass; 1 in a single process, where rows need not divide."""
    batch_size: int = args.train_batch_size if training else args.eval_batch_size
    groups = args.world_size if mesh is None else mesh.row_groups
    return batch_size * groups if args.world_size > 1 else 1
