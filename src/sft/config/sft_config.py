"""All options in one flat, strict, frozen object."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from sft.config.adapter import AdapterOptions
from sft.config.data import DataOptions
from sft.config.evaluation import EvaluationOptions
from sft.config.model import ModelOptions
from sft.config.output import OutputOptions
from sft.config.training import TrainingOptions

SECTIONS = (ModelOptions, DataOptions, AdapterOptions, TrainingOptions, EvaluationOptions, OutputOptions)
