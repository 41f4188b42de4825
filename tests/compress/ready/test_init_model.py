"""compress init --model: a recipe that runs as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, ResNetConfig, ResNetForImageClassification

from compress.recipe import load_recipe
from tests.compress.conftest import Cli
from tests.compress.ready.folders import SIZES, classifier, gpt, reviews, running_text, save


def test_a_recipe_for_a_folder_passes_check(cli: Cli, tmp_path: Path) -> None:
    classifier(tmp_path / "models" / "bert")
    reviews(tmp_path / "reviews.csv", 200)
    code, out, _ = cli("init", "mine", "--model", "models/bert", "--data", "reviews.csv")
    assert code == 0
    assert "next: compress check mine/recipe.yaml" in out
    code, out, err = cli("check", "mine/recipe.yaml")
    assert (code, err) == (0, "")
    assert "mine: the recipe, its workload and its data are in order" in out
    code, _, err = cli("check", "mine/recipe.yaml", "--set", "benchmark.sizes.length=41")
    assert code == 2
    assert "benchmark: at length 41 the model fails in torch (" in err
    code, _, err = cli("init", "mine", "--model", "models/bert")
    assert code == 2
    assert "recipe.yaml: is there already" in err


def test_without_data_check_says_what_is_missing(cli: Cli, tmp_path: Path) -> None:
    classifier(tmp_path / "bert")
    _, out, _ = cli("init", "mine", "--model", "bert")
    assert "next: name your data in it, then: compress check" in out
    code, _, err = cli("check", "mine/recipe.yaml")
    assert code == 2
    assert "workload.huggingface.data: is still the placeholder of compress init; name a .csv or .tsv file" in err


def test_a_model_of_few_positions_gets_answers_that_fit_and_others_are_refused(cli: Cli, tmp_path: Path) -> None:
    gpt(tmp_path / "gpt")
    running_text(tmp_path / "book.txt", 800)
    cli("init", "mine", "--model", "gpt", "--data", "book.txt")
    code, _, err = cli("check", "mine/recipe.yaml")
    assert (code, err) == (0, "")
    code, _, err = cli("check", "mine/recipe.yaml", "--set", "benchmark.sizes.length=18")
    assert code == 2
    assert "at prompts of 18 and answers of 16 tokens the model fails in torch (IndexError: index out of range" in err
    assert "name other sizes, or fewer tokens of an answer (new_tokens)" in err
    code, _, err = cli("check", "mine/recipe.yaml", "--set", "benchmark.lengths=[4, 20]")
    assert "at prompts of 20 and answers of 16" in err


@pytest.mark.parametrize("said", [True, False])
def test_an_image_classifier_gets_an_image_folder(cli: Cli, tmp_path: Path, said: bool) -> None:
    torch.manual_seed(0)
    ResNetForImageClassification(ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1])).save_pretrained(
        tmp_path / "net"
    )
    if said:
        (tmp_path / "net" / "preprocessor_config.json").write_text("{}")
    cli("init", "mine", "--model", tmp_path / "net")
    recipe = load_recipe(tmp_path / "mine" / "recipe.yaml")
    assert not isinstance(recipe.workload, str)
    assert recipe.workload.kind == "image_folder"
    assert vars(recipe.workload)["model"] == str(tmp_path / "net")
    assert vars(recipe.workload)["size"] == (None if said else 224)


def test_what_is_not_recognised_is_said(cli: Cli, tmp_path: Path) -> None:
    save(BertModel(BertConfig(**SIZES)), tmp_path / "base")
    (tmp_path / "empty").mkdir()
    for words, message in (
        (("--model", "base"), "(BertModel) are of no task that is ready-made: sequence-classification, token-"),
        (("--model", "nowhere"), "--model: 'nowhere' is no folder"),
        (("--model", "empty"), "--model: 'empty' has no config.json with a model_type"),
        (("--data", "x"), "--data goes with --model"),
    ):
        code, _, err = cli("init", "mine", *words)
        assert code == 2
        assert message in err
    assert not (tmp_path / "mine").exists()
