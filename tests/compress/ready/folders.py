"""Tiny models of transformers with random weights, saved as folders, and recipes with ready-made workloads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from compress.load_workload import load_workload
from compress.recipe import load_recipe
from compress.workload import Workload

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = ("good", "bad", "fine", "dull", "film", "play", "the", "a", "is", "was", "##s", "very")
LETTERS = "abcdefgh"
SIZES = {
    "vocab_size": len(SPECIAL) + len(WORDS),
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
}


def wordpiece() -> Tokenizer:
    """BERT's tokenizer with a handful of words."""
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def save(model: PreTrainedModel, folder: Path, tokenizer: Tokenizer | None = None) -> Path:
    """The folder with model and tokenizer."""
    model.save_pretrained(folder)
    (tokenizer or wordpiece()).save(str(folder / "tokenizer.json"))
    return folder


def classifier(folder: Path, **config: Any) -> Path:
    """The folder of a BERT that classifies, with random weights."""
    torch.manual_seed(0)
    return save(BertForSequenceClassification(BertConfig(**(SIZES | config))), folder)


def reviews(path: Path, samples: int, labels: tuple[str, str] = ("0", "1"), first: int = 0) -> Path:
    """A table of different texts, good ones and bad ones in turns, with a header `sentence, label`; tabs unless it is a .csv."""
    delimiter = "," if path.suffix == ".csv" else "\t"
    rows = [delimiter.join(("sentence", "label"))]
    for number in range(first, first + samples):
        words = [("the", "a")[number >> 1 & 1], ("film", "play")[number >> 2 & 1], ("is", "was")[number >> 3 & 1]]
        words += ["very"] * (number >> 4) + [("bad", "good")[number & 1]]
        rows.append(delimiter.join((" ".join(words), labels[number & 1])))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def write_recipe(folder: Path, workload: str, rest: str = "steps: []\n") -> Path:
    """A recipe with a ready-made workload, in one line of YAML, in line 3."""
    path = folder / "recipe.yaml"
    path.write_text(
        f"name: ready\nworkload:\n  {workload}\ntargets: [onnxruntime_mobile]\n{rest}"
        "benchmark: {seconds: 0.2, processes: 1, half_width: 0.9, throughput: false, sizes: {length: 6}}\n"
    )
    return path


def load(folder: Path, workload: str, *overrides: str) -> Workload:
    """The workload of such a recipe."""
    return load_workload(load_recipe(write_recipe(folder, workload), overrides))


def letters() -> Tokenizer:
    """A token a letter; 0 fills up, 1 ends, 2 starts."""
    vocabulary = {token: number for number, token in enumerate(("<pad>", "</s>", "<s>", *LETTERS, " ", "\n"))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=" "))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(["<pad>", "</s>", "<s>"])
    return tokenizer


def gpt(folder: Path) -> Path:
    """The folder of a GPT-2 over letters with 32 positions and random weights."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=13, n_positions=32, n_embd=16, n_layer=2, n_head=2, eos_token_id=1, bos_token_id=2, pad_token_id=0
    )
    return save(GPT2LMHeadModel(config), folder, letters())


def running_text(path: Path, lines: int) -> None:
    """Short lines of letters, in an order that comes again."""
    path.write_text(
        "\n".join(LETTERS[number % 8] * (number % 5 + 1) + LETTERS[number // 8 % 8] for number in range(lines))
    )
