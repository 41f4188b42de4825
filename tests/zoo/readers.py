"""Noise and models of transformers that write what they read in it: the workload of pictures and sound, for which none is ready-made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile

import torch
import transformers
from torch import Tensor, nn

from compress import ROUGE, Perplexity, TensorBatches, Workload
from compress.generation import Generation, Writing
from compress.generation.transformers_parts import PictureToText, SpeechToText, seq2seq_parts

PADDING, START, END, WORDS = 0, 1, 2, 50
WRITTEN = 6
SIDE = 32

_WIDTH = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_BART_WIDTH = {"d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 64}
_TOKENS = {"vocab_size": WORDS, "pad_token_id": PADDING, "bos_token_id": START, "eos_token_id": END}
_BEHIND = {"is_decoder": True, "add_cross_attention": True}


def reading(network: str) -> Workload:
    """A network of NETWORKS with random weights, given noise and answers of random tokens."""
    torch.manual_seed(0)
    model = NETWORKS[network]()
    splits = {
        name: _drawn(samples, model) for name, samples in {"train": 96, "validation": 32, "evaluation": 32}.items()
    }
    answers = {name: (sources[model.source], target) for name, (sources, target) in splits.items() if name != "train"}
    batches = {name: TensorBatches(*split, batch_size=8) for name, split in splits.items()}
    prompts = {
        name: TensorBatches(
            {model.source: sources}, torch.arange(len(sources)) + (32 if name == "evaluation" else 0), 8
        )
        for name, (sources, _) in answers.items()
    }
    texts = tuple(_decode(row) for _, target in answers.values() for row in target.tolist())
    return Workload(
        model=model.eval(),
        example_inputs=_drawn(2, model)[0],
        dynamic_axes={model.source: {0: "batch"}, "decoder_input_ids": {0: "batch", 1: "answer"}},
        train=batches["train"],
        validation=batches["validation"],
        evaluation=batches["evaluation"],
        loss=_loss,
        metric=Perplexity(),
        writing=Writing(
            seq2seq_parts,
            Generation(end=END, padding=PADDING, start=START, new_tokens=WRITTEN, beams=2),
            ROUGE(texts, _decode),
            validation=prompts["validation"],
            evaluation=prompts["evaluation"],
        ),
    )


def _pictures(encoder: transformers.PretrainedConfig, decoder: transformers.PretrainedConfig) -> PictureToText:
    both = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    return PictureToText(transformers.VisionEncoderDecoderModel(both), (3, SIDE, SIDE))


def _vit() -> transformers.PretrainedConfig:
    return transformers.ViTConfig(**_WIDTH, image_size=SIDE, patch_size=8)


def _trocr() -> PictureToText:
    return _pictures(_vit(), transformers.TrOCRConfig(**_BART_WIDTH, **_TOKENS, **_BEHIND, max_position_embeddings=32))


def _deit_roberta() -> PictureToText:
    encoder = transformers.DeiTConfig(**_WIDTH, image_size=SIDE, patch_size=8)
    return _pictures(encoder, transformers.RobertaConfig(**_WIDTH, **_TOKENS, **_BEHIND, max_position_embeddings=34))


def _vit_gpt2() -> PictureToText:
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32}
    return _pictures(_vit(), transformers.GPT2Config(**sizes, **_TOKENS, **_BEHIND))


def _donut() -> PictureToText:
    sizes = {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4], "window_size": 2}
    encoder = transformers.DonutSwinConfig(**sizes, image_size=SIDE, patch_size=4)
    return _pictures(encoder, transformers.MBartConfig(**_BART_WIDTH, **_TOKENS, **_BEHIND, max_position_embeddings=32))


def _whisper() -> SpeechToText:
    encoder = {"encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 64, "num_mel_bins": 16}
    lengths = {"max_source_positions": 20, "max_target_positions": 32, "decoder_start_token_id": START}
    config = transformers.WhisperConfig(**_BART_WIDTH, **_TOKENS, **encoder, **lengths)
    return SpeechToText(transformers.WhisperForConditionalGeneration(config), (16, 40))


NETWORKS: Mapping[str, Callable[[], PictureToText | SpeechToText]] = {
    "trocr": _trocr,
    "deit-roberta": _deit_roberta,
    "vit-gpt2": _vit_gpt2,
    "donut": _donut,
    "whisper": _whisper,
}


def _drawn(samples: int, model: PictureToText | SpeechToText) -> tuple[dict[str, Tensor], Tensor]:
    target = torch.randint(END + 1, WORDS, (samples, WRITTEN))
    target[:, -1] = END
    given = torch.cat([torch.full((samples, 1), START), target[:, :-1]], 1)
    return {model.source: torch.randn(samples, *model.shape), "decoder_input_ids": given}, target


def _decode(ids: Sequence[int]) -> str:
    return " ".join(f"w{token}" for token in takewhile(lambda token: token != END, ids) if token != PADDING)


def _loss(logits: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())
