"""The THUCNews example: reading, splitting, masking, the two networks, the training script, and a whole run on tokens."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from benchmarks.metrics import IGNORED
from compress.characters import character_tokenizer
from compress.load_workload import load_workload
from compress.pipeline import run
from compress.recipe import load_recipe
from export.errors import InputError
from tests.examples.conftest import EXAMPLES, Load

pytest.importorskip("transformers", reason="transformers is not installed: pip install edge-compress[nlp]")

SUBJECTS = ("球赛胜败进攻门将", "股市涨跌基金银行", "影视歌星票房导演")


def headline(number: int) -> str:
    """Six characters of one of three subjects."""
    subject = SUBJECTS[number % 3]
    return "".join(subject[(number * 5 + place * place) % 8] for place in range(6)) + str(number)


def write_data(folder: Path, dev: int = 60, test: int = 24) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "class.txt").write_text("sports\nstocks\nfilms\n")
    for name, numbers in (("dev", range(dev)), ("test", range(1000, 1000 + test))):
        (folder / f"{name}.txt").write_text("".join(f"{headline(each)}\t{each % 3}\n" for each in numbers), "utf-8")
    return folder


@pytest.fixture
def small(load: Load, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The training script, with the smallest BERT."""
    train = load("thucnews", "train")
    for name, value in (("LAYERS", 1), ("WIDTH", 16), ("HEADS", 2)):
        monkeypatch.setattr(sys.modules["bert"], name, value)
    return train


def trained(train: Any, data: Path, out: Path) -> Path:
    """What train.py leaves behind, after three epochs each."""
    out.mkdir()
    torch.manual_seed(0)
    told = train.read_headlines(data)
    tokenizer = character_tokenizer(told.train.headlines)
    tokenizer.save(str(out / "tokenizer.json"))
    job = train.Job(told, tokenizer, out, batch_size=8)
    train.classify(job, train.pretrain(job, 3, 0.01), 3, 0.01)
    return out


def test_every_tenth_headline_of_dev_is_validation_and_none_of_test_is_learnt(load: Load, tmp_path: Path) -> None:
    write_data(tmp_path, dev=41)
    with (tmp_path / "test.txt").open("a", encoding="utf-8") as file:
        file.write(f"{headline(5)}\t2\n")
    told = load("thucnews", "headlines").read_headlines(tmp_path)
    rest = [number for number in range(41) if number != 5]
    assert told.classes == ("sports", "stocks", "films")
    assert told.validation.headlines == tuple(headline(number) for number in rest[::10])
    assert told.train.headlines == tuple(headline(number) for place, number in enumerate(rest) if place % 10)
    assert told.train.labels[:3] == (1, 2, 0) and len(told.test.labels) == 25


@pytest.mark.parametrize("line", ["no label", "股市\tx", "股市\t3", "\t1", "股市\t-1"])
def test_a_wrong_line_is_refused_with_its_number(load: Load, tmp_path: Path, line: str) -> None:
    write_data(tmp_path)
    (tmp_path / "dev.txt").write_text(f"股市\t1\n{line}\n", "utf-8")
    with pytest.raises(
        InputError, match=r"dev\.txt:2: found .*; each line must be a headline, a tab, and the number .* 2 "
    ):
        load("thucnews", "headlines").read_headlines(tmp_path)


def test_a_missing_or_empty_file_says_what_the_folder_should_hold(load: Load, tmp_path: Path) -> None:
    read = load("thucnews", "headlines").read_headlines
    with pytest.raises(
        InputError, match=r"class\.txt is missing; the folder must hold class\.txt .*arguments\.data=FOLDER"
    ):
        read(tmp_path)
    write_data(tmp_path)
    (tmp_path / "test.txt").write_text("")
    with pytest.raises(InputError, match=r"test\.txt: holds no line; it must hold at least one"):
        read(tmp_path)


def test_missing_weights_and_unknown_metrics_are_refused(load: Load, tmp_path: Path) -> None:
    workload = load("thucnews", "workload")
    for function, name in ((workload.headlines, "headlines"), (workload.masked, "masked")):
        with pytest.raises(InputError, match=rf"{name}\.safetensors is missing; .* python examples/thucnews/train\.py"):
            function(data=str(tmp_path), weights=str(tmp_path))
    with pytest.raises(InputError, match=r"metric must be one of accuracy, macro_f1, found 'f1'"):
        workload.headlines(data=str(tmp_path), weights=str(tmp_path), metric="f1")


def test_a_seventh_of_the_tokens_is_masked_as_in_bert(load: Load) -> None:
    """Of 40,000 tokens: 15 % are drawn, of these 80 % masked and about 10 % exchanged; the rest is as it was."""
    ids = torch.randint(5, 50, (400, 100), generator=torch.Generator().manual_seed(0))
    masked, target = load("thucnews", "headlines").mask_tokens(ids, 50, torch.Generator().manual_seed(1))
    drawn = target != IGNORED
    assert torch.equal(target[drawn], ids[drawn]) and torch.equal(masked[~drawn], ids[~drawn])
    shares = [float(each.float().mean()) for each in (drawn, (masked == 4)[drawn], (masked == ids)[drawn])]
    assert shares == pytest.approx([0.15, 0.8, 0.1], abs=0.02)
    assert masked[drawn].min() == 4


def test_each_row_has_a_masked_token_and_special_ones_are_never_drawn(load: Load) -> None:
    ids = torch.tensor([[2, 9, 3, 0, 0], [2, 7, 8, 9, 3], [2, 1, 1, 3, 0]]).repeat(200, 1)
    _, target = load("thucnews", "headlines").mask_tokens(ids, 20, torch.Generator().manual_seed(0))
    drawn = target != IGNORED
    assert not drawn[ids < 5].any()
    assert drawn.sum(1).reshape(200, 3).amin(0).tolist() == [1, 1, 0]


def test_the_decoder_is_the_table_of_words(small: Any, load: Load) -> None:
    bert = sys.modules["bert"]
    model = bert.MaskedLanguageModel(bert.encoder(60)).eval()
    assert model.decoder.weight is model.bert.embeddings.word_embeddings.weight
    ids, mask = torch.tensor([[2, 9, 3, 0]]), torch.tensor([[1, 1, 1, 0]])
    assert model(ids, mask).shape == (1, 4, 60)
    assert torch.allclose(model(ids, mask)[:, :3], model(ids[:, :3], mask[:, :3]), atol=1e-5)


def test_training_goes_on_from_what_is_there_and_both_losses_fall(
    small: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    trained(small, data, out)
    assert sorted(file.name for file in out.iterdir()) == [
        "headlines.safetensors",
        "masked.safetensors",
        "tokenizer.json",
    ]
    told = capsys.readouterr().out
    assert told.count("masked: token_accuracy on validation data") == 3
    assert told.count("headlines: accuracy on validation data") == 3 and "headlines.safetensors: " in told
    tokenizer = small.Tokenizer.from_file(str(out / "tokenizer.json"))
    again = small.pretrain(small.Job(small.read_headlines(data), tokenizer, out), epochs=3)
    assert "masked.safetensors is there; delete it to train it anew" in capsys.readouterr().out
    assert again.decoder.weight.shape == (tokenizer.get_vocab_size(), 16)


def test_the_masked_language_model_goes_through_all_steps(small: Any, tmp_path: Path) -> None:
    """Pruned, distilled token by token, quantized, measured by tokens; the original is what train.py stated."""
    data, out = write_data(tmp_path / "data"), trained(small, write_data(tmp_path / "data"), tmp_path / "weights")
    recipe = yaml.safe_load((EXAMPLES / "thucnews" / "bert-all.yaml").read_text())
    recipe |= {
        "workload": f"{EXAMPLES / 'thucnews' / 'workload.py'}:masked",
        "arguments": {"data": str(data), "weights": str(out), "batch_size": 8},
        "steps": [
            {"prune": {"macs_ratio": 1.3, "multiple_of": 1, "importance": "fisher"}},
            {"distill": {"epochs": 1, "optimizer": "adamw", "learning_rate": 0.001, "loss": "dkd"}},
            {"quantize": {"calibration_samples": 40, "qat": {"epochs": 1}}},
        ],
        "targets": ["onnxruntime_mobile"],
        "benchmark": {"seconds": 0.2, "processes": 1, "half_width": 0.9, "throughput": False, "sizes": {"length": 8}},
        "budget": {"metric_drop": 0.9},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    report = run(tmp_path / "recipe.yaml", tmp_path / "run")
    assert report.metric == "token_accuracy"
    assert [stage.name for stage in report.stages] == ["original", "prune", "distill"]
    chosen = report.chosen("onnxruntime_mobile")
    assert chosen is not None and chosen.evaluation is not None and chosen.evaluation.samples == 24
    tried = {row.scheme for row in report.rows if row.target == "onnxruntime_mobile"}
    assert {"int8", "int8-dynamic", "int8-qat"} <= tried
    assert report.stages[2].facts["epochs"][0]["loss"] > 0


def test_macro_f1_and_the_headlines_of_a_recipe(small: Any, tmp_path: Path) -> None:
    data, out = write_data(tmp_path / "data"), trained(small, write_data(tmp_path / "data"), tmp_path / "weights")
    arguments = [f"arguments.data={data}", f"arguments.weights={out}"]
    found = load_workload(load_recipe(EXAMPLES / "thucnews" / "bert-int8.yaml", arguments))
    assert found.metric.name == "accuracy" and found.baseline is not None
    other = load_workload(
        load_recipe(EXAMPLES / "thucnews" / "bert-int8.yaml", [*arguments, "arguments.metric=macro_f1"])
    )
    assert other.metric.name == "f1_macro" and other.baseline is None
    assert found.class_names == ("sports", "stocks", "films")
    masked = load_workload(load_recipe(EXAMPLES / "thucnews" / "masked-int8.yaml", arguments))
    assert masked.metric.name == "token_accuracy" and masked.baseline is not None
