"""Batches of texts of varying length, and what leaves padding out of a network's answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from compress.padded import LengthBatches, encode, encoded, mean_over_tokens, trim
from export.errors import InputError
from export.to_onnx import to_onnx

LENGTHS = (3, 9, 5, 5, 12, 2, 7, 4, 11, 6)


def padded(lengths: tuple[int, ...] = LENGTHS) -> dict[str, Tensor]:
    """Text k has lengths[k] tokens, the first of which is k + 1."""
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(20, 50, mask.shape, generator=torch.Generator().manual_seed(0)) * mask
    ids[:, 0] = torch.arange(1, len(lengths) + 1)
    return {"input_ids": ids, "attention_mask": mask}


def test_texts_are_encoded_with_their_mask_and_cut_at_the_longest_that_may_be() -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed: pip install edge-compress[nlp]")
    words = tokenizers.models.WordLevel({"[PAD]": 0, "one": 1, "two": 2, "three": 3, "four": 4}, unk_token="[PAD]")
    tokenizer = tokenizers.Tokenizer(words)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    found = encode(tokenizer, ("two", "four three two one"), longest=3)
    assert found["input_ids"].tolist() == [[2, 0, 0], [4, 3, 2]]
    assert found["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]


@pytest.mark.parametrize("shuffle", [False, True])
def test_every_pass_gives_each_text_once_trimmed_to_the_longest_of_its_batch(shuffle: bool) -> None:
    batches = LengthBatches(padded(), torch.arange(10), batch_size=3, shuffle=shuffle, pool=2)
    given = list(batches)
    assert len(given) == len(batches) == 4
    assert sorted(int(label) for _, target in given for label in target) == list(range(10))
    for batch, target in given:
        assert batch["input_ids"].shape[1] == max(LENGTHS[int(label)] for label in target)
        assert batch["input_ids"][:, 0].tolist() == (target + 1).tolist()


def test_unshuffled_batches_go_from_short_to_long() -> None:
    batches = LengthBatches(padded(), torch.arange(10), batch_size=4)
    assert [batch["input_ids"].shape[1] for batch, _ in batches] == [5, 9, 12]


def test_shuffled_batches_repeat_with_torchs_seed() -> None:
    batches = LengthBatches(padded(), torch.arange(10), batch_size=3, shuffle=True)

    def order(seed: int) -> list[int]:
        torch.manual_seed(seed)
        return [int(label) for _, target in batches for label in target]

    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(5)}) > 1


def test_one_label_a_token_is_cut_like_the_inputs_and_one_a_text_is_not() -> None:
    inputs = padded((2, 3, 2))
    tags = torch.arange(9).reshape(3, 3)
    (short, short_tags), (long, long_tags) = LengthBatches(inputs, tags, batch_size=2)
    assert short["input_ids"].shape == (2, 2) and short_tags.tolist() == [[0, 1], [6, 7]]
    assert long["input_ids"].shape == (1, 3) and long_tags.tolist() == [[3, 4, 5]]


def test_vectors_of_tokens_are_cut_and_what_has_no_length_is_not() -> None:
    mask = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0]])
    batch = {"real": mask, "vectors": torch.rand(2, 4, 5), "age": torch.rand(2), "pixels": torch.rand(2, 3, 4)}
    cut = trim(batch, mask="real")
    assert {name: tuple(tensor.shape) for name, tensor in cut.items()} == {
        "real": (2, 2),
        "vectors": (2, 2, 5),
        "age": (2,),
        "pixels": (2, 3, 4),
    }
    assert torch.equal(cut["vectors"], batch["vectors"][:, :2])


def test_a_mask_of_another_name() -> None:
    inputs = {"tokens": padded()["input_ids"], "real": padded()["attention_mask"]}
    [(batch, _), *_] = LengthBatches(inputs, torch.arange(10), batch_size=4, mask="real")
    assert batch["tokens"].shape == (4, 5)


def test_taken_samples_keep_how_they_are_batched() -> None:
    batches = LengthBatches(padded(), torch.arange(10), batch_size=3, pool=7)
    taken = batches.take(torch.tensor([4, 0, 9]), shuffle=True)
    assert (taken.samples, taken.batch_size, taken.pool, taken.shuffle) == (3, 3, 7, True)
    [(inputs, target)] = taken
    assert target.tolist() == [0, 9, 4] and inputs["input_ids"][:, 0].tolist() == [1, 10, 5]


def test_texts_for_calibration_stand_alone_and_lie_evenly_over_all() -> None:
    tags = padded()["input_ids"] + 100
    batches = LengthBatches(padded(), tags, batch_size=3, shuffle=True)
    found = batches.spread(4)
    assert [int(inputs["input_ids"][0, 0]) for inputs, _ in found] == [1, 4, 7, 10]
    for inputs, target in found:
        assert inputs["attention_mask"].all() and torch.equal(target, inputs["input_ids"] + 100)
    assert len(batches.spread(99)) == 10


def test_texts_of_other_batches_are_left_out_whatever_the_padding() -> None:
    """Texts 1 and 3, padded to another length; a text that begins like number 4 is another one."""
    inputs = padded((3, 5, 2, 4))
    batches = LengthBatches(inputs, torch.arange(4), batch_size=2)
    longer = {name: nn.functional.pad(tensor[[1, 3]], (0, 3)) for name, tensor in inputs.items()}
    assert batches.without(LengthBatches(longer, torch.arange(2), 1)).target.tolist() == [0, 2]
    prefix = {name: tensor[3:, :3] for name, tensor in inputs.items()}
    assert batches.without(LengthBatches(prefix, torch.arange(1), 1)).target.tolist() == [0, 1, 2, 3]


def test_what_is_no_mask_of_padded_text_is_refused() -> None:
    def batches(mask: Any, samples: int = 2) -> LengthBatches:
        return LengthBatches({"attention_mask": torch.tensor(mask)}, torch.arange(samples), batch_size=1)

    with pytest.raises(
        InputError, match=r"no input 'real'; inputs: attention_mask\. Name the one that marks real tokens"
    ):
        LengthBatches({"attention_mask": torch.ones(2, 2)}, torch.arange(2), batch_size=1, mask="real")
    with pytest.raises(InputError, match=r"'attention_mask' of sample 1 is not ones followed by zeros; pad at the end"):
        batches([[1, 1], [0, 1]])
    with pytest.raises(InputError, match=r"'attention_mask' of sample 0 is .*, which has at least one token"):
        batches([[0, 0], [1, 0]])
    with pytest.raises(InputError, match=r"'attention_mask' must have shape \(samples, length\), found \(2,\)"):
        batches([1, 1])
    with pytest.raises(InputError, match=r"same number of samples, found {'attention_mask': 2, 'target': 3}"):
        batches([[1, 1], [1, 0]], samples=3)


def test_the_mean_leaves_padding_out() -> None:
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [90.0, -90.0]]])
    assert mean_over_tokens(hidden, torch.tensor([[1, 1, 0]])).tolist() == [[2.0, 4.0]]


class Encoder(nn.Module):
    """The smallest BERT, and its hidden states as they are."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        config = BertConfig(
            vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
        )
        config._attn_implementation = "sdpa"
        self.bert = BertModel(config, add_pooling_layer=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return encoded(self.bert, input_ids, attention_mask)


@pytest.fixture
def encoder() -> Encoder:
    pytest.importorskip("transformers", reason="transformers is not installed: pip install edge-compress[nlp]")
    torch.manual_seed(0)
    return Encoder().eval()


def test_hidden_states_are_those_of_transformers_own_masking(encoder: Encoder) -> None:
    inputs = padded()
    real = inputs["attention_mask"].bool()
    expected = encoder.bert(**inputs).last_hidden_state
    assert torch.allclose(encoder(**inputs)[real], expected[real], atol=1e-6)


def test_hidden_states_of_any_batch_and_length_come_out_of_one_exported_file(encoder: Encoder, tmp_path: Path) -> None:
    axes = {name: {0: "batch", 1: "length"} for name in ("input_ids", "attention_mask")}
    to_onnx(encoder, padded((4, 3)), axes, ["hidden"], tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for inputs in (padded((6,)), padded()):
        [found] = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        assert np.abs(found - encoder(**inputs).detach().numpy()).max() < 1e-5
