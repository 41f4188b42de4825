"""`huggingface` for token classification: a tag for each word, such as the entities of a sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.metrics import IGNORED, EntityF1, Metric, TokenAccuracy
from compress.padded import LengthBatches, trim
from compress.ready import ReadyContext
from compress.ready.classified_texts import BASELINE_TOLERANCE
from compress.ready.conll import ENDINGS, Sentence, read_conll
from compress.ready.encoder import encoder_logits
from compress.ready.holding_out import split
from compress.ready.language_model import token_loss, words_of
from compress.ready.model_folder import load_network, open_folder
from compress.ready.tables import split_files
from compress.ready.unknown import check_known
from compress.ready.words import Words, check_length, padded
from compress.workload import Workload
from export.errors import InputError

if TYPE_CHECKING:
    from compress.ready.huggingface import HuggingFace

CALIBRATION = 512
"""Training sentences, evenly spread, for INT8 ranges."""


def token_classification(options: HuggingFace, context: ReadyContext) -> Workload:
    """The workload: the tag of a word is asked for at its first piece, and the F1 of whole entities judges where tags are BIO."""
    path = context.existing("data", options.data, "a CoNLL file, or a folder with train.conll")
    folder = open_folder(context, "path", options.path)
    check_length(options.max_length, folder, context)
    words = words_of(options, folder, context)
    tags = folder.labels
    if not tags:
        raise context.refusal("path", "config.json names no tags; give them in id2label, in the order of the logits")
    model = encoder_logits(
        load_network(folder, "token-classification", context, "path"), words.padding, context, "path"
    )
    files = split_files(path, ENDINGS, context, "data")
    given = {name: read_conll(file) for name, file in files.items()}
    keys = {name: [sentence.key for sentence in some] for name, some in given.items()}
    unknown = check_known(words, {files[name].name: keys[name] for name in files}, context, "data")
    sentences, told = split(given, keys, context.seed, f"{path.name}: sentences")
    batches = {name: _batches(words, some, tags, options, shuffle=name == "train") for name, some in sentences.items()}
    train = batches["train"]
    unseen = train.without(batches["evaluation"])
    if not unseen.samples:
        raise context.refusal(
            "data", "every training sentence is an evaluation sentence as well; give other training sentences"
        )
    return Workload(
        model=model,
        example_inputs=trim({name: tensor[:2] for name, tensor in train.inputs.items()}),
        dynamic_axes={name: {0: "batch", 1: "length"} for name in train.inputs},
        train=train,
        validation=batches["validation"],
        evaluation=batches["evaluation"],
        calibration=unseen.spread(CALIBRATION),
        loss=token_loss,
        metric=_metric(tags),
        class_names=tags,
        baseline=options.baseline,
        baseline_tolerance=BASELINE_TOLERANCE,
        licence=folder.licence,
        notes=(*told, *unknown),
    )


def _metric(tags: tuple[str, ...]) -> Metric:
    """Of entities where all tags are BIO; the share of words with the right tag for others, such as parts of speech."""
    return EntityF1(tags) if all(re.fullmatch(r"O|[BI]-.+", tag) for tag in tags) else TokenAccuracy()


def _batches(
    words: Words, sentences: Sequence[Sentence], tags: Sequence[str], options: HuggingFace, shuffle: bool
) -> LengthBatches:
    """Sentences as pieces of words, cut at `max_length` of them; the target is IGNORED but at the first piece of each word."""
    words.tokenizer.enable_truncation(options.max_length)
    words.tokenizer.no_padding()
    found = words.tokenizer.encode_batch([list(each.words) for each in sentences], is_pretokenized=True)
    numbers = {tag: number for number, tag in enumerate(tags)}
    target = [_target(sentence, each.word_ids, numbers) for sentence, each in zip(sentences, found, strict=True)]
    inputs = {
        "input_ids": padded([each.ids for each in found], words.padding),
        "attention_mask": padded([each.attention_mask for each in found], 0),
    }
    return LengthBatches(inputs, padded(target, IGNORED), options.batch_size, shuffle)


def _target(sentence: Sentence, pieces: Sequence[int | None], numbers: dict[str, int]) -> list[int]:
    """One for each piece; `pieces` says of which word it is, None for tokens around the sentence."""
    labels, before = [], None
    for word in pieces:
        first = word is not None and word != before
        labels.append(_number(sentence, word, numbers) if first and word is not None else IGNORED)
        before = word if word is not None else before
    return labels


def _number(sentence: Sentence, word: int, numbers: dict[str, int]) -> int:
    tag = sentence.tags[word]
    if tag not in numbers:
        raise InputError(
            f"{sentence.path}:{sentence.line + word}: found the tag '{tag}', which the model does not have; it has {', '.join(numbers)}"
        )
    return numbers[tag]
