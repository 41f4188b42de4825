"""Train a tagger from nothing, on the bundled sentences or on CoNLL files of your own: two minutes of CPU time.

    python examples/tagging/train.py --out tagger
    python examples/tagging/train.py --out tagger --train FILE --validation FILE --test FILE

Writes tagger.safetensors and tokenizer.json into the folder `--out`. Stopped and started again with the same arguments, it goes on where it
was. Nothing is chosen on the test sentences: the weights after the last step are kept.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
from conll import read_conll, tagged_batches, tags_of
from tagger import Tagger, tag_loss

from benchmarks.metrics import EntityF1
from compress.characters import character_tokenizer
from compress.checkpoint import save_weights
from compress.training.fit import Plan, fit, measured

HERE = Path(__file__).parent


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        "tagger", options.epochs, options.learning_rate, options.out / "tagger.resume", options.seed, warmup_epochs=1.0
    )
    train_tagger({name: getattr(options, name) for name in ("train", "validation", "test")}, options.out, plan)


def train_tagger(files: dict[str, Path], out: Path, plan: Plan, batch_size: int = 8) -> Tagger:
    """The tagger of the files "train", "validation" and "test", written into a folder with its tokenizer."""
    sentences = read_conll(files["train"])
    tags = tags_of(sentences)
    tokenizer = character_tokenizer((word for sentence in sentences for word in sentence.words), lowercase=False)
    tokenizer.save(str(out / "tokenizer.json"))
    batches = {
        name: tagged_batches(tokenizer, path, tags, batch_size, shuffle=name == "train") for name, path in files.items()
    }
    model, metric = Tagger(tokenizer.get_vocab_size(), len(tags)), EntityF1(tags)
    fit(model, batches["train"], batches["validation"], tag_loss, metric, plan)
    test = measured(model, batches["test"], metric)
    save_weights(model, out / "tagger.safetensors", {"test_entity_f1": test})
    plan.resume.unlink()
    print(f"wrote {out / 'tagger.safetensors'}: F1 of the entities of test {test:.4f}")
    return model


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a tagger of names, places and dates.")
    for name in ("train", "validation", "test"):
        parser.add_argument(
            f"--{name}", type=Path, default=HERE / f"{name}.conll", help="CoNLL file; bundled by default"
        )
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
