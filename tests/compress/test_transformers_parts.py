"""The parts of language models of transformers against the models by themselves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("transformers", reason="transformers is not installed: pip install edge-compress[nlp]")

from transformers import (
    BertConfig,
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GenerationMixin,
    GPT2Config,
    GPT2LMHeadModel,
    MambaConfig,
    MambaForCausalLM,
    MBartConfig,
    MistralConfig,
    MistralForCausalLM,
    PretrainedConfig,
    TrOCRConfig,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from compress.generation.in_torch import TorchPart, specs_of
from compress.generation.transformers_parts import CausalLM, PictureToText, SpeechToText, causal_parts, seq2seq_parts
from export.errors import UnsupportedError
from targets.generation import Generation
from targets.generation.session import GenerationSession

SIZES = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 8}
WINDOW = {"num_key_value_heads": 1, "intermediate_size": 32, "max_position_embeddings": 64, "sliding_window": 4}


def mistral() -> nn.Module:
    """Every layer reads the last four tokens."""
    return MistralForCausalLM(MistralConfig(**SIZES, **WINDOW))


def gemma() -> nn.Module:
    """The first layer reads the last four tokens, the second one all."""
    return Gemma2ForCausalLM(Gemma2Config(**SIZES, **WINDOW, query_pre_attn_scalar=8))


@pytest.mark.parametrize("made", [mistral, gemma])
def test_a_window_of_attention_stays_one_when_the_cache_is_longer(made: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = CausalLM(made()).eval()
    decoder = causal_parts(model)["decoder"].module
    ids = torch.randint(1, 40, (2, 12))
    with torch.no_grad():
        whole = model(ids)
        nothing = [torch.zeros(2, 1, 0, 8)] * 4
        _, *cache = decoder(ids[:, :9], torch.zeros(2, dtype=torch.long), ids[:, :1], *nothing)
        logits, *_ = decoder(ids[:, 9:], torch.zeros(2, dtype=torch.long), ids[:, 9:], *cache)
        wide = MistralForCausalLM(MistralConfig(**SIZES, **(WINDOW | {"sliding_window": None}))).eval()
        wide.load_state_dict(model.model.state_dict(), strict=False)
    torch.testing.assert_close(logits, whole[:, 9:], rtol=1e-3, atol=1e-4)
    if made is mistral:  # the window is what makes these answers
        assert (CausalLM(wide)(ids) - whole).abs().max() > 1e-2


def test_a_model_that_counts_distances_along_the_mask_leaves_padding_out() -> None:
    torch.manual_seed(0)
    config = BloomConfig(vocab_size=40, hidden_size=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2)
    model = CausalLM(BloomForCausalLM(config)).eval()
    decoder = causal_parts(model)["decoder"].module
    ids = torch.randint(3, 40, (2, 9))
    ids[0, :2] = 0
    nothing = [torch.zeros(2, 2, 0, 8)] * 4
    with torch.no_grad():
        logits, *_ = decoder(ids, torch.tensor([2, 0]), ids[:, :4], *nothing)
        alone = model(ids[:1, 2:]), model(ids[1:])
    torch.testing.assert_close(logits, torch.cat([each[:, -4:] for each in alone]), rtol=1e-3, atol=1e-4)


class Reversed(GPT2LMHeadModel):
    """Of its own attention: it reads the tokens behind as well, whatever mask it is given."""

    def forward(self, attention_mask: Tensor | None = None, **given: object) -> object:
        if attention_mask is not None:
            attention_mask = torch.zeros_like(attention_mask)
        return super().forward(attention_mask=attention_mask, **given)


def test_a_model_without_keys_and_values_is_refused() -> None:
    config = MambaConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1, state_size=4)
    with pytest.raises(UnsupportedError, match="MambaForCausalLM does not keep a key and a value of each token"):
        causal_parts(CausalLM(MambaForCausalLM(config)).eval())


def test_parts_that_do_not_answer_as_the_model_are_refused() -> None:
    torch.manual_seed(0)
    model = Reversed(GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=64))
    with pytest.raises(UnsupportedError, match="the parts of Reversed do not answer as the model does by itself"):
        causal_parts(CausalLM(model).eval())


END, PADDING, START, NEW = 4, 0, 2, 8
TINY = {"vocab_size": 20, "d_model": 16, "decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 16}


def of_pictures(decoder: PretrainedConfig) -> PictureToText:
    """Of 16x16 pixels; read by an encoder of width 16."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    encoder = ViTConfig(**sizes, image_size=16, patch_size=8, num_channels=1)
    decoder.is_decoder = decoder.add_cross_attention = True
    both = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    return PictureToText(VisionEncoderDecoderModel(both), (1, 16, 16))


def trocr() -> PictureToText:
    return of_pictures(TrOCRConfig(**TINY, max_position_embeddings=32))


def vit_bert() -> PictureToText:
    """The decoder is wider than the encoder: what it reads is projected."""
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    return of_pictures(BertConfig(**sizes, vocab_size=20, max_position_embeddings=32))


def donut() -> PictureToText:
    """transformers makes a cache for four layers, as many as an encoder of this configuration would have."""
    return of_pictures(MBartConfig(**TINY, encoder_layers=4, max_position_embeddings=32, forced_eos_token_id=None))


def whisper() -> SpeechToText:
    torch.manual_seed(0)
    encoder = {"encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16, "num_mel_bins": 8}
    lengths = {"max_source_positions": 12, "max_target_positions": 32}
    tokens = {"pad_token_id": PADDING, "eos_token_id": END, "bos_token_id": START, "decoder_start_token_id": START}
    config = WhisperConfig(**TINY, **encoder, **lengths, **tokens)
    return SpeechToText(WhisperForConditionalGeneration(config), (8, 24))


@pytest.mark.parametrize("make", [trocr, vit_bert, donut, whisper])
@pytest.mark.parametrize("beams", [1, 3])
def test_what_is_read_in_pictures_and_sound_is_what_transformers_writes(
    make: Callable[[], PictureToText | SpeechToText], beams: int
) -> None:
    model = make().eval()
    with torch.no_grad():  # large weights: what is read counts
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8.0)
    parts = seq2seq_parts(model)
    generation = Generation(end=END, padding=PADDING, start=START, new_tokens=NEW, beams=beams)
    session = GenerationSession(
        {name: TorchPart(part) for name, part in parts.items()}, specs_of(parts["decoder"]), generation
    )
    sources = torch.randn(3, *model.shape)
    tokens = {"eos_token_id": END, "pad_token_id": PADDING, "decoder_start_token_id": START}
    shape = {"max_new_tokens": NEW, "num_beams": beams, "early_stopping": True, "length_penalty": 1.0}
    with torch.no_grad():
        expected = GenerationMixin.generate(model.model, sources, do_sample=False, **tokens, **shape)[:, 1:]
        logits = model(sources, torch.cat([torch.full((3, 1), START), expected[:, :-1]], 1))
    given = {model.source: sources.numpy()}
    assert session.run(given)["tokens"][:, : expected.shape[1]].tolist() == expected.tolist()
    found = session.steps(given, expected.numpy())
    np.testing.assert_allclose(found, logits.numpy(), atol=1e-4 * logits.abs().max().item())
    assert np.abs(found[0] - found[1]).max() > 0.01 * np.abs(found).max(), "what the decoder reads of the source counts"
