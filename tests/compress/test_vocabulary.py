import json
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from transformers import BertConfig

from benchmarks.metrics import Accuracy
from compress.prune import Prune
from compress.step import StepContext
from compress.vocabulary import TrimmedEmbedding, Vocabulary
from compress.vocabulary.trimmed import trimmed
from compress.workload import TensorBatches, Workload
from examples.sst2.minilm import SentenceClassifier
from export.calling import call
from export.errors import InputError, UnsupportedError
from export.to_onnx import to_onnx

TOKENS, WIDTH = 300, 16
USED = torch.arange(0, 300, 3)
"""What training data have: every third token."""


class Bag(nn.Module):
    """The mean of the tokens' vectors, and a linear layer."""

    def __init__(self, table=None):
        super().__init__()
        self.table = nn.Embedding(TOKENS, WIDTH) if table is None else table
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, ids):
        return self.head(self.table(ids).mean(dim=1))


class Tied(Bag):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(WIDTH, TOKENS, bias=False)
        self.out.weight = self.table.weight


class Shifted(Bag):
    def forward(self, ids):
        return super().forward(ids.flip(1))


class Scaled(nn.Embedding):
    def forward(self, ids):
        return 2 * super().forward(ids)


def sentences(tokens, samples=64, length=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = tokens[torch.randint(0, len(tokens), (samples, length), generator=generator)]
    ids[:, 0] = tokens[torch.arange(samples) % len(tokens)]
    return ids


def context_of(model, folder, train=None, name="ids", **others):
    train = sentences(USED, 128) if train is None else train
    batches = TensorBatches({name: train, **others}, torch.arange(len(train)) % 3, batch_size=32)
    inputs = {name: train[:4], **{each: tensor[:4] for each, tensor in others.items()}}
    workload = Workload(
        model=model,
        example_inputs=inputs,
        dynamic_axes={each: {0: "batch", 1: "length"} for each in inputs},
        train=batches,
        validation=batches,
        evaluation=batches,
        loss=nn.functional.cross_entropy,
        metric=Accuracy(),
    )
    return StepContext(workload, model, folder, folder, seed=0, speedup=None)


@pytest.fixture
def bag():
    torch.manual_seed(0)
    return Bag().eval()


def test_a_token_of_the_data_keeps_its_vector_and_all_others_share_the_mean_of_theirs(bag, tmp_path):
    weight, used = bag.table.weight.detach().clone(), USED.tolist()
    others = [token for token in range(TOKENS) if token not in used]
    result = Vocabulary().apply(bag, context_of(bag, tmp_path))
    table = result.model.table
    assert torch.equal(table(USED), weight[used])
    assert torch.allclose(table(torch.tensor(others)), weight[others].mean(dim=0).expand(200, WIDTH), atol=1e-7)
    assert table.embedding.weight.shape == (101, WIDTH)
    (told,) = result.facts["embeddings"]
    assert (told["name"], told["reads"], told["rows_before"], told["rows_after"]) == ("table", "ids", 300, 101)
    assert result.facts["parameters"]["before"] - result.facts["parameters"]["after"] == 199 * WIDTH
    json.dumps(result.facts)


def test_rare_tokens_go_too_but_not_those_that_the_recipe_keeps(bag, tmp_path):
    train = torch.cat([sentences(USED[:10], 100), torch.tensor([[299, 298, 0, 0, 0, 0, 0]])])
    result = Vocabulary(minimum_count=2, keep=(5, 298)).apply(bag, context_of(bag, tmp_path, train))
    rows = result.model.table.rows
    shared = int(rows[299])
    alone = {token for token in range(TOKENS) if int(rows[token]) != shared}
    assert alone == {*USED[:10].tolist(), 5, 298}
    share = result.facts["embeddings"][0]["validation_tokens_that_share_a_row"]
    assert share == pytest.approx(1 / (101 * 7), rel=1e-6)  # token 299, once


def test_the_padding_row_stays(tmp_path):
    torch.manual_seed(0)
    model = Bag(nn.Embedding(TOKENS, WIDTH, padding_idx=1))
    table = Vocabulary().apply(model, context_of(model, tmp_path)).model.table
    assert torch.equal(table(torch.tensor([1])), torch.zeros(1, WIDTH))


def test_factors_are_the_best_of_their_rank_for_the_tokens_as_often_as_they_come():
    generator = torch.Generator().manual_seed(0)
    whole = nn.Embedding(40, 8)
    counts = torch.randint(1, 50, (40,), generator=generator)
    new = trimmed(whole, counts, torch.ones(40, dtype=torch.bool), rank=3)
    weight = whole.weight.detach().double().numpy()
    error = (new(torch.arange(40)).detach().double().numpy() - weight) ** 2
    values = np.linalg.svd(np.sqrt(counts.numpy())[:, None] * weight, compute_uv=False)
    # Eckart and Young 1936: the least squared error of rank 3 is the sum of the other squared singular values
    assert (counts.numpy()[:, None] * error).sum() == pytest.approx((values[3:] ** 2).sum(), rel=1e-5)


def test_a_frozen_table_stays_frozen(tmp_path):
    model = Bag()
    model.table.weight.requires_grad_(False)
    table = Vocabulary(rank=4).apply(model, context_of(model, tmp_path)).model.table
    assert not any(parameter.requires_grad for parameter in table.parameters())


@pytest.mark.parametrize("step", [Vocabulary(), Vocabulary(rank=5), Vocabulary(minimum_count=0, rank=3)])
def test_the_stage_is_restored_from_its_file_and_exports(bag, step, tmp_path):
    untouched = Bag()
    context = context_of(bag, tmp_path)
    model = step.apply(bag, context).model.eval()
    again = step.restore(untouched, tmp_path)
    again.load_state_dict(model.state_dict())
    ids = sentences(torch.arange(TOKENS), 6, length=11, seed=3)
    assert torch.equal(model(ids), again.eval()(ids))
    workload = context.workload
    onnx = to_onnx(again, workload.example_inputs, workload.dynamic_axes, ("logits",), tmp_path / "bag.onnx", 18)
    (found,) = onnxruntime.InferenceSession(onnx.path).run(None, {"ids": ids.numpy()})
    assert np.allclose(found, model(ids).detach().numpy(), atol=1e-5)


def test_a_pruned_bert_with_a_trimmed_vocabulary_is_exact(tmp_path):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=TOKENS, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
    )
    model = SentenceClassifier(config, classes=3).eval()
    context = context_of(model, tmp_path, name="input_ids", attention_mask=torch.ones(128, 7, dtype=torch.int64))
    before = call(model, context.workload.example_inputs)[0]
    step = Vocabulary()
    result = step.apply(model, context)
    # the positions' table of 512 rows does not read an input: no row of it goes
    assert [each["name"] for each in result.facts["embeddings"]] == ["bert.embeddings.word_embeddings"]
    assert [each["where"] for each in result.facts["left_alone"]] == ["bert.embeddings.position_embeddings"]
    assert torch.allclose(call(result.model, context.workload.example_inputs)[0], before, atol=1e-6)
    pruned = Prune(macs_ratio=1.5, multiple_of=1).apply(result.model, replace(context, folder=tmp_path))
    assert pruned.facts["exactness"] <= 1e-4
    assert isinstance(pruned.model.bert.embeddings.word_embeddings, TrimmedEmbedding)


@pytest.mark.parametrize(
    ("make", "name", "reason"),
    [
        (Tied, "ids", "its weights serve elsewhere too"),
        (Shifted, "ids", "does not read the values of one input"),
        (lambda: Bag(Scaled(TOKENS, WIDTH)), "ids", "a Scaled, which may do more"),
        (lambda: Bag(nn.Embedding(TOKENS, WIDTH, max_norm=1.0)), "ids", "max_norm"),
        (Bag, "position_ids", "positions that no training sample reaches"),
        (lambda: Bag(nn.Embedding(200, WIDTH)), "ids", "no embedding of 256 rows or more"),
    ],
)
def test_what_is_no_table_of_tokens_is_left_alone_with_its_reason(make, name, reason, tmp_path):
    model = make()
    with pytest.raises(UnsupportedError, match=reason):
        Vocabulary().apply(model, context_of(model, tmp_path, sentences(torch.arange(0, 200, 3)), name=name))


def test_a_vocabulary_that_is_all_used_is_no_smaller(bag, tmp_path):
    with pytest.raises(UnsupportedError, match="table: training data have every token of it"):
        Vocabulary().apply(bag, context_of(bag, tmp_path, sentences(torch.arange(TOKENS), 300)))


def test_the_report_warns_where_validation_data_lose_many_tokens(bag, tmp_path):
    context = context_of(bag, tmp_path)
    other = TensorBatches({"ids": torch.full((10, 7), 1)}, torch.zeros(10, dtype=torch.int64), batch_size=5)
    result = Vocabulary().apply(bag, replace(context, workload=replace(context.workload, validation=other)))
    assert result.warnings == (
        "vocabulary: 100.0 % of the validation data's tokens have no row of their own in table; a lower minimum_count keeps more",
    )


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Vocabulary(exclude=("tables",)), "vocabulary.exclude: 'tables' fits no module of Bag"),
        (Vocabulary(keep=(300,)), "vocabulary.keep: table has the ids 0 to 299, found 300"),
        (Vocabulary(rank=16), "vocabulary.rank: 16 is no less than the width of table, 16"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(bag, step, message, tmp_path):
    with pytest.raises(InputError, match=message):
        step.apply(bag, context_of(bag, tmp_path))


def test_an_excluded_table_stays(bag, tmp_path):
    with pytest.raises(UnsupportedError, match="table: the recipe excludes it"):
        Vocabulary(exclude=("tab*",)).apply(bag, context_of(bag, tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minimum_count": -1}, "minimum_count must be 0 or more, found -1"),
        ({"rank": 0}, "rank must be 1 or more, found 0"),
        ({"minimum_count": 0}, "minimum_count: 0 keeps every token"),
        ({"keep": (3, -2)}, "a token's id is 0 or more, found -2"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(**options)


@pytest.mark.parametrize("text", ["{", '{"version": 2}', '{"version": 1, "embeddings": {"table": {"rows": 3}}}'])
def test_an_unreadable_file_is_refused(bag, text, tmp_path):
    (tmp_path / "vocabulary.json").write_text(text)
    with pytest.raises(InputError, match="not what the vocabulary step wrote"):
        Vocabulary().restore(bag, tmp_path)


def test_a_file_of_another_model_is_refused(bag, tmp_path):
    Vocabulary().apply(bag, context_of(bag, tmp_path))
    with pytest.raises(InputError, match="the model has no embedding 'table'"):
        Vocabulary().restore(nn.Sequential(nn.Linear(2, 2)), tmp_path)
