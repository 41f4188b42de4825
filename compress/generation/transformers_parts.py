"""The parts of a language model of transformers, whatever its architecture: its own forward, with its cache laid open.

A cache is a mapping inside the library; here every key and value is an input and an output of its own, with the number of
heads that the layer has, so that pruned layers keep smaller caches. Masks are made from positions alone: the ones that
transformers builds depend on the data, which does not export.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from inspect import signature
from typing import Any, ClassVar
from weakref import WeakSet

import torch
from torch import Tensor, nn

from compress.generation.parts import Part
from export.errors import UnsupportedError
from export.parity import relative_difference

_PROVEN: WeakSet[nn.Module] = WeakSet()
"""Models whose parts answer as they do by themselves."""
MASKED = -1e4
"""Added to the scores of what must not be read: far below any score, and still a number in FP16."""
SAME = 1e-3
"""Relative; what the parts may differ from the whole model by."""
LONGEST_PROOF = 1024
"""Tokens; a window of attention up to it is proven by a longer text."""
LENGTH, PAST, BATCH, KEPT = 5, 3, 2, 4
"""Sizes of the example; all differ, and all are 2 or more, else tracing takes them for constants."""


class CausalLM(nn.Module):
    """A causal language model as the steps see it: logits (batch, length, vocabulary) of token ids, int64 (batch, length)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=input_ids, use_cache=False).logits
        return logits


class Seq2SeqLM(nn.Module):
    """An encoder-decoder as the steps see it: logits of the decoder's next tokens, (batch, answer, vocabulary).

    `attention_mask` (batch, length) is 1 for a token of the source and 0 for padding behind it.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor) -> Tensor:
        return _logits(self.model, {"input_ids": input_ids}, additive(attention_mask), decoder_input_ids)


class _OfOneShape(nn.Module):
    """An encoder-decoder whose sources are floating point and all of one shape.

    Args:
        shape: of a single source.
    """

    source: ClassVar[str]

    def __init__(self, model: nn.Module, shape: Sequence[int]) -> None:
        super().__init__()
        self.model, self.shape = model, tuple(shape)


class PictureToText(_OfOneShape):
    """As Seq2SeqLM, of pictures: float32 (batch, channels, height, width), a VisionEncoderDecoderModel's (TrOCR, captions)."""

    source = "pixel_values"

    def forward(self, pixel_values: Tensor, decoder_input_ids: Tensor) -> Tensor:
        return _logits(self.model, {self.source: pixel_values}, None, decoder_input_ids)


class SpeechToText(_OfOneShape):
    """As Seq2SeqLM, of sound: float32 (batch, bands, frames), spectra of one length, as Whisper takes them."""

    source = "input_features"

    def forward(self, input_features: Tensor, decoder_input_ids: Tensor) -> Tensor:
        return _logits(self.model, {self.source: input_features}, None, decoder_input_ids)


class _CausalDecoder(nn.Module):
    """Logits of the last tokens of `input_ids`, as many as `wanted` (batch, kept) has columns, and the cache after all of them,
    which follow on the tokens of `past`.

    The values of `wanted` are never read. The product with the vocabulary is most of what a long prompt costs a small model.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        taken = signature(model.forward).parameters
        self.keeps, self.positions = "logits_to_keep" in taken, "position_ids" in taken
        self.windows = _windows(model)

    def forward(self, input_ids: Tensor, padding: Tensor, wanted: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        before, length = past[0].shape[2], input_ids.shape[1]
        kept = torch.arange(length - wanted.shape[1], length)
        rows, columns = torch.arange(before, before + length), torch.arange(before + length)
        tokens = columns >= padding[:, None]
        seen = (columns <= rows[:, None])[None, None] & tokens[:, None, None]
        masks = {
            kind: torch.where(seen if window is None else seen & (columns > rows[:, None] - window), 0.0, MASKED)
            for kind, window in self.windows.items()
        }
        positions = {
            "attention_mask": masks if len(masks) > 1 else next(iter(masks.values())),
            "position_ids": (rows - padding[:, None]).clamp(min=0),
        }
        result = self.model(
            input_ids=input_ids,
            # A model without positions (BLOOM) has distances, which it counts along the row of tokens.
            **(positions if self.positions else {"attention_mask": tokens.long()}),
            past_key_values=_cache(past),
            use_cache=True,
            **({"logits_to_keep": kept} if self.keeps else {}),
        )
        logits = result.logits if self.keeps else result.logits[:, kept]
        return (logits, *_tensors(result.past_key_values))


class _Encoder(nn.Module):
    """The keys and values of the decoder's cross-attention, which are the same at every step.

    Args:
        names: of what it is given: the source, and `attention_mask` where sources are padded.
    """

    def __init__(self, model: nn.Module, names: Iterable[str]) -> None:
        super().__init__()
        self.model, self.names = model, tuple(names)

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        from transformers import DynamicCache, EncoderDecoderCache

        source = dict(zip(self.names, given, strict=True))
        mask, cache = _masking(source), EncoderDecoderCache(DynamicCache(), DynamicCache())
        # A step of the decoder fills the cache; what else it computes is of no output and falls away when exported.
        self.model(
            encoder_outputs=(_encoder(self.model)(**(source | mask)).last_hidden_state,),
            decoder_input_ids=torch.zeros(given[0].shape[0], 1, dtype=torch.long),
            past_key_values=cache,
            use_cache=True,
            **mask,
        )
        return _tensors(cache.cross_attention_cache)


class _CrossDecoder(nn.Module):
    """One step of an encoder-decoder's decoder, from its own cache and from what the encoder gave.

    Args:
        hidden_size: of the encoder.
        masked: whether sources are padded; then `attention_mask` (batch, length) comes before the caches.
    """

    def __init__(self, model: nn.Module, hidden_size: int, masked: bool) -> None:
        super().__init__()
        self.model, self.hidden_size, self.masked = model, hidden_size, masked

    def forward(self, input_ids: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        from transformers import EncoderDecoderCache

        source = {"attention_mask": given[0]} if self.masked else {}
        caches = given[len(source) :]
        half = len(caches) // 2
        cache = EncoderDecoderCache(_cache(caches[:half]), _cache(caches[half:]))
        cache.is_updated = dict.fromkeys(range(half // 2), True)
        before, (batch, length) = caches[0].shape[2], input_ids.shape
        seen = torch.arange(before + length) <= torch.arange(before, before + length)[:, None]
        read = given[0].shape if self.masked else (batch, caches[half].shape[2])
        result = self.model(
            # Read for its shape alone: the cache holds what comes of it.
            encoder_outputs=(torch.zeros(*read, self.hidden_size),),
            decoder_input_ids=input_ids,
            decoder_attention_mask=torch.where(seen, 0.0, MASKED)[None, None].expand(batch, 1, -1, -1),
            past_key_values=cache,
            use_cache=True,
            **_masking(source),
        )
        return (result.logits, *_tensors(result.past_key_values.self_attention_cache))


def causal_parts(model: nn.Module) -> Mapping[str, Part]:
    """The decoder of a CausalLM, with its cache.

    Raises:
        UnsupportedError: if it does not answer as the model does by itself: its attention reads other tokens than these parts
            let it.
    """
    assert isinstance(model, CausalLM), "causal_parts is for compress.generation.transformers_parts.CausalLM"
    with torch.no_grad():
        result = model.model(input_ids=_ids(PAST), use_cache=True)
    past = _named("past", _kept(getattr(result, "past_key_values", None), model.model))
    example = {"input_ids": _ids(LENGTH), "padding": torch.tensor([0, 1]), "wanted": _ids(KEPT), **past}
    of_prompt = {"input_ids": {0: "batch", 1: "length"}, "padding": {0: "batch"}, "wanted": {0: "batch", 1: "kept"}}
    axes = {**of_prompt, **_axes(past, "past")}
    decoder = _CausalDecoder(model.model)
    if model not in _PROVEN:
        ids = _ids(_proof_length(decoder.windows, model.model)) % _config(model.model).vocab_size
        nothing = [tensor[:, :, :0] for tensor in past.values()]
        with torch.no_grad():
            _refuse_others(
                model(ids), decoder(ids, torch.zeros(BATCH, dtype=torch.long), ids, *nothing)[0], model.model
            )
        _PROVEN.add(model)
    return {"decoder": Part(decoder, example, axes, ("logits", *_renamed(past)))}


def seq2seq_parts(model: nn.Module) -> Mapping[str, Part]:
    """The encoder of a Seq2SeqLM, PictureToText or SpeechToText with the keys and values of every cross-attention, and the
    decoder with its cache.

    Raises:
        UnsupportedError: as `causal_parts`.
    """
    assert isinstance(model, (Seq2SeqLM, _OfOneShape)), "seq2seq_parts is for the encoder-decoders of this file"
    source, source_axes = _example_source(model)
    encoder = _Encoder(model.model, source)
    with torch.no_grad():
        hidden = _encoder(model.model)(**(source | _masking(source))).last_hidden_state
        caches = model.model(encoder_outputs=(hidden,), decoder_input_ids=_ids(PAST), use_cache=True).past_key_values
    past = _named("past", _tensors(caches.self_attention_cache))
    cross = _named("cross", _tensors(caches.cross_attention_cache))
    mask = {name: source[name] for name in source if name == "attention_mask"}
    axes = {"input_ids": {0: "batch", 1: "answer"}, **{name: source_axes[name] for name in mask}}
    decoder = Part(
        _CrossDecoder(model.model, hidden.shape[-1], masked=bool(mask)),
        {"input_ids": _ids(BATCH), **mask, **past, **cross},
        {**axes, **_axes(past, "past"), **_axes(cross, "length" if mask else None)},
        ("logits", *_renamed(past)),
    )
    if model not in _PROVEN:
        if mask:
            mask = {"attention_mask": torch.tensor([[1] * LENGTH, [1] * PAST + [0] * (LENGTH - PAST)])}
        ids, nothing = _ids(PAST), [tensor[:, :, :0] for tensor in past.values()]
        with torch.no_grad():
            whole = model.model(**source | mask, decoder_input_ids=ids, use_cache=False)
            given = encoder(*(source | mask).values())
            found = decoder.module(ids, *mask.values(), *nothing, *given)[0]
        _refuse_others(whole.logits, found, model.model)
        _PROVEN.add(model)
    return {"encoder": Part(encoder, source, source_axes, tuple(cross)), "decoder": decoder}


def _example_source(model: Seq2SeqLM | _OfOneShape) -> tuple[dict[str, Tensor], dict[str, dict[int, str]]]:
    """What its encoder reads, and which axes of it vary."""
    if isinstance(model, Seq2SeqLM):
        source = {"input_ids": _ids(LENGTH), "attention_mask": torch.ones(BATCH, LENGTH, dtype=torch.long)}
        return source, {name: {0: "batch", 1: "length"} for name in source}
    source = {model.source: torch.randn(BATCH, *model.shape, generator=torch.Generator().manual_seed(0))}
    return source, {model.source: {0: "batch"}}


def _windows(model: nn.Module) -> dict[str, int | None]:
    """How many tokens back the layers of each kind read, in transformers' names of the kinds; None: all."""
    config = _config(model)
    window = getattr(config, "sliding_window", None)
    kinds = dict.fromkeys(getattr(config, "layer_types", None) or ["sliding_attention" if window else "full_attention"])
    return {kind: window if kind == "sliding_attention" else None for kind in kinds}


def _proof_length(windows: Mapping[str, int | None], model: nn.Module) -> int:
    """More than a window holds, where that is affordable."""
    longer = LENGTH + max((window for window in windows.values() if window is not None), default=0)
    places = getattr(_config(model), "max_position_embeddings", None) or longer
    return longer if longer <= min(LONGEST_PROOF, places) else LENGTH


def _config(model: nn.Module) -> Any:
    return model.config.get_text_config()  # type: ignore[union-attr,operator]


def _refuse_others(expected: Tensor, found: Tensor, model: nn.Module) -> None:
    difference, _ = relative_difference(expected.numpy(), found.numpy())
    if not difference < SAME:
        raise UnsupportedError(
            f"writing: the parts of {type(model).__name__} do not answer as the model does by itself (logits differ by "
            f"{difference:.1g} of their scale): its attention reads other tokens than the parts let it. Give parts of your own "
            "(docs/writing.md)"
        )


def _logits(model: nn.Module, source: Mapping[str, Tensor], mask: Tensor | None, decoder_input_ids: Tensor) -> Tensor:
    masked = {} if mask is None else {"attention_mask": mask}
    hidden = _encoder(model)(**source, **masked).last_hidden_state
    logits: Tensor = model(
        encoder_outputs=(hidden,), decoder_input_ids=decoder_input_ids, use_cache=False, **masked
    ).logits
    return logits


def additive(attention_mask: Tensor) -> Tensor:
    """What is added to the scores, shape (batch, 1, 1, length): 0 for a token and MASKED for padding."""
    return (1.0 - attention_mask[:, None, None, :].float()) * MASKED


def _masking(source: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`attention_mask` as it is added to the scores, where sources are padded."""
    return {name: additive(mask) for name, mask in source.items() if name == "attention_mask"}


def _encoder(model: nn.Module) -> Any:
    return model.get_encoder()  # type: ignore[operator]


def _ids(length: int) -> Tensor:
    return torch.arange(BATCH * length).reshape(BATCH, length) + 1


def _cache(tensors: Sequence[Tensor]) -> Any:
    from transformers import DynamicCache

    cache = DynamicCache()
    for layer, (key, value) in enumerate(zip(tensors[::2], tensors[1::2], strict=True)):
        cache.update(key, value, layer)
    return cache


def _tensors(cache: Any) -> tuple[Tensor, ...]:
    """Key and value of each layer, in turns, each of shape (batch, heads, tokens, width).

    Without the empty ones: transformers makes a cache for as many layers as a configuration's encoder has (Donut's decoder).
    """
    return tuple(tensor for layer in cache.layers if layer.keys is not None for tensor in (layer.keys, layer.values))


def _kept(cache: Any, model: nn.Module) -> tuple[Tensor, ...]:
    """As `_tensors`, where every layer has a key and a value for each token."""
    layers = getattr(cache, "layers", None)
    if not layers or any(getattr(layer, "keys", None) is None for layer in layers):
        raise UnsupportedError(
            f"writing: {type(model).__name__} does not keep a key and a value of each token in every layer, which is the only cache "
            "that these parts know; write parts of your own (docs/writing.md)"
        )
    return _tensors(cache)


def _named(prefix: str, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    kinds = ("key", "value")
    return {f"{prefix}_{kinds[place % 2]}.{place // 2}": tensor for place, tensor in enumerate(tensors)}


def _renamed(past: Mapping[str, Tensor]) -> tuple[str, ...]:
    return tuple(name.replace("past_", "present_", 1) for name in past)


def _axes(tensors: Mapping[str, Tensor], tokens: str | None) -> dict[str, dict[int, str]]:
    return {name: {0: "batch", **({} if tokens is None else {2: tokens})} for name in tensors}
