"""The workload of a small translator, English to German, judged by what it writes."""

from __future__ import annotations

from pathlib import Path

from pairs import (
    END,
    LONGEST,
    PADDING,
    START,
    Decode,
    calibration_pairs,
    load_tokenizer,
    pair_batches,
    prompts,
    read_split,
)
from safetensors import safe_open
from translator import loss, network, writing

from benchmarks.metrics import BLEU, ROUGE, Perplexity
from benchmarks.preprocessing import TextPreprocessing
from compress.checkpoint import load_weights
from compress.workload import Workload
from export.errors import InputError

CALIBRATION = 256


def translation(*, data: str, weights: str, metric: str = "bleu", batch_size: int = 64) -> Workload:
    """The workload of examples/multi30k; relative paths start from the current directory.

    Args:
        data: folder with the gzipped sentence pairs.
        weights: checkpoint written by train.py; its tokenizer lies beside it. It says which network it is of.
        metric: bleu or rougeL, of the text that is written.
        batch_size: of training.
    """
    path = Path(weights)
    if not path.is_file():
        raise InputError(
            f"examples/multi30k: {path} is missing; make it with: python examples/multi30k/train.py --data FOLDER --out {path}; "
            "then name it with --set arguments.weights=FILE"
        )
    if metric not in ("bleu", "rougeL"):
        raise InputError(f"examples/multi30k: metric must be bleu or rougeL, found {metric!r}")
    with safe_open(path, framework="pt") as file:
        stated = file.metadata() or {}
    spelled = path.with_name(f"{path.stem}-tokenizer.json")
    tokenizer = load_tokenizer(spelled)
    padding, end, start = (tokenizer.token_to_id(token) for token in (PADDING, END, START))
    model = network(stated.get("network", "transformer"), tokenizer.get_vocab_size(), padding, end, start)  # type: ignore[arg-type]
    load_weights(model, path)
    splits = {name: read_split(Path(data), name) for name in ("train", "val", "test_2016_flickr")}
    val, test = splits["val"], splits["test_2016_flickr"]
    references, decode = (*val.target, *test.target), Decode(tokenizer)
    judge = BLEU(references, decode) if metric == "bleu" else ROUGE(references, decode)
    pairs = pair_batches(tokenizer, splits["train"], batch_size)
    example, _ = pairs.batch([0, 1])
    axes = {name: {0: "batch", 1: "length"} for name in ("input_ids", "attention_mask")}
    return Workload(
        model=model.eval(),
        example_inputs=example,
        dynamic_axes=axes | {"decoder_input_ids": {0: "batch", 1: "answer"}},
        train=pair_batches(tokenizer, splits["train"], batch_size, shuffle=True),
        validation=pair_batches(tokenizer, val, batch_size),
        evaluation=pair_batches(tokenizer, test, batch_size),
        calibration=calibration_pairs(pairs, CALIBRATION),
        loss=loss,
        metric=Perplexity(),
        baseline=float(stated["test_bleu"]) if metric == "bleu" and "test_bleu" in stated else None,
        baseline_tolerance=0.05,
        preprocessing=TextPreprocessing(str(spelled), longest=LONGEST, end=end),
        writing=writing(
            padding,
            end,
            start,
            metric=judge,
            validation=prompts(tokenizer, val, 0),
            evaluation=prompts(tokenizer, test, len(val.target)),
        ),
    )
