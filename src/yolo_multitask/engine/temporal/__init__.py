"""Training, validation, prediction and tracking of models that see several consecutive frames at once."""

from yolo_multitask.engine.temporal.predictor import TemporalPredictor
from yolo_multitask.engine.temporal.trainer import TemporalTrainer
from yolo_multitask.engine.temporal.validator import TemporalValidator

__all__ = ["TemporalPredictor", "TemporalTrainer", "TemporalValidator"]
