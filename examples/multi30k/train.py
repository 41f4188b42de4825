"""Train a small translator on Multi30k from nothing.

    python examples/multi30k/train.py --data FOLDER --out transformer-multi30k.safetensors
    python examples/multi30k/train.py --network bert-gpt --data FOLDER --out bert-gpt-multi30k.safetensors

Stopped and started again with the same arguments, it goes on where it was. The tokenizer is trained on the training pairs and
written beside the weights. Nothing is chosen on the test sentences, nor on the validation pairs: the weights after the last
step are kept.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import get_args

import torch
from pairs import END, PADDING, START, Decode, pair_batches, prompts, read_split, train_tokenizer
from safetensors.torch import save_file
from torch import Tensor
from translator import Network, loss, network, writing

from benchmarks.metrics import BLEU, Perplexity
from compress.evaluate import evaluate
from compress.generation.in_torch import evaluate_written
from compress.training import Schedule, Training, train
from export.calling import call
from export.progress import Lines

REPORT_EVERY = 50
"""Steps between two lines of progress."""


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    splits = {name: read_split(options.data, name) for name in ("train", "val", "test_2016_flickr")}
    tokenizer = train_tokenizer(splits["train"])
    padding, end, start = (tokenizer.token_to_id(token) for token in (PADDING, END, START))
    words = tokenizer.get_vocab_size()
    model = network(options.network, words, padding, end, start)
    validation = pair_batches(tokenizer, splits["val"], batch_size=64)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    resume = options.out.with_suffix(".resume")
    training = Training(
        model=model,
        optimizer=torch.optim.AdamW(
            model.parameters(), lr=options.learning_rate, weight_decay=0.01, betas=(0.9, 0.98), fused=True
        ),
        schedule=Schedule(options.learning_rate, options.epochs, warmup_epochs=2.0),
        gradient_clip=1.0,
        seed=options.seed,
        checkpoint=resume,
        description="train",
        track=Lines(REPORT_EVERY),
        precision=options.precision,
    )

    def step_loss(inputs: dict[str, Tensor], target: Tensor) -> Tensor:
        return loss(call(model, inputs)[0], target)

    def validate() -> float:
        value = Perplexity().value(evaluate(model, validation, Perplexity()))
        print(f"validation perplexity {value:.3f}", flush=True)
        return value

    epochs = train(training, pair_batches(tokenizer, splits["train"], options.batch_size, True), step_loss, validate)
    seconds, samples = sum(epoch.seconds for epoch in epochs), sum(epoch.samples for epoch in epochs)
    print(f"trained in {seconds:.0f} s, {samples / seconds:.0f} pairs/s")
    test = splits["test_2016_flickr"]
    metric = BLEU(test.target, Decode(tokenizer))
    writes = writing(padding, end, start)
    bleu = metric.value(evaluate_written(model, writes, prompts(tokenizer, test, 0), metric))
    print(f"validation perplexity {epochs[-1].validation:.3f}  test BLEU {bleu:.2f} (beams of 4)")
    kept = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    save_file(kept, options.out, metadata={"test_bleu": f"{bleu:.6f}", "network": options.network})
    tokenizer.save(str(options.out.with_name(f"{options.out.stem}-tokenizer.json")))
    resume.unlink()
    print(f"wrote {options.out} ({options.out.stat().st_size / 1e6:.1f} MB) and its tokenizer beside it")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a small translator on Multi30k.")
    parser.add_argument("--network", choices=get_args(Network), default="transformer")
    parser.add_argument("--data", type=Path, required=True, help="folder with the gzipped sentence pairs")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="bf16 where the CPU has it")
    return parser.parse_args()


if __name__ == "__main__":
    main()
