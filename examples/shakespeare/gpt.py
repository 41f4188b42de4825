"""A small GPT-2 of transformers: four layers of 256, 3.7 M parameters, embeddings tied to the output."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.metrics import IGNORED
from compress.generation.transformers_parts import CausalLM

POSITIONS = 512
"""Tokens of a prompt and its answer together, at most."""


def gpt(words: int, padding: int, end: int, layers: int = 4, width: int = 256, heads: int = 8) -> CausalLM:
    """With random weights. A GPT of this size learns a megabyte of text by heart; dropout is what keeps it from that.

    Source: Radford et al. 2019, "Language models are unsupervised multitask learners".
    """
    config = GPT2Config(
        vocab_size=words,
        n_positions=POSITIONS,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        resid_pdrop=0.2,
        embd_pdrop=0.2,
        attn_pdrop=0.2,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=padding,
    )
    return CausalLM(GPT2LMHeadModel(config))


def loss(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy over the tokens that count; logits (batch, length, words), target (batch, length)."""
    return functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=IGNORED)
