from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from compress.padded import LengthBatches
from compress.samples import Calibration, check_calibration, read_split, sample_digest, training_fingerprint
from compress.workload import TensorBatches
from export.errors import InputError


def batches(images: torch.Tensor, batch_size: int = 4) -> TensorBatches:
    return TensorBatches({"image": images}, torch.zeros(len(images), dtype=torch.long), batch_size=batch_size)


def test_calibration_that_holds_evaluation_samples_is_refused_by_content() -> None:
    images = torch.randn(30, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    evaluation = read_split("evaluation", batches(images[:10]))
    clean = Calibration(batches(images[10:]), 100)
    assert check_calibration(clean, evaluation) == 20
    mixed = Calibration(batches(torch.cat([images[10:], images[2:7].clone()])), 100)
    with pytest.raises(InputError, match=r"calibration: 5 of its samples are evaluation samples too"):
        check_calibration(mixed, evaluation)


def test_padding_does_not_hide_a_sentence() -> None:
    short, padded = np.array([[101, 7, 102]]), np.array([[101, 7, 102, 0, 0]])
    assert sample_digest({"ids": short}, 0) == sample_digest({"ids": padded}, 0)
    assert sample_digest({"ids": short}, 0) != sample_digest({"ids": np.array([[101, 8, 102]])}, 0)


def test_calibration_is_read_anew_and_stops_at_its_limit() -> None:
    calibration = Calibration(batches(torch.arange(40.0).reshape(10, 1, 2, 2)), 7)
    first, second = [each["image"] for each in calibration], [each["image"] for each in calibration]
    assert [array.shape for array in first] == [(1, 1, 2, 2)] * 7
    assert np.array_equal(np.concatenate(first), np.concatenate(second))


def test_empty_and_broken_data_are_refused() -> None:
    evaluation = read_split("evaluation", batches(torch.zeros(3, 1, 2, 2)))
    with pytest.raises(InputError, match=r"calibration: holds no sample"):
        check_calibration([], evaluation)
    with pytest.raises(InputError, match=r"evaluation: holds no sample"):
        read_split("evaluation", batches(torch.zeros(0, 1, 2, 2)))
    broken = torch.zeros(6, 1, 2, 2)
    broken[5, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match=r"evaluation: input 'image' of batch 1 holds 1 NaN or infinite values"):
        read_split("evaluation", batches(broken))


def test_a_split_in_which_no_label_counts_is_refused() -> None:
    """Of one batch none may count, of all of them some must."""
    ids, labels = torch.arange(24).reshape(6, 4), torch.full((6, 4), -100)
    with pytest.raises(
        InputError, match=r"^evaluation: every label is -100, which counts nowhere: there is nothing to measure"
    ):
        read_split("evaluation", TensorBatches({"ids": ids}, labels, batch_size=2))
    labels[5, 1] = 7
    assert read_split("evaluation", TensorBatches({"ids": ids}, labels, batch_size=2)).samples == 6


def test_a_shuffled_split_gives_the_same_samples_at_every_pass() -> None:
    shuffled = TensorBatches({"x": torch.arange(20.0)}, torch.arange(20), batch_size=6, shuffle=True)
    split = read_split("validation", shuffled)
    first, second = [target for _, target in split], [target for _, target in split]
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


def test_the_fingerprint_of_a_shuffling_loader_does_not_change_between_readings() -> None:
    samples = [({"x": torch.tensor([float(number)])}, torch.tensor(number)) for number in range(40)]
    loader = torch.utils.data.DataLoader(samples, batch_size=8, shuffle=True)
    state = torch.get_rng_state()
    assert training_fingerprint(loader) == training_fingerprint(loader)
    assert torch.equal(torch.get_rng_state(), state)
    other = torch.utils.data.DataLoader(samples[:30], batch_size=8, shuffle=True)
    assert training_fingerprint(loader) != training_fingerprint(other)


def test_the_fingerprint_takes_in_every_text_and_every_batch_of_a_list() -> None:
    """The last text alone differs, which the first batch does not show."""

    def texts(last: int) -> LengthBatches:
        ids = torch.tensor([[1, 2, 0], [3, 4, 0], [5, 6, last]])
        return LengthBatches({"ids": ids, "attention_mask": (ids > 0).long()}, torch.arange(3), 1, shuffle=True)

    for form in (lambda batches: batches, lambda batches: list(replace(batches, shuffle=False))):
        found = [training_fingerprint(form(texts(last))) for last in (7, 7, 8)]
        assert found[0] == found[1] != found[2]
