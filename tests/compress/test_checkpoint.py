"""Weights files of every kind, sound, damaged and hostile."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from compress.checkpoint import load_weights, save_weights, stated, weights_hash
from compress.read_tensors import read_tensors
from export.errors import InputError, QualityError, SecurityError


class Tied(nn.Module):
    """A language model's usual tie: the output layer has the embedding's weights."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.words.weight


class Touch:
    """A pickle of this creates the file `canary` when it is loaded the unsafe way."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.canary}",)


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def write(value: object, folder: Path) -> Path:
    path = folder / "weights.pt"
    torch.save(value, path)
    return path


def assert_loads(path: Path) -> None:
    model = network(seed=1)
    load_weights(model, path)
    assert weights_hash(model) == weights_hash(network())


def test_safetensors_round_trip(tmp_path: Path) -> None:
    save_weights(network(), tmp_path / "model.safetensors")
    assert_loads(tmp_path / "model.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("first", [b"\x80", b"PK"])
def test_safetensors_header_as_long_as_other_files_begin(first: bytes, tmp_path: Path) -> None:
    """The header's length comes first in the file: lengths of 0x..80 begin as a pickle does, 0x4b50 as a zip archive."""
    path, weights = tmp_path / "weights.safetensors", {"w": torch.arange(3.0)}
    for padding in range(0x4B50):
        content = safetensors.torch.save(weights, {"padding": "x" * padding})
        if content.startswith(first):
            break
    path.write_bytes(content)
    assert content.startswith(first) and torch.equal(read_tensors(path)["w"], weights["w"])


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_nested_under_the_usual_keys(key: str, tmp_path: Path) -> None:
    assert_loads(write({key: network().state_dict(), "epoch": 3, "best": 0.9}, tmp_path))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_wrappers_prefixes(prefix: str, tmp_path: Path) -> None:
    assert_loads(write({prefix + name: tensor for name, tensor in network().state_dict().items()}, tmp_path))


def test_old_torch_format(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "old.th", _use_new_zipfile_serialization=False)
    assert_loads(tmp_path / "old.th")


def test_model_that_has_a_module_of_that_name_keeps_its_names(tmp_path: Path) -> None:
    model, other = nn.DataParallel(network()), nn.DataParallel(network(1))
    load_weights(other, write(model.state_dict(), tmp_path))
    assert weights_hash(other) == weights_hash(model)


def test_figures_are_kept_beside_the_weights(tmp_path: Path) -> None:
    model = nn.Linear(2, 3)
    save_weights(model, tmp_path / "told.safetensors", {"test_accuracy": 0.9025})
    save_weights(model, tmp_path / "silent.safetensors")
    torch.save(model.state_dict(), tmp_path / "other.pt")
    found = [
        stated(tmp_path / name, "test_accuracy") for name in ("told.safetensors", "silent.safetensors", "other.pt")
    ]
    assert found == [0.9025, None, None] and stated(tmp_path / "told.safetensors", "test_f1") is None
    load_weights(model, tmp_path / "told.safetensors")


def test_tied_tensors_are_written_once_and_stay_tied(tmp_path: Path) -> None:
    model, other = Tied(), Tied()
    save_weights(model, tmp_path / "tied.safetensors")
    assert list(safetensors.torch.load_file(tmp_path / "tied.safetensors")) == ["words.weight"]
    load_weights(other, tmp_path / "tied.safetensors")
    assert torch.equal(other.head.weight, model.head.weight)
    assert other.head.weight is other.words.weight


def test_tensors_that_are_views_of_one_memory(tmp_path: Path) -> None:
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            whole = torch.arange(6.0)
            self.register_buffer("left", whole[:3])
            self.register_buffer("strided", whole[::2])

    save_weights(Views(), tmp_path / "views.safetensors")
    assert safetensors.torch.load_file(tmp_path / "views.safetensors")["strided"].tolist() == [0, 2, 4]


def test_counters_of_batches_may_be_missing(tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in network().state_dict().items() if "num_batches" not in name}
    assert_loads(write(state, tmp_path))


def test_attention_mask_of_minus_infinity_is_no_fault(tmp_path: Path) -> None:
    model = nn.Module()
    model.register_buffer("mask", torch.full((2, 2), -torch.inf).triu(1))
    load_weights(model, write(model.state_dict(), tmp_path))


def test_hash_knows_names_dtypes_shapes_and_values_but_not_the_order() -> None:
    def of(**tensors: Tensor) -> str:
        model = nn.Module()
        for name, tensor in tensors.items():
            model.register_buffer(name, tensor)
        return weights_hash(model)

    one, two = torch.ones(2, 3), torch.zeros(2)
    assert of(a=one, b=two) == of(b=two.clone(), a=one.clone())
    others = [of(a=one), of(a=one, c=two), of(a=one, b=two + 1), of(a=one.T, b=two), of(a=one, b=two.double())]
    assert len({of(a=one, b=two), *others}) == 6
    assert of(a=one.T.contiguous().T) == of(a=one), "the layout in memory does not count"
    assert of(a=torch.tensor(1.0, dtype=torch.bfloat16)) != of(a=torch.tensor(2.0, dtype=torch.bfloat16))


def test_missing_unexpected_and_shapes_are_named_and_nothing_is_loaded(tmp_path: Path) -> None:
    state = dict(network().state_dict())
    state["extra"] = state.pop("0.bias")
    state["2.weight"] = state["2.weight"].T
    model = network(1)
    with pytest.raises(
        InputError, match=r"missing \(1\): 0.bias; unexpected \(1\): extra; other shapes \(1\): 2.weight "
    ) as e:
        load_weights(model, write(state, tmp_path))
    assert "2.weight (3, 2) in the file, (2, 3) in the model. Nothing was loaded" in str(e.value)
    assert weights_hash(model) == weights_hash(network(1))


def test_long_lists_of_names_are_cut(tmp_path: Path) -> None:
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(4)))
    with pytest.raises(InputError, match=r"missing \(8\): 0.weight, .*, 2.weight and 3 more; unexpected \(1\): x"):
        load_weights(model, write({"x": torch.ones(1)}, tmp_path))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"none.pt: no weights file there \(No such file or directory\); check the path"
    ):
        load_weights(network(), tmp_path / "none.pt")


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "w.pt").touch()
    with pytest.raises(InputError, match=r"is empty \(0 bytes\); copy or download it again"):
        load_weights(network(), tmp_path / "w.pt")


@pytest.mark.parametrize("kept", [0.01, 0.1, 0.3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["zip", "old"])
def test_torch_file_cut_short(kept: float, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(network().state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
    content = path.read_bytes()[: int(path.stat().st_size * kept)]
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"not a whole weights file \({len(content)} bytes found\): "):
        load_weights(network(), path)


@pytest.mark.parametrize("kept", [1, 8, 9, 30, 400, 619])
def test_safetensors_file_cut_short(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(network(), path)
    content = path.read_bytes()
    path.write_bytes(content[:kept])
    found = rf"{kept} bytes found"
    with pytest.raises(InputError, match=found) as e:
        load_weights(network(), path)
    header_bytes = 8 + int.from_bytes(content[:8], "little")
    if kept > header_bytes:
        assert f"{len(content)} expected from its header; copy or download it again" in str(e.value)


def test_flipped_byte_in_a_weight_is_found(tmp_path: Path) -> None:
    model = network()
    path = write(model.state_dict(), tmp_path)
    content = bytearray(path.read_bytes())
    content[content.find(model[0].weight.detach().numpy().tobytes()) + 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"the checksum of its part '.*data/\d' does not fit"):
        load_weights(network(), path)


@pytest.mark.parametrize("value", [b"just some text, and then some more", b"\x80nonsense", b"PK\x03\x04nonsense"])
def test_file_that_is_no_checkpoint(value: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(value)
    with pytest.raises(InputError, match=r"not a whole weights file .* is needed. Copy or download it again"):
        load_weights(network(), tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], r"holds a list; a dict of named tensors is needed"),
        ({}, r"0 entries that are no tensors: nothing at all"),
        ({"epoch": 3, "w": torch.ones(1)}, r"found 1 entries that are no tensors: epoch"),
    ],
)
def test_torch_file_without_named_tensors(value: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        load_weights(network(), write(value, tmp_path))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_hostile_pickle_is_refused_by_name_and_never_run(how: str, protocol: int, tmp_path: Path) -> None:
    path, canary = tmp_path / "w.pt", tmp_path / "canary"
    payload = {"weight": Touch(canary)}
    if how == "torch":
        torch.save(payload, path, pickle_protocol=protocol)
    else:
        path.write_bytes(pickle.dumps(payload, protocol=protocol))
    with pytest.raises(
        SecurityError, match=r"refused: loading it would run '(posix|os|nt).system'.*save the tensors: torch"
    ):
        load_weights(network(), path)
    assert not canary.exists()


def test_whole_model_is_refused_with_the_way_to_save_it(tmp_path: Path) -> None:
    with pytest.raises(
        SecurityError, match=r"would run 'torch.nn.modules.*torch.save\(model.state_dict\(\), 'weights.pt'\)"
    ):
        load_weights(network(), write(network(), tmp_path))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_archive_is_refused(tmp_path: Path) -> None:
    torch.jit.trace(network().eval(), torch.ones(1, 4)).save(tmp_path / "w.pt")
    with pytest.raises(
        SecurityError, match=r"TorchScript archive, which is code; .* Save model.state_dict\(\) instead"
    ):
        load_weights(network(), tmp_path / "w.pt")


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_not_finite_weights(bad: float, tmp_path: Path) -> None:
    state = network().state_dict()
    state["0.weight"][0, :2] = bad
    model = network(1)
    with pytest.raises(
        QualityError, match=r"weight '0.weight': 2 of 12 values are NaN or Inf; use a checkpoint from before"
    ):
        load_weights(model, write(state, tmp_path))
    assert weights_hash(model) == weights_hash(network(1))
