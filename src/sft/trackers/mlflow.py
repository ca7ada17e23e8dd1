"""MLflow: one run of a tracking server or of a local store, which a resumed run goes on with."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS
from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH, MAX_PARAMS_TAGS_PER_BATCH

from sft.trackers.tracker import Ending, RunFacts, Table, Tracker, not_there_yet

NOT_ALLOWED = re.compile(r"[^0-9A-Za-z_\-. :/]")
"""What no name of a metric may have."""

STATUS: Mapping[Ending, str] = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}

PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
"""A server that does not answer holds a step up for seconds, where MLflow's own settings make it many minutes."""


class MlflowTracker(Tracker):
    """Sends to MLflow by the id of its run, so that nothing else that happens in this process gets into it."""

    name = "mlflow"

    def open(self, facts: RunFacts) -> str:
        for variable, value in PATIENCE.items():
            os.environ.setdefault(variable, value)
        self._client = mlflow.MlflowClient()
        active = mlflow.active_run()
        self._is_own = active is None
        run = active or begin(facts)
        self._id = str(run.info.run_id)
        known = self._client.get_run(self._id).data
        self._last = self._last_steps(list(known.metrics)) if self._id == facts.run_id else {}
        self._add_config(facts, dict(known.params))
        return self._id

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        allowed = {NOT_ALLOWED.sub("_", name): float(value) for name, value in figures.items()}
        new = not_there_yet(allowed, step, self._last)
        if new:
            self._client.log_batch(self._id, metrics=[Metric(name, value, now, step) for name, value in new.items()])

    def add_table(self, step: int, table: Table) -> None:
        """In the form of ``mlflow.log_table``, which would append to a table that is there."""
        path = f"answers/{table.name}/step_{step}.json"
        text = json.dumps({"columns": table.columns, "data": table.rows}, ensure_ascii=False)
        self._client.log_text(self._id, text, path)
        tags = self._client.get_run(self._id).data.tags
        listed = json.loads(tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
        if (entry := {"path": path, "type": "table"}) not in listed:
            self._client.set_tag(self._id, MLFLOW_LOGGED_ARTIFACTS, json.dumps([*listed, entry]))

    def add_page(self, page: Path, step: int) -> None:
        self._client.log_artifact(self._id, str(page))

    def close(self, ending: Ending) -> None:
        if not self._is_own:
            return
        active = mlflow.active_run()
        if active is not None and active.info.run_id == self._id:
            mlflow.end_run(status=STATUS[ending])
        else:
            self._client.set_terminated(self._id, STATUS[ending])

    def _last_steps(self, names: list[str]) -> dict[str, int]:
        """Of each metric of the run that is gone on with. MLflow would keep both values of a step."""
        histories = {name: self._client.get_metric_history(self._id, name) for name in names}
        return {name: max(int(one.step) for one in history) for name, history in histories.items() if history}

    def _add_config(self, facts: RunFacts, known: Mapping[str, str]) -> None:
        """MLflow lets no parameter change: one that has since is told under a name that says from when."""
        values = {name: _short(value) for name, value in facts.config.items()}
        later = f".from_step_{facts.step}"
        new = {name if name not in known else name + later: value for name, value in values.items()
               if known.get(name) != value and known.get(name + later) != value}  # fmt: skip
        params = [Param(name, value) for name, value in new.items()]
        for first in range(0, len(params), MAX_PARAMS_TAGS_PER_BATCH):
            self._client.log_batch(self._id, params=params[first : first + MAX_PARAMS_TAGS_PER_BATCH])
        name = f"config_from_step_{facts.step}.json" if facts.step else "config.json"
        self._client.log_dict(self._id, dict(facts.config), name)


def begin(facts: RunFacts) -> Any:
    """Start or resume a run; where the one to go on with is not in this store, a new one."""
    if (experiment := os.environ.get("MLFLOW_EXPERIMENT_NAME")) is not None:
        mlflow.set_experiment(experiment)
    asked = os.environ.get("MLFLOW_RUN_ID") or facts.run_id
    if asked is not None and is_there(asked):
        return mlflow.start_run(run_id=asked)
    return mlflow.start_run(run_name=facts.name)


def is_there(run_id: str) -> bool:
    """Whether the store knows a run: it may have been deleted, or the store may be another one now."""
    try:
        run = mlflow.MlflowClient().get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return bool(run.info.lifecycle_stage == "active")


def _short(value: Any) -> str:
    """A value as MLflow takes it; a longer one stands in config.json."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_PARAM_VAL_LENGTH else f"{len(text):,} characters: see config.json"
