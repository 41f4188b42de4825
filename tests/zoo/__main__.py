"""`python -m tests.zoo [TYPE ...]`: each pruned to seven eighths of its MACs, quantized and run on both CPU targets.

One line a model: what ships on each target, or the sentence that it ended with.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import compress
from compress.ready.model_folder import AUTO
from export.errors import CompressError
from tests.zoo import readers, sounds
from tests.zoo.models import MODELS, Configuration

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = [f"w{number}" for number in range(50)]
SPLITS = {"train": 96, "validation": 32, "test": 32}
DATA = {
    "sequence-classification": "classes",
    "token-classification": "tags",
    "masked-lm": "text",
    "causal-lm": "text",
    "seq2seq": "pairs",
}
READING = "reading"
"""The task of what writes of pictures or sound."""
REST = """
steps:
  - prune: {macs_ratio: 1.15, multiple_of: 1}
  - quantize: {calibration_samples: 16}
targets: [openvino, onnxruntime_mobile]
"""
BENCHMARK = "batch_sizes: [1], seconds: 0.2, processes: 1, half_width: 0.9, throughput: false"


def main() -> None:
    parser = argparse.ArgumentParser(description="Take tiny models of transformers through whole runs.")
    parser.add_argument("types", nargs="*", help="transformers' names of types; all that are known if left out")
    parser.add_argument("--task", choices=[*MODELS, READING])
    options = parser.parse_args()
    tasks = [options.task] if options.task else [*MODELS, READING]
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        _write_data(Path(folder))
        for task in tasks:
            for kind in readers.NETWORKS if task == READING else MODELS[task]:
                if not options.types or kind in options.types:
                    print(f"{task} {kind}: {_outcome(task, kind, Path(folder))}", flush=True)


def _outcome(task: str, kind: str, folder: Path) -> str:
    start = time.monotonic()
    try:
        if task == READING:
            recipe = _written(folder / f"{kind}.yaml", f"{readers.__file__}:reading", {"network": kind}, "")
        else:
            recipe = _recipe(task, _made(task, kind, MODELS[task][kind], folder / f"{task}-{kind}"), folder)
        report = compress.run(recipe, folder / "run" / task / kind)
        told = ", ".join(f"{verdict.target} ships {verdict.scheme}" for verdict in report.verdicts)
    except CompressError as error:
        told = f"{type(error).__name__}: {error}"
    except Exception as error:  # what a user would meet as a traceback is what this looks for
        told = f"FAULT {type(error).__name__}: {error}"
    return f"{told} ({time.monotonic() - start:.0f} s)"


def _made(task: str, kind: str, configuration: Configuration, folder: Path) -> Path:
    """The folder of a model with random weights and a tokenizer of whole words."""
    torch.manual_seed(0)
    labels: dict[str, Any] = {}
    if task == "token-classification":
        labels = {"id2label": {0: "B-X", 1: "O"}, "label2id": {"B-X": 0, "O": 1}}
    elif task.endswith("classification"):
        labels = {"num_labels": 2}
    config = transformers.CONFIG_MAPPING[kind](**configuration, **labels)
    # transformers knows two classes for DeiT, and from a bare configuration takes neither.
    network = (
        transformers.DeiTForImageClassification(config)
        if kind == "deit"
        else getattr(transformers, AUTO.get(task, "AutoModelForAudioClassification")).from_config(config)
    )
    network.save_pretrained(folder)
    if task not in ("image-classification", "audio-classification"):
        words = Tokenizer(models.WordLevel({word: id for id, word in enumerate([*SPECIAL, *WORDS])}, unk_token="[UNK]"))
        words.pre_tokenizer = pre_tokenizers.Whitespace()
        words.add_special_tokens(list(SPECIAL))
        if task not in ("causal-lm", "seq2seq"):
            words.post_processor = processors.TemplateProcessing(
                single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
            )
        words.save(str(folder / "tokenizer.json"))
    return folder


def _recipe(task: str, model: Path, folder: Path) -> Path:
    arguments: dict[str, str] = {}
    if task == "image-classification":
        size = json.loads((model / "config.json").read_text()).get("image_size") or 64
        pixels = {
            "size": size if isinstance(size, int) else size[0],
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
            "batch_size": 8,
        }
        workload, sizes = {"image_folder": {"root": str(folder / "images"), "model": str(model), **pixels}}, ""
    elif task == "audio-classification":
        workload, arguments = f"{sounds.__file__}:sounds", {"model": str(model)}
        sizes = f", sizes: {{length: {sounds.LENGTH}}}" if sounds.is_free(model) else ""
    else:
        options = {
            "path": str(model),
            "task": task,
            "data": str(folder / DATA[task]),
            "max_length": 24,
            "batch_size": 8,
        }
        written = {"new_tokens": 8} if task in ("causal-lm", "seq2seq") else {}
        workload, sizes = {"huggingface": {**options, **written}}, ", sizes: {length: 8}"
    return _written(folder / f"{model.name}.yaml", workload, arguments, sizes)


def _written(path: Path, workload: object, arguments: dict[str, str], sizes: str) -> Path:
    text = (
        f"name: {path.stem}\nworkload: {json.dumps(workload)}\narguments: {json.dumps(arguments)}{REST}"
        f"benchmark: {{{BENCHMARK}{sizes}}}\n"
    )
    path.write_text(text + "budget: {metric_drop_percent: 90}\n")
    return path


def _write_data(folder: Path) -> None:
    """Sentences of made-up words, with a class, a tag a word, or the same words backwards; and noise for pictures."""
    drawn, noise = random.Random(0), np.random.default_rng(0)
    for split, samples in SPLITS.items():
        texts = [[drawn.choice(WORDS) for _ in range(drawn.randint(4, 12))] for _ in range(samples)]
        joined = [" ".join(words) for words in texts]
        classes = ["text\tlabel", *(f"{text}\t{number % 2}" for number, text in enumerate(joined))]
        pairs = [
            "source\ttarget",
            *(f"{text}\t{' '.join(words[::-1])}" for text, words in zip(joined, texts, strict=True)),
        ]
        tags = [
            f"{word}\t{'B-X' if int(word[1:]) % 5 == 0 else 'O'}" if word else ""
            for words in texts
            for word in [*words, ""]
        ]
        _write(folder / "classes" / f"{split}.tsv", classes)
        _write(folder / "pairs" / f"{split}.tsv", pairs)
        _write(folder / "tags" / f"{split}.conll", tags)
        _write(folder / "text" / f"{split}.txt", [" ".join(drawn.choices(WORDS, k=12)) for _ in range(3 * samples)])
        for number in range(samples // 2):
            place = folder / "images" / split / "ab"[number % 2] / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(place)


def _write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
