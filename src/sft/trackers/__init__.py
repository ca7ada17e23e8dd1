"""Trackers: TensorBoard, W&B, MLflow and Trackio, each told the same of a run, and none able to stop it."""
