"""Where hints are compared: inferred from the blocks of both networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.distill import Distill
from compress.distill.features import Place, attention_places, block_places, check_maps, every_block
from compress.prune.blocks import skip
from compress.workload import TensorBatches
from export.errors import UnsupportedError
from tests.compress.test_distill import context, workload

IMAGES = {"x": torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))}


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, inner: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inner, 3, stride, 1)
        self.conv2 = nn.Conv2d(inner, outputs, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv2(torch.relu(self.conv1(x))))


class Images(nn.Module):
    """Two stages of `blocks` blocks, `width` and twice `width` channels."""

    def __init__(self, width: int, blocks: int, inner: int = 4) -> None:
        super().__init__()
        torch.manual_seed(width)
        self.stem = nn.Conv2d(3, width, 3, 1, 1)
        rest = range(blocks - 1)
        self.one = nn.Sequential(*(Block(width, width, inner) for _ in range(blocks)))
        self.two = nn.Sequential(Block(width, 2 * width, inner, 2), *(Block(2 * width, 2 * width, inner) for _ in rest))
        self.head = nn.Linear(2 * width, 2)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.two(self.one(self.stem(x))).mean((2, 3)))
        return logits


class Layer(nn.Module):
    """Self-attention of one head with separate projections, `inner` wide, beside the residual."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, inner) for _ in range(3))
        self.out = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        mixed = functional.scaled_dot_product_attention(self.query(x), self.key(x), self.value(x))
        return x + self.out(mixed)


class Sentences(nn.Module):
    def __init__(self, inner: int, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = nn.Embedding(11, 12)
        self.layers = nn.ModuleList(Layer(12, inner) for _ in range(2))
        self.head = nn.Linear(12, 2)

    def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.head(x.mean(1))
        return logits


def test_pruned_student_has_the_teachers_paths() -> None:
    found = block_places(Images(8, 3, inner=2), Images(8, 3), IMAGES)
    assert found == (
        Place("one.2", "one.2", (2, 8, 8, 8), (2, 8, 8, 8)),
        Place("two.2", "two.2", (2, 16, 4, 4), (2, 16, 4, 4)),
    )
    assert all(isinstance(place.projection(), nn.Identity) for place in found), "its channels are the teacher's"


def test_another_student_is_met_stage_by_stage() -> None:
    found = block_places(Images(4, 2), Images(8, 3), IMAGES)
    assert [(place.student, place.teacher) for place in found] == [("one.1", "one.2"), ("two.1", "two.2")]
    projection = found[1].projection()
    assert isinstance(projection, nn.Conv2d) and projection.weight.shape == (16, 8, 1, 1)


def test_a_block_that_was_skipped_is_still_a_place() -> None:
    student = Images(8, 3)
    student.one[2] = nn.Identity()
    assert block_places(student, Images(8, 3), IMAGES)[0].student == "one.2"


def test_layers_where_there_are_no_blocks() -> None:
    teacher = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(96, 2))
    assert [place.teacher for place in block_places(teacher, teacher, IMAGES)] == ["0", "2"]


def test_nothing_in_common() -> None:
    one = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2))
    other = nn.Sequential(nn.Conv2d(3, 4, 5), nn.Flatten(), nn.Linear(64, 2))
    with pytest.raises(UnsupportedError, match="no block of the student has an output of the size of one of the"):
        block_places(one, other, IMAGES)


def test_relations_of_the_last_layers_projections() -> None:
    inputs = {"ids": torch.ones(2, 5).long(), "attention_mask": torch.ones(2, 5).long()}
    found = attention_places(Sentences(8), Sentences(12), inputs)
    assert [place.student for place in found] == [f"layers.1.{name}" for name in ("query", "key", "value")]
    assert found[0].widths == (8, 12) and found[0].heads == 4


def test_relations_need_tokens_and_maps_need_images() -> None:
    with pytest.raises(UnsupportedError, match=r"relation compares tokens, and two\.2 gives shape"):
        attention_places(Images(8, 3), Images(8, 3), IMAGES)
    inputs = {"ids": torch.ones(2, 5).long(), "attention_mask": torch.ones(2, 5).long()}
    with pytest.raises(UnsupportedError, match=r"attention compares maps over images, and layers\.1 gives shape"):
        check_maps(block_places(Sentences(8), Sentences(12), inputs))


def test_every_block_that_pruning_left_is_compared() -> None:
    student = Images(8, 3, inner=2)
    skip(student, ["one.1"])
    found = every_block(student, Images(8, 3), IMAGES)
    assert [place.student for place in found] == ["one.0", "one.2", "two.0", "two.1", "two.2"]
    assert all(place.student == place.teacher and not list(place.projection().parameters()) for place in found)
    with pytest.raises(UnsupportedError, match=r"hint_places: blocks .* they share none; set hint_places to stages"):
        every_block(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), Images(8, 3), IMAGES)
    with pytest.raises(ValueError, match="hint_places: blocks says where hints: features or attention compare, found"):
        Distill(hints="relation", hint_places="blocks")
    student = Distill(hints="features", hint_places="blocks").lesson(student, Images(8, 3), images_workload(), 0)
    assert len(student.places) == 5


def test_every_layer_of_a_plain_chain_is_compared() -> None:
    """But not the last, which gives the logits; a layer that pruning narrowed gets a projection."""

    def chain(width: int) -> nn.Module:
        convolutions = nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(width, 8, 3, padding=1)
        return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(8 * 16, 6), nn.ReLU(), nn.Linear(6, 2))

    found = every_block(chain(5), chain(8), IMAGES)
    assert [(place.student, place.widths) for place in found] == [("0", (5, 8)), ("3", (8, 8)), ("5", (6, 6))]
    assert [len(list(place.projection().parameters())) for place in found] == [1, 0, 0]


def images_workload(**fields: Any) -> Any:
    x = torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    target = (x.mean((1, 2, 3)) > 0).long()
    batches = TensorBatches({"x": x}, target, batch_size=8, shuffle=True)
    return workload(batches, validation=batches, example_inputs=IMAGES, model=Images(8, 2).eval(), **fields)


@pytest.mark.parametrize("hints", ["features", "attention"])
def test_hints_bring_the_student_closer_and_leave_nothing_behind(hints: Any, tmp_path: Path) -> None:
    """A weight of 0 trains the same way without listening to the hints."""
    work, students = images_workload(), {}
    for weight in (0.0, 10.0):
        student = Images(8, 2, inner=2)
        step = Distill(4, 0.02, hints=hints, hint_weight=weight)
        folder = tmp_path / f"{weight}"
        students[weight] = step.apply(student, context(folder, work, teacher=work.model)).model
    lessons = {
        weight: Distill(hints=hints, teacher_weight=0, hint_weight=1).lesson(student, work.model, work, 0)
        for weight, student in students.items()
    }
    inputs, target = next(iter(work.train))
    far = {
        w: (lesson.loss(inputs, target) - functional.cross_entropy(students[w](**inputs), target)).item()
        for w, lesson in lessons.items()
    }
    assert far[10.0] < 0.9 * far[0.0]
    assert students[10.0].state_dict().keys() == Images(8, 2, inner=2).state_dict().keys()
    assert not students[10.0].one[1]._forward_hooks


def test_projections_are_trained_beside_another_student(tmp_path: Path) -> None:
    work = images_workload()
    lesson = Distill(hints="features").lesson(Images(4, 2), work.model, work, seed=0)
    assert [tuple(p.shape) for p in lesson.projections.parameters()] == [(8, 4, 1, 1), (16, 8, 1, 1)]
    assert {name.partition(".")[0] for name, _ in lesson.trained.named_parameters()} == {"student", "projections"}
    result = Distill(4, 0.02, hints="features").apply(Images(4, 2), context(tmp_path, work, teacher=work.model))
    assert result.facts["epochs"][-1]["loss"] < result.facts["epochs"][0]["loss"]


def test_relation_hints_train_a_transformer(tmp_path: Path) -> None:
    ids = torch.randint(0, 11, (32, 5), generator=torch.Generator().manual_seed(2))
    inputs = {"ids": ids, "attention_mask": (torch.arange(5) < 4).long().expand(32, 5)}
    batches = TensorBatches(inputs, (ids[:, 0] > 5).long(), batch_size=8)
    work = workload(batches, validation=batches, example_inputs={name: value[:2] for name, value in inputs.items()})
    step = Distill(4, 0.02, optimizer="adamw", hints="relation", hint_weight=5.0)
    result = step.apply(Sentences(8, seed=1), context(tmp_path, work, teacher=Sentences(12).eval()))
    assert result.facts["epochs"][-1]["loss"] < result.facts["epochs"][0]["loss"]
