"""A small TrOCR (Li et al. 2021, arXiv:2109.10282): a vision transformer reads a picture, a decoder of text writes what it says."""

from __future__ import annotations

from rows import END, HEIGHT, LONGEST, PADDING, START, WIDTH, WORDS
from torch import Tensor
from torch.nn import functional
from transformers import TrOCRConfig, VisionEncoderDecoderConfig, VisionEncoderDecoderModel, ViTConfig

from compress.generation.transformers_parts import PictureToText

SPREAD = 0.1
"""Of the first weights: with transformers' 0.02 so narrow a network does not find where to look in a dozen epochs."""


def reader(width: int = 96, layers: int = 4, behind: int = 2) -> PictureToText:
    """With random weights.

    Args:
        width: of both.
        layers, behind: of the encoder and of the decoder.
    """
    encoder = ViTConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=4 * width,
        image_size=(HEIGHT, WIDTH),
        patch_size=8,
        num_channels=1,
        initializer_range=SPREAD,
    )
    decoder = TrOCRConfig(
        vocab_size=len(WORDS),
        d_model=width,
        decoder_layers=behind,
        decoder_attention_heads=4,
        decoder_ffn_dim=4 * width,
        max_position_embeddings=LONGEST + 2,
        pad_token_id=PADDING,
        bos_token_id=START,
        eos_token_id=END,
        decoder_start_token_id=START,
        is_decoder=True,
        add_cross_attention=True,
        init_std=SPREAD,
    )
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    return PictureToText(VisionEncoderDecoderModel(config), (1, HEIGHT, WIDTH))


def loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of the next token; -100 counts nowhere."""
    return functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-100)
