"""The parts of models that write as TensorRT engines: built in every scheme, from graphs that write what torch writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install edge-compress[nlp]"
)

from compress.engines import compile_into, quantize_into  # noqa: E402
from compress.generation.assembly import Assembly, open_part  # noqa: E402
from compress.generation.in_torch import TorchPart, specs_of  # noqa: E402
from compress.generation.parts import Part  # noqa: E402
from compress.generation.transformers_parts import CausalLM, Seq2SeqLM, causal_parts, seq2seq_parts  # noqa: E402
from export.to_onnx import to_onnx  # noqa: E402
from targets import Engine, Scheme  # noqa: E402
from targets.generation import Generation  # noqa: E402
from targets.generation.session import GenerationSession  # noqa: E402
from targets.tensorrt import TensorRt  # noqa: E402
from tests.targets.test_generation import END, PADDING, PROMPTS, WORDS, spread  # noqa: E402

TARGET = TensorRt(provider="tensorrt-rtx", compute_capabilities=("8.9",))
pytestmark = pytest.mark.skipif(bool(TARGET.unavailable()), reason=str(TARGET.unavailable()))

WIDTH, HEADS = 16, 2
BATCH, PAST, OTHER = (1, 1, 32), (0, 64, 128), (1, 64, 128)
"""Smallest, usual and largest extent of an axis, where a recipe names none."""
MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])


@dataclass(frozen=True)
class Network:
    """A tiny model that writes: its parts in torch and as ONNX, and prompts of it."""

    parts: Mapping[str, Part]
    model: Assembly
    prompts: Mapping[str, np.ndarray]

    def in_torch(self) -> dict[str, TorchPart]:
        return {name: TorchPart(part) for name, part in self.parts.items()}


@pytest.fixture(scope="module")
def gpt(tmp_path_factory: pytest.TempPathFactory) -> Network:
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(_gpt_config(bos_token_id=0))
    return _network(causal_parts(CausalLM(spread(model.eval()))), tmp_path_factory.mktemp("gpt"))


@pytest.fixture(scope="module")
def bert_gpt(tmp_path_factory: pytest.TempPathFactory) -> Network:
    torch.manual_seed(2)
    encoder = transformers.BertConfig(
        vocab_size=WORDS, hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=HEADS, intermediate_size=WIDTH,
        max_position_embeddings=64, pad_token_id=PADDING,
    )  # fmt: skip
    decoder = _gpt_config(bos_token_id=0, add_cross_attention=True, is_decoder=True)
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id, config.pad_token_id = 0, PADDING
    model = spread(transformers.EncoderDecoderModel(config=config).eval())
    return _network(seq2seq_parts(Seq2SeqLM(model)), tmp_path_factory.mktemp("bert-gpt"))


@pytest.mark.parametrize("name", ["gpt", "bert_gpt"])
def test_parts_in_fp16_are_built_from_graphs_that_write_what_torch_writes(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    network: Network = request.getfixturevalue(name)
    engine = compile_into(tmp_path, network.model, TARGET, _scheme("fp16"))
    assert set(engine.parts) == set(network.parts)
    expected = _answers(network, network.in_torch())
    assert len({tuple(answer) for answer in expected.tolist()}) == len(PROMPTS), "each prompt has an answer of its own"
    np.testing.assert_array_equal(_answers(network, _sources(engine)), expected)


@pytest.mark.parametrize("name", ["gpt", "bert_gpt"])
def test_parts_in_int8_are_built_from_quantized_graphs_that_answer_nearly_as_torch(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    network: Network = request.getfixturevalue(name)
    scheme, (folder, out) = _scheme("int8"), (tmp_path / "quantized", tmp_path / "engine")
    folder.mkdir(), out.mkdir()
    engine = compile_into(out, quantize_into(folder, network.model, scheme, [dict(network.prompts)]), TARGET, scheme)
    for part in engine.parts.values():
        nodes = onnx.load(part.path.with_name("model.onnx")).graph.node
        assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in nodes}
    expected, found = (_logits(network, sessions) for sessions in (network.in_torch(), _sources(engine)))
    assert 0 < np.sqrt(np.mean((found - expected) ** 2)) < 0.1 * np.ptp(expected)


def test_parts_in_bf16_are_built(bert_gpt: Network, tmp_path: Path) -> None:
    """ONNX Runtime has no BF16 products on a CPU: what such a graph answers is tested in test_tensorrt_precision."""
    for part in compile_into(tmp_path, bert_gpt.model, TARGET, _scheme("bf16")).parts.values():
        initializers = onnx.load(part.path.with_name("model.onnx")).graph.initializer
        types = {tensor.data_type for tensor in initializers}
        assert onnx.TensorProto.BFLOAT16 in types
        assert types.isdisjoint({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16})


def test_a_decoder_has_a_profile_from_an_empty_cache_on(gpt: Network, tmp_path: Path) -> None:
    profile = TARGET.compile(gpt.model.decoder, _scheme("fp32"), tmp_path).settings["profile"]
    assert profile["input_ids"] == profile["wanted"] == _shapes(BATCH, OTHER)
    assert profile["padding"] == _shapes(BATCH)
    cache = _shapes(BATCH, HEADS, PAST, WIDTH // HEADS)
    assert profile["past_key.0"] == profile["past_value.0"] == cache
    assert len(profile) == 5


def test_a_decoder_behind_an_encoder_has_a_profile_of_source_and_cache(bert_gpt: Network, tmp_path: Path) -> None:
    """A recipe's `axes` name one axis; the batch, which it does not name, stays."""
    target = replace(TARGET, axes={"length": (1, 16, 48)})
    parts = compile_into(tmp_path, bert_gpt.model, target, _scheme("fp32")).parts
    source = _shapes(BATCH, (1, 16, 48))
    assert parts["encoder"].settings["profile"] == {"input_ids": source, "attention_mask": source}
    places = ["key.0", "value.0"]
    assert parts["decoder"].settings["profile"] == {
        "input_ids": _shapes(BATCH, OTHER),
        "attention_mask": source,
        **{f"past_{place}": _shapes(BATCH, HEADS, PAST, WIDTH // HEADS) for place in places},
        **{f"cross_{place}": _shapes(BATCH, HEADS, (1, 16, 48), WIDTH // HEADS) for place in places},
    }


def _gpt_config(**fields: object) -> transformers.GPT2Config:
    return transformers.GPT2Config(
        vocab_size=WORDS, n_positions=64, n_embd=WIDTH, n_layer=1, n_head=HEADS, eos_token_id=END, **fields
    )


def _network(parts: Mapping[str, Part], folder: Path) -> Network:
    models = {
        name: to_onnx(
            part.module, part.example_inputs, part.dynamic_axes, part.output_names, folder / f"{name}.onnx"
        )
        for name, part in parts.items()
    }  # fmt: skip
    encodes = "encoder" in parts
    generation = Generation(end=END, padding=PADDING, start=0 if encodes else None, new_tokens=12, stops=False)
    prompts = {"input_ids": PROMPTS, **({"attention_mask": MASK} if encodes else {})}
    return Network(parts, Assembly(models, generation), prompts)


def _scheme(name: str) -> Scheme:
    return next(scheme for scheme in TARGET.schemes() if scheme.name == name)


def _sources(engine: Engine) -> dict[str, object]:
    """The graphs that the engines were built from, on ONNX Runtime."""
    return {name: open_part(part.path.with_name("model.onnx")) for name, part in engine.parts.items()}


def _session(network: Network, sessions: Mapping[str, object]) -> GenerationSession:
    return GenerationSession(sessions, specs_of(network.parts["decoder"]), network.model.generation)  # type: ignore[arg-type]


def _answers(network: Network, sessions: Mapping[str, object]) -> np.ndarray:
    return _session(network, sessions).run(network.prompts)["tokens"]


def _logits(network: Network, sessions: Mapping[str, object]) -> np.ndarray:
    """Of three given tokens, one by one, through the cache."""
    return _session(network, sessions).steps(network.prompts, PROMPTS[:, :3])


def _shapes(*axes: int | tuple[int, int, int]) -> list[list[int]]:
    """Smallest, usual and largest shape of extents, some of them fixed."""
    return [[axis if isinstance(axis, int) else axis[place] for axis in axes] for place in range(3)]
