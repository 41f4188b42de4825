import copy
import itertools

import pytest
import torch
from torch import nn

from compress.prune.channels import Slice
from compress.prune.exactness import check, relative_difference
from compress.prune.follow import follow
from compress.prune.plan import PrunePlan, apply
from compress.prune.rewrite import PlainRmsNorm, rewritable, rewrite, rewritten_in
from compress.prune.separate_attention import SeparateAttention
from export.errors import InputError
from tests.compress import prune_models as models
from tests.compress import random_models

CAUSAL = torch.triu(torch.ones(5, 7, dtype=torch.bool), 1)
PADDED = torch.tensor([[False] * 7, [False] * 4 + [True] * 3, [False] * 7])
MASKS = [None, CAUSAL, torch.randn(5, 7, generator=torch.Generator().manual_seed(3)), torch.randn(6, 5, 7)]


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"kdim": 6, "vdim": 4}])
def test_separate_attention_answers_as_torch_does(batch_first, options):
    fused = models.made(lambda: nn.MultiheadAttention(8, 2, batch_first=batch_first, **options))
    if fused.in_proj_bias is not None:
        nn.init.normal_(fused.in_proj_bias)
    separate = SeparateAttention(fused)
    query, key, value = torch.randn(3, 5, 8), torch.randn(3, 7, fused.kdim), torch.randn(3, 7, fused.vdim)
    if not batch_first:
        query, key, value = (each.transpose(0, 1) for each in (query, key, value))
    paddings = [None, PADDED, PADDED.float() * -1e4]
    for mask, padding, weights, mean in itertools.product(MASKS, paddings, [False, True], [False, True]):
        how = {"need_weights": weights, "average_attn_weights": mean, "attn_mask": mask, "key_padding_mask": padding}
        if mask is not None and padding is not None and mask.dtype != padding.dtype:
            continue  # torch warns of it
        expected, found = fused(query, key, value, **how), separate(query, key, value, **how)
        assert relative_difference(found[0], expected[0]) <= 1e-5
        assert (found[1] is None) == (expected[1] is None) == (not weights)
        assert found[1] is None or relative_difference(found[1], expected[1]) <= 1e-5


def test_separate_attention_takes_one_sample_and_the_causal_hint():
    fused = models.made(lambda: nn.MultiheadAttention(8, 2, batch_first=True))
    x, mask = torch.randn(5, 8), CAUSAL[:, :5]
    separate = SeparateAttention(fused)
    assert relative_difference(separate(x, x, x)[0], fused(x, x, x)[0]) <= 1e-5
    how = {"attn_mask": mask, "is_causal": True, "need_weights": False}
    assert relative_difference(separate(x, x, x, **how)[0], fused(x, x, x, **how)[0]) <= 1e-5
    with pytest.raises(RuntimeError, match="give attn_mask too"):
        separate(x, x, x, is_causal=True)


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.encoder = nn.TransformerEncoderLayer(8, 4, 12, 0.0, batch_first=True)
        self.decoder = nn.TransformerDecoderLayer(8, 4, 12, 0.0, batch_first=True, norm_first=True)
        self.norm = random_models.LlamaRMSNorm(8)
        self.out = nn.Linear(8, 5)

    def forward(self, tokens):
        x = self.embedding(tokens)
        return self.out(self.norm(self.decoder(x[:, :3], self.encoder(x))))


def test_heads_go_from_torch_layers_and_the_fused_way_stays_shut():
    model = models.made(Transformer)
    original, inputs = copy.deepcopy(model), models.tokens()
    with torch.no_grad():
        before = model(**inputs)
    assert rewritable(model) == ("encoder.self_attn", "decoder.self_attn", "decoder.multihead_attn", "norm")
    rewrite(model, rewritable(model))
    assert rewritten_in(model) == ("encoder.self_attn", "decoder.self_attn", "decoder.multihead_attn", "norm")
    assert rewritable(model) == ()
    with torch.no_grad():
        assert relative_difference(model(**inputs), before) <= 1e-5
    heads = [group for group in follow(model, inputs).groups if len(group.slices[0].indices) == 2]
    assert len(heads) == 3 * 4
    assert Slice("decoder.multihead_attn.out_proj.weight", 1, (6, 7)) in heads[-1].slices
    plan = PrunePlan.of(model, [*heads[:3], *heads[-2:]])
    assert check(original, plan, [inputs]).refusal is None
    apply(original, PrunePlan.from_json(plan.to_json()))
    assert (original.encoder.self_attn.num_heads, original.decoder.multihead_attn.num_heads) == (1, 2)
    assert isinstance(original.norm, PlainRmsNorm)
    with torch.no_grad():
        assert original(**inputs).shape == (2, 3, 5)


def test_what_cannot_be_rewritten_stays():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.extra = nn.MultiheadAttention(8, 2, add_zero_attn=True)
            self.shared = nn.MultiheadAttention(8, 2)
            self.tied = nn.MultiheadAttention(8, 2)
            self.tied.in_proj_weight = self.shared.in_proj_weight

        class ShiftedRMSNorm(random_models.LlamaRMSNorm):
            def forward(self, x):
                return super().forward(x) + x

    odd = Odd()
    odd.norm = Odd.ShiftedRMSNorm(8)
    assert rewritable(odd) == ()


def test_a_place_without_another_form_is_refused():
    model = models.made(Transformer)
    with pytest.raises(InputError, match="pruning plan: 'out': the model has nothing to rewrite there; apply the plan"):
        rewrite(model, ["encoder.self_attn", "out"])
    assert rewritten_in(model) == ()


def test_a_narrower_rms_norm_has_another_weight_and_epsilon():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm, self.out = nn.Linear(6, 8), nn.RMSNorm(8, eps=0.5), nn.Linear(8, 5)

        def forward(self, x):
            return self.out(self.norm(self.first(x)))

    model, inputs = models.made(Normed), models.rows()
    groups = follow(model, inputs).groups
    assert len(groups) == 8
    plan = PrunePlan.of(model, groups[:6])
    assert check(model, plan, [inputs]).difference <= 1e-6
    apply(model, plan)
    assert model.norm.normalized_shape == (2,) and model.norm.eps == 2.0  # 0.5 * 8 / 2
    assert torch.allclose(model.norm.weight, torch.full((2,), 2.0))  # 1 * sqrt(8 / 2)
