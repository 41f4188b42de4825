"""The property that pruning stands on, over random models: pruned(x) equals original(x) with the removed slices at zero.

What is drawn: a program that makes a model (random_models.py), how many channels go from each family, and which blocks
are skipped. Twelve examples each keep it below ten seconds; raise `max_examples` after a change to a rule.
"""

import copy
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.prune.blocks import blocks_of
from compress.prune.exactness import check, relative_difference
from compress.prune.follow import follow
from compress.prune.plan import PrunePlan, apply, zero
from compress.prune.rewrite import rewritable, rewrite
from export.calling import call
from tests.compress import random_models

pytestmark = pytest.mark.filterwarnings("ignore:The tensor attributes self", "ignore:Using a non-full backward hook")

PROGRAMS = st.lists(st.integers(0, 59), min_size=16, max_size=40)
FAST = settings(max_examples=12, deadline=None, derandomize=True, database=None)


def images():
    return {"input": torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)}


def tokens():
    return {"tokens": torch.arange(10).reshape(2, 5) % 11}


def removals(following, choose):
    """From each family some of its groups, but not all; often none."""
    families = {}
    for group in following.groups:
        families.setdefault(group.family, []).append(group)
    return [
        group
        for family in families.values()
        for group in choose.sample(family, choose.choice((0, choose.randrange(len(family)))))
    ]


def prove(original, inputs, seed):
    choose = random.Random(seed)
    model = copy.deepcopy(original)
    rewrite(model, rewritable(model))
    groups = removals(follow(model, inputs), choose)
    blocks = [block for block in blocks_of(model, inputs) if choose.random() < 0.2]
    plan = PrunePlan.of(model, groups, blocks)
    verdict = check(model, plan, [inputs])
    assert verdict.refusal is None, (verdict, plan)
    again = PrunePlan.from_json(plan.to_json())
    assert again == plan
    apply(model, plan)
    restored, zeroed = copy.deepcopy(original), copy.deepcopy(original)
    apply(restored, again)
    restored.load_state_dict(model.state_dict(), strict=True)
    zero(zeroed, again)
    with torch.no_grad():
        (found,), (expected,) = call(restored, inputs), call(zeroed, inputs)
    assert relative_difference(found, expected) <= 1e-9


@FAST
@given(program=PROGRAMS, seed=st.integers(0, 99))
def test_image_models(program, seed):
    torch.manual_seed(seed)
    prove(random_models.ready(random_models.image_model(program)), images(), seed)


@FAST
@given(program=PROGRAMS, seed=st.integers(0, 99))
def test_sequence_models(program, seed):
    torch.manual_seed(seed)
    prove(random_models.ready(random_models.SequenceModel(program)), tokens(), seed)
