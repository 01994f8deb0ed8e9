"""One pretrained encoder, any number of named classification heads, trained with the Hugging Face Trainer.

`import multihead_hf` is lazy: each name loads its module on first use, so that a model alone imports neither datasets
nor accelerate, and the command line answers before torch is loaded. `AutoModel` and `pipeline` of transformers can load
multi-head models as soon as a name from `multihead_hf.model` has been used, or `multihead_hf.model` is imported.
"""

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .data.collator import MultiHeadDataCollator
    from .data.encoding import prepare_dataset
    from .data.heads import infer_heads
    from .data.inspection import DatasetReport, inspect_dataset
    from .data.mixing import mix_datasets
    from .data.sources import read_dataset
    from .data.splits import SplitReport, split_report, stratified_split
    from .evaluation.baseline import BaselineReport, linear_baseline
    from .evaluation.comparison import ComparisonReport, IntervalReport, compare, confidence_intervals
    from .evaluation.metric import MultiHeadMetric
    from .evaluation.report import EvaluationReport
    from .evaluation.report_files import write_report
    from .evaluation.threshold_tuning import CalibrationReport, ThresholdReport, calibrate, tune_thresholds
    from .explanation.explain import Explanation, WordScore, explain
    from .explanation.probabilities import predict_proba
    from .model.configuration_multihead import MultiHeadConfig
    from .model.decoding_multihead import HeadPrediction
    from .model.head_multihead import HeadConfig
    from .model.losses_multihead import AdditiveTerm, RatioTerm, register_loss
    from .model.modeling_multihead import MultiHeadModel, MultiHeadOutput
    from .model.pipeline_multihead import MultiHeadPipeline
    from .model.reading_multihead import LabelReading
    from .prediction.files import predict_files
    from .prediction.predictor import MultiHeadPredictor
    from .prediction.results import MultiHeadPredictions, PredictionReport
    from .publishing.export import export_model
    from .publishing.export_parity import ExportReport
    from .training.arguments import MultiHeadTrainingArguments
    from .training.gradients import GradientCosineCallback
    from .training.run import TrainingReport, train_from_config
    from .training.trainer import MultiHeadTrainer

try:
    __version__ = version("multihead-hf")  # stated once, in pyproject.toml
except PackageNotFoundError:  # the folder without an installation
    __version__ = "0+unknown"

# public name → its module; the command line reads help texts from its source without importing it
_LAZY = {
    "MultiHeadDataCollator": "data.collator",
    "prepare_dataset": "data.encoding",
    "infer_heads": "data.heads",
    "inspect_dataset": "data.inspection",
    "mix_datasets": "data.mixing",
    "read_dataset": "data.sources",
    "split_report": "data.splits",
    "stratified_split": "data.splits",
    "BaselineReport": "evaluation.baseline",
    "linear_baseline": "evaluation.baseline",
    "MultiHeadMetric": "evaluation.metric",
    "MultiHeadPredictions": "prediction.results",
    "MultiHeadPredictor": "prediction.predictor",
    "predict_files": "prediction.files",
    "Explanation": "explanation.explain",
    "WordScore": "explanation.explain",
    "explain": "explanation.explain",
    "predict_proba": "explanation.probabilities",
    "MultiHeadConfig": "model.configuration_multihead",
    "HeadPrediction": "model.decoding_multihead",
    "HeadConfig": "model.head_multihead",
    "LabelReading": "model.reading_multihead",
    "AdditiveTerm": "model.losses_multihead",
    "RatioTerm": "model.losses_multihead",
    "register_loss": "model.losses_multihead",
    "MultiHeadModel": "model.modeling_multihead",
    "MultiHeadOutput": "model.modeling_multihead",
    "MultiHeadPipeline": "model.pipeline_multihead",
    "ExportReport": "publishing.export_parity",
    "export_model": "publishing.export",
    "MultiHeadTrainingArguments": "training.arguments",
    "MultiHeadTrainer": "training.trainer",
    "GradientCosineCallback": "training.gradients",
    "compare": "evaluation.comparison",
    "confidence_intervals": "evaluation.comparison",
    "calibrate": "evaluation.threshold_tuning",
    "tune_thresholds": "evaluation.threshold_tuning",
    "train_from_config": "training.run",
    "write_report": "evaluation.report_files",
    "DatasetReport": "data.inspection",
    "SplitReport": "data.splits",
    "ComparisonReport": "evaluation.comparison",
    "IntervalReport": "evaluation.comparison",
    "EvaluationReport": "evaluation.report",
    "CalibrationReport": "evaluation.threshold_tuning",
    "ThresholdReport": "evaluation.threshold_tuning",
    "PredictionReport": "prediction.results",
    "TrainingReport": "training.run",
}

__all__ = [
    "AdditiveTerm",
    "BaselineReport",
    "CalibrationReport",
    "ComparisonReport",
    "DatasetReport",
    "EvaluationReport",
    "Explanation",
    "ExportReport",
    "GradientCosineCallback",
    "HeadConfig",
    "HeadPrediction",
    "IntervalReport",
    "LabelReading",
    "MultiHeadConfig",
    "MultiHeadDataCollator",
    "MultiHeadMetric",
    "MultiHeadModel",
    "MultiHeadOutput",
    "MultiHeadPipeline",
    "MultiHeadPredictions",
    "MultiHeadPredictor",
    "MultiHeadTrainer",
    "MultiHeadTrainingArguments",
    "PredictionReport",
    "RatioTerm",
    "SplitReport",
    "ThresholdReport",
    "TrainingReport",
    "WordScore",
    "calibrate",
    "compare",
    "confidence_intervals",
    "explain",
    "export_model",
    "infer_heads",
    "inspect_dataset",
    "linear_baseline",
    "mix_datasets",
    "predict_files",
    "predict_proba",
    "prepare_dataset",
    "read_dataset",
    "register_loss",
    "split_report",
    "stratified_split",
    "train_from_config",
    "tune_thresholds",
    "write_report",
]


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
