"""The parts of language models of transformers against the models by themselves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("transformers", reason="transformers is not installed: pip install edge-compress[nlp]")

from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from compress.generation.transformers_parts import CausalLM, causal_parts
from export.errors import UnsupportedError

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
