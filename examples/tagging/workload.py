"""The tagging workload: names, places and dates, word by word, in the bundled sentences or in CoNLL files of your own."""

from __future__ import annotations

from pathlib import Path

from conll import read_conll, tagged_batches, tags_of
from tagger import Tagger, tag_loss
from tokenizers import Tokenizer

from benchmarks.metrics import EntityF1
from compress.checkpoint import load_weights, stated
from compress.padded import trim
from compress.workload import Workload
from export.errors import InputError

HERE = Path(__file__).parent
CALIBRATION = 300


def tagging(
    *,
    weights: str,
    train: str | None = None,
    validation: str | None = None,
    test: str | None = None,
    batch_size: int = 8,
) -> Workload:
    """The workload of examples/tagging; relative paths start from the current directory.

    Args:
        weights: folder that train.py wrote.
        train, validation, test: CoNLL files, those that train.py had; the bundled ones by default. The tags are those of
            `train`.
        batch_size: of training.
    """
    given = {"train": train, "validation": validation, "test": test}
    files = {name: HERE / f"{name}.conll" if path is None else Path(path) for name, path in given.items()}
    path, vocabulary = (Path(weights) / name for name in ("tagger.safetensors", "tokenizer.json"))
    for each in (path, vocabulary):
        if not each.is_file():
            raise InputError(
                f"examples/tagging: {each} is missing; make it with: python examples/tagging/train.py --out {weights}; "
                "then name the folder with --set arguments.weights=FOLDER"
            )
    tokenizer = Tokenizer.from_file(str(vocabulary))
    tags = tags_of(read_conll(files["train"]))
    model = Tagger(tokenizer.get_vocab_size(), len(tags))
    load_weights(model, path)
    batches = {
        name: tagged_batches(tokenizer, file, tags, batch_size, shuffle=name == "train") for name, file in files.items()
    }
    return Workload(
        model=model.eval(),
        example_inputs=trim({name: tensor[:2] for name, tensor in batches["train"].inputs.items()}),
        dynamic_axes={name: {0: "batch", 1: "length"} for name in ("input_ids", "attention_mask")},
        train=batches["train"],
        validation=batches["validation"],
        evaluation=batches["test"],
        calibration=batches["train"].without(batches["test"]).spread(CALIBRATION),
        loss=tag_loss,
        metric=EntityF1(tags),
        class_names=tags,
        baseline=stated(path, "test_entity_f1"),
        baseline_tolerance=0.002,
    )
