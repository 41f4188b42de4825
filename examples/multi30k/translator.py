"""Encoder-decoders of transformers, small enough for 29,000 sentence pairs: a Transformer, and a BERT with a GPT-2 behind it."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor
from torch.nn import functional
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    GPT2Config,
)

from benchmarks.metrics import IGNORED
from compress.generation import Generation, Writing
from compress.generation.transformers_parts import Seq2SeqLM, seq2seq_parts

Network = Literal["transformer", "bert-gpt"]

POSITIONS = 128


def transformer(
    words: int, padding: int, end: int, start: int, layers: int = 3, width: int = 256, heads: int = 4
) -> Seq2SeqLM:
    """Vaswani et al. 2017 (arXiv:1706.03762) as BART has it: learned positions, one embedding for source, target and output."""
    config = BartConfig(
        vocab_size=words,
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=2 * width,
        decoder_ffn_dim=2 * width,
        max_position_embeddings=POSITIONS,
        dropout=0.3,
        activation_function="relu",
        pad_token_id=padding,
        eos_token_id=end,
        bos_token_id=start,
        decoder_start_token_id=start,
        forced_eos_token_id=None,
    )
    return Seq2SeqLM(BartForConditionalGeneration(config))


def bert_gpt(
    words: int, padding: int, end: int, start: int, layers: int = 3, width: int = 256, heads: int = 4
) -> Seq2SeqLM:
    """A BERT reads, a GPT-2 with cross-attention writes: transformers' EncoderDecoderModel (Rothe et al. 2020, arXiv:1907.12461)."""
    encoder = BertConfig(
        vocab_size=words,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=2 * width,
        max_position_embeddings=POSITIONS,
        hidden_dropout_prob=0.3,
        attention_probs_dropout_prob=0.1,
        pad_token_id=padding,
    )
    decoder = GPT2Config(
        vocab_size=words,
        n_positions=POSITIONS,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        n_inner=2 * width,
        resid_pdrop=0.3,
        embd_pdrop=0.3,
        bos_token_id=start,
        eos_token_id=end,
        add_cross_attention=True,
        is_decoder=True,
    )
    config = EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id, config.pad_token_id = start, padding
    return Seq2SeqLM(EncoderDecoderModel(config=config))


def network(name: Network, words: int, padding: int, end: int, start: int) -> Seq2SeqLM:
    """One of the two by name, with random weights."""
    return {"transformer": transformer, "bert-gpt": bert_gpt}[name](words, padding, end, start)


def writing(padding: int, end: int, start: int, **fields: Any) -> Writing:
    """Answers of at most 48 tokens by beams of 4, 16 of them timed: a caption of Multi30k has 15 on average.

    Args:
        fields: of Writing: what judges the answers.
    """
    generation = Generation(end=end, padding=padding, start=start, new_tokens=48, beams=4)
    return Writing(seq2seq_parts, generation, timed_tokens=16, **fields)


def loss(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy over the tokens that count, a tenth of it spread over all words (label smoothing)."""
    return functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=IGNORED, label_smoothing=0.1)
