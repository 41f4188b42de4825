"""The SST-2 workloads: a fine-tuned MiniLM-L6, or a bidirectional LSTM, tells praise from blame in film reviews."""

from __future__ import annotations

from pathlib import Path

import lstm as lstm_network
import minilm
from sentences import LONGEST, load_tokenizer, read_batches
from torch import nn
from torch.nn import functional

from benchmarks.metrics import Accuracy
from benchmarks.preprocessing import TextPreprocessing
from compress.checkpoint import load_weights, stated
from compress.padded import encode
from compress.workload import Workload
from export.errors import InputError

CALIBRATION = 512


def sst2(*, data: str, weights: str, batch_size: int = 32) -> Workload:
    """MiniLM-L6; relative paths start from the current directory.

    Args:
        data: folder with train.tsv, dev.tsv and test.tsv.
        weights: checkpoint written by train.py.
        batch_size: of training.
    """
    return _workload(minilm.minilm(), "minilm", data, weights, batch_size)


def lstm(*, data: str, weights: str, batch_size: int = 32) -> Workload:
    """The same task for the bidirectional LSTM, whose weights `train.py --network lstm` makes; arguments as above."""
    return _workload(lstm_network.lstm(), "lstm", data, weights, batch_size)


def _workload(model: nn.Module, network: str, data: str, weights: str, batch_size: int) -> Workload:
    path = _existing(Path(weights), network)
    load_weights(model, path)
    vocabulary = minilm.package_folder() / "tokenizer.json"
    tokenizer = load_tokenizer(vocabulary)
    train = read_batches(Path(data), "train", tokenizer, batch_size, shuffle=True)
    return Workload(
        model=model.eval(),
        example_inputs=encode(tokenizer, ("a gripping , funny film .", "dull from start to finish"), LONGEST),
        dynamic_axes={name: {0: "batch", 1: "length"} for name in ("input_ids", "attention_mask")},
        train=train,
        validation=read_batches(Path(data), "dev", tokenizer, batch_size),
        evaluation=read_batches(Path(data), "test", tokenizer, batch_size),
        calibration=train.spread(CALIBRATION),
        loss=functional.cross_entropy,
        metric=Accuracy(),
        class_names=("negative", "positive"),
        baseline=stated(path, "test_accuracy"),
        baseline_tolerance=0.002,
        preprocessing=TextPreprocessing(str(vocabulary), longest=LONGEST),
    )


def _existing(weights: Path, network: str) -> Path:
    if not weights.is_file():
        how = "" if network == "minilm" else f" --network {network}"
        raise InputError(
            f"examples/sst2: {weights} is missing; it must be a network that train.py trained. Make it with: "
            f"python examples/sst2/train.py --data FOLDER --out {weights}{how}; then name it with "
            "--set arguments.weights=FILE"
        )
    return weights
