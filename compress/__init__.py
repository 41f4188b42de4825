"""edge-compress: a trained PyTorch model and a recipe in, measured artifacts for edge devices out.

The names below are imported when they are first used, so that `import compress` and `compress --help` stay quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import export  # noqa: F401 - before any runtime: it keeps them from reporting to their vendors

__version__ = "0.1.0"

if TYPE_CHECKING:
    from benchmarks.metrics import (
        BLEU,
        F1,
        ROUGE,
        Accuracy,
        ChrF,
        EntityF1,
        ErrorRate,
        MeanIoU,
        MeanSquaredError,
        Metric,
        Perplexity,
        TokenAccuracy,
        TopK,
    )
    from benchmarks.preprocessing import ImagePreprocessing, TextPreprocessing
    from benchmarks.report import Report
    from compress.checkpoint import load_weights
    from compress.padded import LengthBatches, trim
    from compress.pipeline import run
    from compress.workload import Batches, TensorBatches, Workload
    from export.errors import CompressError

_PLACES = {
    "Accuracy": "benchmarks.metrics",
    "BLEU": "benchmarks.metrics",
    "Batches": "compress.workload",
    "ChrF": "benchmarks.metrics",
    "CompressError": "export.errors",
    "EntityF1": "benchmarks.metrics",
    "ErrorRate": "benchmarks.metrics",
    "F1": "benchmarks.metrics",
    "ImagePreprocessing": "benchmarks.preprocessing",
    "LengthBatches": "compress.padded",
    "MeanIoU": "benchmarks.metrics",
    "MeanSquaredError": "benchmarks.metrics",
    "Metric": "benchmarks.metrics",
    "Perplexity": "benchmarks.metrics",
    "ROUGE": "benchmarks.metrics",
    "Report": "benchmarks.report",
    "TensorBatches": "compress.workload",
    "TextPreprocessing": "benchmarks.preprocessing",
    "TokenAccuracy": "benchmarks.metrics",
    "TopK": "benchmarks.metrics",
    "Workload": "compress.workload",
    "load_weights": "compress.checkpoint",
    "run": "compress.pipeline",
    "trim": "compress.padded",
}

__all__ = [
    "BLEU",
    "F1",
    "ROUGE",
    "Accuracy",
    "Batches",
    "ChrF",
    "CompressError",
    "EntityF1",
    "ErrorRate",
    "ImagePreprocessing",
    "LengthBatches",
    "MeanIoU",
    "MeanSquaredError",
    "Metric",
    "Perplexity",
    "Report",
    "TensorBatches",
    "TextPreprocessing",
    "TokenAccuracy",
    "TopK",
    "Workload",
    "__version__",
    "load_weights",
    "run",
    "trim",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'compress' has no attribute '{name}'")
