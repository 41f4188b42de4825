"""Tiny models that write and learn a rule in seconds: a GPT-2 that counts on, a BART that answers each word with the next, and a
reader of strips of grey."""

from __future__ import annotations

from pathlib import Path

WORKLOAD = """
import torch
from torch import nn
from transformers import BartConfig, BartForConditionalGeneration, GPT2Config, GPT2LMHeadModel
from transformers import ViTConfig, VisionEncoderDecoderConfig, VisionEncoderDecoderModel

from benchmarks.preprocessing import ImagePreprocessing
from compress import BLEU, ROUGE, Perplexity, TensorBatches, Workload
from compress.generation import Generation, Writing
from compress.generation.transformers_parts import CausalLM, PictureToText, Seq2SeqLM, causal_parts, seq2seq_parts

PADDING, END, START, WORDS = 0, 1, 2, 24


def loss(logits, target):
    return nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-100)


def trained(model, batches, steps):
    torch.set_num_threads(1)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    for step in range(steps):
        for inputs, target in batches:
            optimizer.zero_grad()
            loss(model(**inputs), target).backward()
            optimizer.step()
    return model.eval()


def counting(first, last):
    # Sequences that go up by two steps in turns, around the circle of the words; no two are the same.
    circle, order = WORDS - 3, torch.randperm((WORDS - 3) * 25, generator=torch.Generator().manual_seed(0))
    number = order[first:last, None]
    begin, one, two = number % circle, number // circle % 5 + 1, number // circle // 5 + 1
    place = torch.arange(13)
    tokens = 3 + (begin + (place + 1) // 2 * one + place // 2 * two) % circle
    return {"input_ids": tokens[:, :-1].contiguous()}, tokens[:, 1:].contiguous()


def gpt(layers=2):
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=WORDS, n_positions=64, n_embd=32, n_layer=layers, n_head=4, bos_token_id=START, eos_token_id=END,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )
    train = TensorBatches(*counting(0, 384), batch_size=32, shuffle=True)
    model = trained(CausalLM(GPT2LMHeadModel(config)), train, 12)
    return Workload(
        model=model,
        example_inputs=counting(0, 2)[0],
        dynamic_axes={"input_ids": {0: "batch", 1: "length"}},
        train=train,
        validation=TensorBatches(*counting(384, 424), batch_size=20),
        evaluation=TensorBatches(*counting(424, 484), batch_size=20),
        loss=loss,
        metric=Perplexity(),
        writing=Writing(causal_parts, Generation(end=END, padding=PADDING, new_tokens=6)),
    )


def answering(samples, seed):
    # The answer to each word is the word after it; sources differ in length.
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(3, WORDS - 1, (samples, 5), generator=generator)
    length = torch.randint(3, 6, (samples, 1), generator=generator)
    mask = (torch.arange(5) < length).long()
    source = torch.where(mask == 1, words, PADDING)
    answer = torch.where(mask == 1, words + 1, END)
    answer = torch.cat([answer, torch.full((samples, 1), END)], 1)
    behind = torch.arange(6) > length
    target = torch.where(behind, -100, answer)
    given = torch.cat([torch.full((samples, 1), START), torch.where(behind, PADDING, answer)[:, :-1]], 1)
    return {"input_ids": source, "attention_mask": mask, "decoder_input_ids": given}, target


def decode(ids):
    ids = ids[: ids.index(END)] if END in ids else ids
    return " ".join(f"w{token}" for token in ids if token != PADDING)


def prompts(samples, seed):
    inputs, target = answering(samples, seed)
    texts = tuple(decode([token for token in row if token >= 0]) for row in target.tolist())
    source = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    return TensorBatches(source, torch.arange(samples), batch_size=20), texts


def bart():
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=WORDS, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=32, dropout=0.0,
        pad_token_id=PADDING, eos_token_id=END, bos_token_id=START, decoder_start_token_id=START,
        forced_eos_token_id=None, init_std=0.1,
    )
    train = TensorBatches(*answering(256, 1), batch_size=32, shuffle=True)
    model = trained(Seq2SeqLM(BartForConditionalGeneration(config)), train, 40)
    validation, first = prompts(20, 2)
    evaluation, second = prompts(40, 3)
    shifted = TensorBatches(evaluation.inputs, evaluation.target + len(first), batch_size=20)
    axes = {name: {0: "batch", 1: "length"} for name in ("input_ids", "attention_mask")}
    return Workload(
        model=model,
        example_inputs=answering(2, 0)[0],
        dynamic_axes=axes | {"decoder_input_ids": {0: "batch", 1: "answer"}},
        train=train,
        validation=TensorBatches(*answering(40, 2), batch_size=20),
        evaluation=TensorBatches(*answering(60, 3), batch_size=20),
        loss=loss,
        metric=Perplexity(),
        writing=Writing(
            seq2seq_parts,
            Generation(end=END, padding=PADDING, start=START, new_tokens=8, beams=2),
            BLEU(first + second, decode),
            validation=validation,
            evaluation=shifted,
        ),
    )


def pictures(samples, seed):
    # Three strips of a grey each; what is to be written are their greys, and strips that stay black end it.
    generator = torch.Generator().manual_seed(seed)
    strips = torch.randint(3, 9, (samples, 3), generator=generator)
    shown = torch.arange(3) < torch.randint(1, 4, (samples, 1), generator=generator)
    greys = torch.where(shown, strips - 2.0, 0.0) / 3 + 0.02 * torch.randn(samples, 3, generator=generator)
    pixels = greys.repeat_interleave(4, 1)[:, None, None].expand(-1, 1, 4, -1).contiguous()
    answer = torch.cat([torch.where(shown, strips, END), torch.full((samples, 1), END)], 1)
    behind = torch.cat([torch.zeros(samples, 1, dtype=torch.bool), ~shown], 1)
    target = torch.where(behind, -100, answer)
    given = torch.cat([torch.full((samples, 1), START), torch.where(behind, PADDING, answer)[:, :-1]], 1)
    return {"pixel_values": pixels, "decoder_input_ids": given}, target


def reader():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    encoder = ViTConfig(**sizes, image_size=(4, 12), patch_size=4, num_channels=1, initializer_range=0.1)
    decoder = GPT2Config(
        vocab_size=WORDS, n_positions=16, n_embd=32, n_layer=1, n_head=2, bos_token_id=START, eos_token_id=END,
        is_decoder=True, add_cross_attention=True, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, initializer_range=0.1,
    )
    both = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    train = TensorBatches(*pictures(384, 1), batch_size=32, shuffle=True)
    model = trained(PictureToText(VisionEncoderDecoderModel(both), (1, 4, 12)), train, 24)
    answered = {}
    for name, seed in (("validation", 2), ("evaluation", 3)):
        inputs, target = pictures(40, seed)
        texts = [decode([token for token in row if token >= 0]) for row in target.tolist()]
        seen = sum(len(each) for _, each in answered.values())
        answered[name] = TensorBatches({"pixel_values": inputs["pixel_values"]}, torch.arange(40) + seen, 20), texts
    return Workload(
        model=model,
        example_inputs=pictures(2, 0)[0],
        dynamic_axes={"pixel_values": {0: "batch"}, "decoder_input_ids": {0: "batch", 1: "answer"}},
        train=train,
        validation=TensorBatches(*pictures(40, 2), batch_size=20),
        evaluation=TensorBatches(*pictures(60, 3), batch_size=20),
        loss=loss,
        metric=Perplexity(),
        preprocessing=ImagePreprocessing("pixel_values", size=(4, 12), channels="L"),
        class_names=tuple(f"w{token}" for token in range(WORDS)),
        writing=Writing(
            seq2seq_parts,
            Generation(end=END, padding=PADDING, start=START, new_tokens=5, beams=2),
            ROUGE([text for _, texts in answered.values() for text in texts], decode),
            **{name: batches for name, (batches, _) in answered.items()},
        ),
    )
"""

RECIPE = """\
name: writers
seed: 0
workload: writers.py:{which}
arguments: {arguments}
steps:
{steps}  - quantize: {{calibration_samples: 16, schemes: [{schemes}]}}
targets: [{targets}]
benchmark: {{batch_sizes: [1], threads: 1, seconds: 0.2, processes: 2, half_width: 0.5}}
budget: {{}}
"""


PRUNE = "  - prune: {channels_removed: 0.4, multiple_of: 1, importance: fisher, repair_samples: 32}\n"


def write_writer(folder: Path, which: str, targets: str, schemes: str, steps: str = "", arguments: str = "{}") -> Path:
    """A folder with the workload and a recipe for one of its models; the recipe's path."""
    (folder / "writers.py").write_text(WORKLOAD)
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(which=which, targets=targets, schemes=schemes, steps=steps, arguments=arguments))
    return path
