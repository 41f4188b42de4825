"""Configurations, by task and by transformers' name of the type, of models that are made in a moment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Configuration = Mapping[str, Any]

TOKENS = {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
BERT = {
    **TOKENS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
NARROW = {**BERT, "embedding_size": 16}
DISTILBERT = {**TOKENS, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 64}
DEBERTA = {
    **BERT,
    "relative_attention": True,
    "max_relative_positions": 64,
    "pos_att_type": ["c2p", "p2c"],
    "type_vocab_size": 0,
    "position_biased_input": False,
}
MODERN = {**BERT, "num_hidden_layers": 4, "cls_token_id": 2, "sep_token_id": 3, "local_attention": 16}
LLAMA = {**BERT, "num_key_value_heads": 2, "head_dim": 8}
WINDOWED = {**LLAMA, "sliding_window": 8}
GPT2 = {**TOKENS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
BART = {
    **TOKENS,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 64,
    "decoder_start_token_id": 3,
    "forced_eos_token_id": 3,
}
T5 = {**TOKENS, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
VIT = {
    "image_size": 64,
    "patch_size": 16,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
SWIN = {"image_size": 64, "patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4], "window_size": 4}
RESNET = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1]}
SPEECH = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_feat_extract_layers": 3,
    "conv_dim": [16, 16, 16],
    "conv_stride": [5, 2, 2],
    "conv_kernel": [10, 3, 3],
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
PYRAMID = {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1]}

ENCODERS: dict[str, Configuration] = {
    **dict.fromkeys(
        ("bert", "roberta", "xlm-roberta", "mpnet", "ernie", "megatron-bert", "convbert", "roformer"), BERT
    ),
    "distilbert": DISTILBERT,
    "albert": NARROW,
    "electra": NARROW,
    "deberta": DEBERTA,
    "deberta-v2": {**DEBERTA, "position_buckets": 16, "share_att_key": True},
    "mobilebert": {**NARROW, "intra_bottleneck_size": 16, "num_feedforward_networks": 2, "true_hidden_size": 16},
    "modernbert": MODERN,
    "fnet": BERT,
}

MODELS: dict[str, dict[str, Configuration]] = {
    "sequence-classification": {
        **ENCODERS,
        "big_bird": {**BERT, "attention_type": "original_full"},
        "gpt2": GPT2,
        "llama": LLAMA,
    },
    "token-classification": {kind: ENCODERS[kind] for kind in ("bert", "roberta", "distilbert", "electra")},
    "masked-lm": {
        kind: ENCODERS[kind] for kind in ("bert", "roberta", "distilbert", "albert", "electra", "modernbert")
    },
    "causal-lm": {
        "gpt2": GPT2,
        "gpt_neo": {
            **BERT,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 8,
        },
        "gptj": {**GPT2, "rotary_dim": 4},
        "gpt_neox": BERT,
        "opt": {**BERT, "ffn_dim": 64, "word_embed_proj_dim": 32},
        "bloom": {**TOKENS, "hidden_size": 32, "n_layer": 2, "n_head": 4},
        "falcon": {**BERT, "alibi": False, "multi_query": True},
        **dict.fromkeys(("llama", "qwen2", "qwen3", "granite", "stablelm"), LLAMA),
        **dict.fromkeys(("mistral", "gemma3_text"), WINDOWED),
        "gemma2": {**WINDOWED, "query_pre_attn_scalar": 8},
        "phi": {**BERT, "num_key_value_heads": 4},
        "phi3": {**BERT, "num_key_value_heads": 2},
        "starcoder2": {**LLAMA, "sliding_window": None},
    },
    "seq2seq": {
        **dict.fromkeys(("bart", "mbart", "pegasus", "marian", "blenderbot", "m2m_100"), BART),
        "t5": T5,
        "mt5": {**T5, "feed_forward_proj": "gated-gelu"},
    },
    "image-classification": {
        **dict.fromkeys(("vit", "beit", "deit", "data2vec-vision"), VIT),
        "dinov2": {**VIT, "mlp_ratio": 2},
        **dict.fromkeys(("swin", "swinv2"), SWIN),
        "convnext": {"image_size": 64, "patch_size": 2, "num_stages": 2, "hidden_sizes": [16, 32], "depths": [1, 1]},
        "resnet": {**RESNET, "layer_type": "basic"},
        "regnet": {**RESNET, "groups_width": 8},
        "mobilenet_v1": {"image_size": 64, "depth_multiplier": 0.25},
        "mobilenet_v2": {"image_size": 64, "depth_multiplier": 0.35},
        "efficientnet": {"image_size": 64, "width_coefficient": 0.25, "depth_coefficient": 0.25, "hidden_dim": 320},
        "mobilevit": {
            "image_size": 64,
            "hidden_sizes": [16, 24, 32],
            "neck_hidden_sizes": [8, 16, 24, 32, 40, 48, 64],
        },
        "focalnet": {**SWIN, "focal_levels": [1, 1], "focal_windows": [3, 3]},
        "swiftformer": {"image_size": 64, "embed_dims": [16, 16, 32, 32], "depths": [1, 1, 1, 1]},
        "poolformer": PYRAMID,
        "segformer": {**PYRAMID, "num_attention_heads": [1, 1, 2, 2], "decoder_hidden_size": 16},
        "pvt": {**PYRAMID, "image_size": 64, "num_attention_heads": [1, 1, 2, 2]},
        "hiera": {
            "image_size": [64, 64],
            "embed_dim": 16,
            "depths": [1, 1],
            "num_heads": [1, 2],
            "num_query_pool": 1,
            "query_stride": [2, 2],
            "masked_unit_size": [4, 4],
        },
    },
    "audio-classification": {
        **dict.fromkeys(("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "sew", "data2vec-audio"), SPEECH),
        "wav2vec2-conformer": {**SPEECH, "position_embeddings_type": "relative"},
        "audio-spectrogram-transformer": {
            **VIT,
            "num_mel_bins": 32,
            "max_length": 64,
            "frequency_stride": 16,
            "time_stride": 16,
        },
        "whisper": {
            **BART,
            "num_mel_bins": 16,
            "max_source_positions": 50,
        },
    },
}
