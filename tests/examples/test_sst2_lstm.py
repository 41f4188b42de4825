"""The LSTM of the SST-2 example: padding changes no answer, in torch and in both runtimes; pruned, it is still exact."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional

from compress.prune.exactness import check
from compress.prune.follow import follow
from compress.prune.plan import PrunePlan, apply
from compress.quantize.model import quantize_model
from compress.workload import to_numpy
from export.errors import InputError
from export.to_onnx import to_onnx
from targets import FP32, Scheme, Target, target_class
from tests.examples.conftest import Load

pytest.importorskip("transformers", reason="transformers is not installed: pip install edge-compress[nlp]")

AXES = {name: {0: "batch", 1: "length"} for name in ("input_ids", "attention_mask")}
LENGTHS = (5, 1, 3)


@pytest.fixture
def network(load: Load) -> Any:
    torch.manual_seed(0)
    return load("sst2", "lstm").LstmClassifier(words=40, vector=12, width=16, hidden=16).eval()


def sentences(lengths: tuple[int, ...], padded_to: int) -> dict[str, Tensor]:
    """The first token of sentence k is k + 1; padding has the id of a word, so that only the mask can tell."""
    mask = (torch.arange(padded_to) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(10, 40, mask.shape, generator=torch.Generator().manual_seed(0))
    ids[:, 0] = torch.arange(1, len(lengths) + 1)
    return {"input_ids": ids, "attention_mask": mask}


def alone(row: int) -> dict[str, Tensor]:
    """Sentence `row` of LENGTHS by itself, without padding."""
    return {name: tensor[row : row + 1, : LENGTHS[row]] for name, tensor in sentences(LENGTHS, 9).items()}


def test_answers_are_those_of_each_sentence_read_forwards_and_backwards_by_itself(network: Any) -> None:
    """Against two LSTMs of one direction, the second one over the sentence turned round, without any padding."""
    forwards, backwards = (nn.LSTM(16, 16, batch_first=True, bias=False) for _ in range(2))
    for name, parameter in network.lstm.named_parameters():
        one = backwards if name.endswith("_reverse") else forwards
        one.get_parameter(name.removesuffix("_reverse")).data.copy_(parameter)
    expected = []
    for row in range(len(LENGTHS)):
        vectors = functional.relu(network.adapt(network.embedding(alone(row)["input_ids"])))
        states = torch.cat([forwards(vectors)[0], backwards(vectors.flip(1))[0].flip(1)], dim=2)
        expected.append(network.classifier(torch.cat([states.mean(1), states.amax(1)], dim=1)))
    assert torch.allclose(network(**sentences(LENGTHS, 9)), torch.cat(expected), atol=1e-6)


def schemes() -> list[tuple[str, Scheme]]:
    """FP32 of both runtimes, dynamic INT8 of the one that has it inside an LSTM."""
    found: list[tuple[str, Scheme]] = []
    for name in ("onnxruntime_mobile", "openvino"):
        target = target_class(name)()
        found += [(name, each) for each in target.schemes() if each.mode == "dynamic" or each == FP32]
    return found


@pytest.mark.parametrize(("name", "scheme"), schemes(), ids=lambda each: getattr(each, "name", each))
def test_padding_changes_no_answer_on_a_runtime(network: Any, name: str, scheme: Scheme, tmp_path: Path) -> None:
    """Dynamic INT8 takes one range for all that an LSTM reads; the zeros of padding are inside it anyway."""
    target: Target = target_class(name)()
    if target.unavailable():
        pytest.skip(str(target.unavailable()))
    model = to_onnx(network, sentences((4, 3), 6), AXES, ["logits"], tmp_path / "model.onnx")
    if scheme != FP32:
        model = quantize_model(model, [], scheme, tmp_path / "quantized.onnx")
        assert "DynamicQuantizeLSTM" in {node.op_type for node in model.proto().graph.node}
    (tmp_path / "engine").mkdir()
    engine = target.compile(model, scheme, tmp_path / "engine")
    with target.load(engine, threads=1) as session:
        for row in range(len(LENGTHS)):
            short, expected = to_numpy(alone(row)), network(**alone(row)).detach().numpy()
            long = {key: np.pad(array, ((0, 0), (0, 7)), constant_values=0) for key, array in short.items()}
            long["input_ids"][:, LENGTHS[row] :] = 33
            answer = session.run(short)["logits"].copy()
            assert np.abs(session.run(long)["logits"] - answer).max() < 1e-5
            assert np.abs(answer - expected).max() < (1e-5 if scheme == FP32 else 0.05)


def test_hidden_units_go_exactly_and_the_smaller_network_exports(network: Any, tmp_path: Path) -> None:
    inputs = sentences(LENGTHS, 9)
    groups = follow(network, inputs).groups
    units = [group for group in groups if any(piece.tensor == "lstm.weight_hh_l0" for piece in group.slices)]
    assert len(units) == 16
    plan = PrunePlan.of(network, units[::2])
    assert check(network, plan, [inputs]).difference < 1e-5
    smaller = copy.deepcopy(network)
    apply(smaller, plan)
    assert smaller.lstm.hidden_size == 8 and smaller.classifier.in_features == 32
    model = to_onnx(smaller, inputs, AXES, ["logits"], tmp_path / "model.onnx")
    [node] = [node for node in model.proto().graph.node if node.op_type == "LSTM"]
    assert next(attribute.i for attribute in node.attribute if attribute.name == "hidden_size") == 8


@pytest.mark.parametrize(
    ("network", "table"), [("lstm", "embedding.weight"), ("minilm", "bert.embeddings.word_embeddings.weight")]
)
def test_each_network_of_the_training_script_begins_with_minilms_word_vectors_and_keeps_them(
    load: Load, network: str, table: str
) -> None:
    try:
        model = load("sst2", "train").NETWORKS[network].make()
    except InputError as error:
        pytest.skip(str(error))
    assert [name for name, parameter in model.named_parameters() if not parameter.requires_grad] == [table]
    with safe_open(load("sst2", "minilm").package_folder() / "model.safetensors", framework="pt") as file:
        assert torch.equal(model.get_parameter(table), file.get_tensor("embeddings.word_embeddings.weight"))
