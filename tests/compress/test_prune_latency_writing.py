"""The time of a whole answer: what an encoder does once, and what a decoder does at every step."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compress.prune.choose.latency import LatencyModel, named_as_in
from compress.prune.choose.latency_table import Operator
from compress.prune.choose.search import rank
from compress.prune.follow import follow
from compress.prune.products import products
from compress.step import TimedCall
from targets import LayerTime, Profile
from tests.compress.test_prune_latency import HandMade

NONE = np.zeros((1, 0), bool)
STEPS = 10


class Recording(HandMade):
    """Keeps what each cost asked for."""

    def __init__(self) -> None:
        self.asked: list[list[Operator]] = []

    def seconds(self, operators: Iterable[Operator]) -> dict[Operator, float]:
        self.asked.append([*operators])
        return super().seconds(self.asked[-1])


class Writer(nn.Module):
    """6 -> 8 -> 4 features in the encoder, 4 -> 8 -> 5 in the decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
        self.decoder = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.decoder(self.encoder(x))
        return found


class Encoder(nn.Module):
    """Also goes through a step of the decoder, as transformers' encoders do to fill the cache."""

    def __init__(self, writer: Writer) -> None:
        super().__init__()
        self.writer = writer

    def forward(self, x: Tensor) -> Tensor:
        given: Tensor = self.writer.encoder(x)
        self.writer.decoder(given[:1])
        return given


class Decoder(nn.Module):
    def __init__(self, writer: Writer) -> None:
        super().__init__()
        self.steps = writer.decoder

    def forward(self, given: Tensor) -> Tensor:
        found: Tensor = self.steps(given)
        return found


def profile_of(layers_s: float, call_s: float) -> Profile:
    return Profile((LayerTime("all", "MatMul", "fp32", layers_s),), call_s)


def test_an_answer_is_its_calls_each_as_often_as_it_is_made() -> None:
    torch.manual_seed(0)
    model = Writer().eval()
    inputs = {"x": torch.randn(3, 6)}
    families, _ = rank(model, follow(model, inputs), lambda groups: np.arange(len(groups)), lambda _: 0.9, 1)
    calls = [
        TimedCall(Encoder(model), inputs, profile_of(80e-9, 90e-9)),
        TimedCall(Decoder(model), {"given": torch.randn(1, 4)}, profile_of(72e-9, 75e-9), STEPS),
    ]
    latency = LatencyModel(model, calls, HandMade())
    cost = latency.cost(families, ())
    assert latency.whole_s == pytest.approx(90e-9 + STEPS * 75e-9)
    assert cost(np.zeros((1, len(families)), int), NONE) == pytest.approx(latency.whole_s)
    gone = {"encoder.0.weight": 3, "encoder.2.weight": 1, "decoder.0.weight": 2}
    counts = np.array([[gone[family.groups[0].family[0][0]] for family in families]])
    # What is left: 6 -> 5 -> 3 once, 3 -> 6 -> 5 at every step; 10 ns and 3 ns are the runtime's own.
    by_hand = 6 * 5 + 5 * 3 + 10 + STEPS * (3 * 6 + 6 * 5 + 3)
    assert cost(counts, NONE) == pytest.approx(1e-9 * by_hand)


def test_an_encoders_products_are_its_own_and_the_keys_and_values_that_it_gives() -> None:
    """Of a BART with one layer on each side: by the names of transformers' modules."""
    transformers = pytest.importorskip(
        "transformers", reason="transformers is not installed: pip install edge-compress[nlp]"
    )
    from compress.generation.transformers_parts import Seq2SeqLM, seq2seq_parts

    config = transformers.BartConfig(
        vocab_size=20, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=32,
    )  # fmt: skip
    model = Seq2SeqLM(transformers.BartForConditionalGeneration(config).eval())
    parts = seq2seq_parts(model)
    calls = [
        TimedCall(parts[name].module, parts[name].example_inputs, profile_of(1e-6, 1e-6), times)
        for name, times in (("encoder", 1), ("decoder", 9))
    ]
    table = Recording()
    LatencyModel(model, calls, table).cost([], ())
    encoder, decoder = ([(each.inputs, each.outputs) for each in some] for some in table.asked)
    # Four products of attention and two of feed-forward; the cross-attention's keys and values.
    assert sorted(encoder) == sorted([(16, 16)] * 4 + [(16, 24), (24, 16)] + [(16, 16)] * 2)
    # Self-attention, the cross-attention's query and output, feed-forward, the vocabulary.
    assert sorted(decoder) == sorted([(16, 16)] * 4 + [(16, 16)] * 2 + [(16, 24), (24, 16)] + [(16, 20)])
    found = named_as_in(
        model, parts["decoder"].module, products(parts["decoder"].module, parts["decoder"].example_inputs)
    )
    assert {each.weight for each in found} <= set(dict(model.named_parameters()))
    assert "model.model.decoder.layers.0.fc1" in {each.module for each in found}
