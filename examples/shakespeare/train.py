"""Train a small GPT-2 on a text from nothing: about 20 minutes on two cores with BF16, a minute an epoch.

    python examples/shakespeare/train.py --data input.txt --out gpt-shakespeare.safetensors

Stopped and started again with the same arguments, it goes on where it was. The tokenizer is trained on the training part
and written beside the weights. Nothing is chosen on the evaluation part, nor on the validation part: the weights after the
last step are kept.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
from gpt import gpt, loss
from play_text import END, PADDING, WINDOW, encode, read_parts, train_tokenizer, windows
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.metrics import Perplexity
from compress.evaluate import evaluate
from compress.ready.plain_text import ShiftedWindows
from compress.training import Schedule, Training, train
from export.calling import call
from export.progress import Lines

REPORT_EVERY = 50
"""Steps between two lines of progress."""


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    parts = read_parts(options.data)
    tokenizer = train_tokenizer(parts.train)
    validation, evaluation = (
        windows(encode(tokenizer, part), batch_size=16) for part in (parts.validation, parts.evaluation)
    )
    words = tokenizer.get_vocab_size()
    model = gpt(words, tokenizer.token_to_id(PADDING), tokenizer.token_to_id(END))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    resume = options.out.with_suffix(".resume")
    training = Training(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=0.1, betas=(0.9, 0.95)),
        schedule=Schedule(options.learning_rate, options.epochs, warmup_epochs=1.0),
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
        print(f"validation perplexity {value:.2f}", flush=True)
        return value

    batches = ShiftedWindows(encode(tokenizer, parts.train), WINDOW, options.batch_size)
    epochs = train(training, batches, step_loss, validate)
    seconds, samples = sum(epoch.seconds for epoch in epochs), sum(epoch.samples for epoch in epochs)
    print(f"trained in {seconds:.0f} s, {samples * batches.length / seconds:,.0f} tokens/s")
    test = Perplexity().value(evaluate(model, evaluation, Perplexity()))
    print(f"validation {epochs[-1].validation:.2f}  evaluation {test:.2f}")
    kept = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    save_file(kept, options.out, metadata={"test_perplexity": f"{test:.6f}", "words": str(words)})
    tokenizer.save(str(options.out.with_name("tokenizer.json")))
    resume.unlink()
    print(f"wrote {options.out} ({options.out.stat().st_size / 1e6:.1f} MB) and tokenizer.json beside it")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a small GPT-2 on a text.")
    parser.add_argument("--data", type=Path, required=True, help="a plain text of a megabyte or so")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="bf16 where the CPU has it")
    return parser.parse_args()


if __name__ == "__main__":
    main()
