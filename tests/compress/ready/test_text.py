"""text_csv, and huggingface for sequence classification."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import BertForSequenceClassification, DebertaV2Config, DebertaV2ForSequenceClassification

from benchmarks.metrics import F1
from benchmarks.preprocessing import TextPreprocessing
from benchmarks.wordpiece import load_tokenizer
from compress.padded import LengthBatches
from compress.pipeline import run
from compress.ready.words import Words
from compress.recipe_schema import recipe_schema
from export.errors import CompressError, InputError, QualityError, SecurityError
from tests.compress.conftest import Cli
from tests.compress.ready.folders import SIZES, SPECIAL, classifier, load, reviews, save, write_recipe

HUGGINGFACE = "huggingface: {path: bert, data: reviews, max_length: 16}"
TEXT_CSV = "text_csv: {model: bert, path: reviews, max_length: 16}"
RULE = """
import torch

class Rule(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embed, self.head = torch.nn.Embedding(40, width), torch.nn.Linear(width, 2)

    def forward(self, input_ids, attention_mask):
        real = attention_mask[:, :, None].float()
        return self.head((self.embed(input_ids) * real).sum(1) / real.sum(1))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A classifier and three splits of reviews."""
    classifier(tmp_path / "bert")
    reviews(tmp_path / "reviews" / "train.tsv", 60)
    reviews(tmp_path / "reviews" / "dev.tsv", 10, first=60)
    reviews(tmp_path / "reviews" / "test.tsv", 14, first=70)
    return tmp_path


def test_a_tokenizer_without_a_token_for_the_unknown_says_what_it_lacks() -> None:
    words = Words(Tokenizer(models.Unigram([("a", -1.0), ("b", -2.0)])), Path("tokenizer.json"), 0)
    assert words.ids("ab") == [0, 1] and words.encode([["ab"]], 4).ids.tolist() == [[0, 1]]
    lacks = (
        r"^tokenizer\.json: the tokenizer cannot read a text of the data: .*; give it a token for what it does not know"
    )
    with pytest.raises(InputError, match=lacks):
        words.ids("ax")
    with pytest.raises(InputError, match=lacks):
        words.encode([["ax"]], 4)


@pytest.mark.parametrize("written", [HUGGINGFACE, TEXT_CSV])
def test_a_folder_and_its_reviews_are_a_workload(folder: Path, written: str) -> None:
    workload = load(folder, written)
    assert isinstance(workload.train, LengthBatches)
    assert isinstance(workload.evaluation, LengthBatches)
    assert (workload.train.samples, workload.evaluation.samples) == (60, 14)
    assert list(workload.example_inputs) == ["input_ids", "attention_mask"]
    assert workload.class_names == ("0", "1")
    assert workload.metric.name == "accuracy"
    assert workload.notes == ()


def test_the_logits_are_those_of_transformers(folder: Path) -> None:
    workload = load(folder, HUGGINGFACE)
    reference = BertForSequenceClassification.from_pretrained(folder / "bert").eval()
    for inputs, _ in workload.evaluation:
        with torch.no_grad():
            torch.testing.assert_close(workload.model(**inputs), reference(**inputs).logits)


def test_a_bundle_reads_a_text_as_the_workload_does(folder: Path) -> None:
    workload = load(folder, HUGGINGFACE)
    assert isinstance(workload.preprocessing, TextPreprocessing)
    tokenize, padding = load_tokenizer(Path(workload.preprocessing.tokenizer))
    inputs, _ = next(iter(workload.evaluation))
    line = (folder / "reviews" / "test.tsv").read_text().splitlines()[1].split("\t")[0]
    made = workload.preprocessing.inputs(tokenize(line, workload.preprocessing.longest), padding)
    assert np.array_equal(made["input_ids"][0], inputs["input_ids"][0, : len(made["input_ids"][0])].numpy())
    assert inputs["attention_mask"][0].sum() == len(made["input_ids"][0])


def test_it_runs_to_an_artifact(folder: Path) -> None:
    recipe = write_recipe(
        folder, HUGGINGFACE, "steps:\n  - quantize: {calibration_samples: 32, schemes: [int8-dynamic]}\n"
    )
    report = run(recipe, folder / "run")
    assert [verdict.target for verdict in report.verdicts] == ["onnxruntime_mobile"]


def test_labels_by_the_models_own_names_go_to_its_own_numbers(folder: Path) -> None:
    classifier(folder / "named", id2label={0: "praise", 1: "blame"}, label2id={"praise": 0, "blame": 1})
    reviews(folder / "one.csv", 60, ("blame", "praise"))
    workload = load(folder, "huggingface: {path: named, data: one.csv, max_length: 16, metric: macro_f1}")
    assert workload.class_names == ("praise", "blame")
    assert workload.metric == F1("macro")
    for inputs, target in workload.evaluation:
        good = (inputs["input_ids"] == SIZES["vocab_size"] - 12).any(1)
        assert torch.equal(target, 1 - good.long())


def test_numbers_go_by_the_models_names_and_other_names_are_refused(folder: Path) -> None:
    classifier(folder / "named", id2label={0: "praise", 1: "blame"}, label2id={"praise": 0, "blame": 1})
    written = HUGGINGFACE.replace("path: bert", "path: named")
    assert load(folder, written).class_names == ("praise", "blame")
    reviews(folder / "reviews" / "train.tsv", 60, ("bad", "good"))
    with pytest.raises(
        InputError, match=r"the model's classes are praise, blame, the data's labels bad, good; use the model's"
    ):
        load(folder, written)


def test_names_of_the_data_are_sorted_where_the_model_has_none(folder: Path) -> None:
    for name, samples, first in (("train", 60, 0), ("dev", 10, 60), ("test", 14, 70)):
        reviews(folder / "reviews" / f"{name}.tsv", samples, ("worse", "better"), first)
    workload = load(folder, HUGGINGFACE)
    assert workload.class_names == ("better", "worse")


def test_one_file_is_split_by_content_and_it_is_told(folder: Path) -> None:
    reviews(folder / "one.tsv", 60)
    first, again, other = (
        load(folder, HUGGINGFACE.replace("reviews", "one.tsv"), *overrides) for overrides in ((), (), ("seed=1",))
    )
    held = [
        {row.numpy().tobytes() for inputs, _ in each.evaluation for row in inputs["input_ids"]}
        for each in (first, again, other)
    ]
    assert held[0] == held[1] != held[2]
    assert len(first.notes) == 2
    assert "training samples are held out for validation" in first.notes[0]
    assert sum(each.samples for each in (first.train, first.validation, first.evaluation)) == 60  # type: ignore[union-attr]


def test_without_a_test_split_the_validation_split_is_the_evaluation(folder: Path) -> None:
    (folder / "reviews" / "test.tsv").unlink()
    workload = load(folder, HUGGINGFACE)
    assert workload.evaluation.samples == 10  # type: ignore[attr-defined]
    assert "there is no test split; the validation split serves for evaluation" in workload.notes[0]


def test_calibration_leaves_out_what_is_evaluated_on(folder: Path) -> None:
    reviews(folder / "reviews" / "test.tsv", 14, first=50)
    workload = load(folder, HUGGINGFACE)
    assert workload.calibration is not None
    assert len(list(workload.calibration)) == 50
    assert workload.notes == ("reviews: 10 of 60 training texts are evaluation texts as well",)


def test_texts_of_which_the_tokenizer_knows_hardly_a_word_are_refused(folder: Path) -> None:
    """Nineteen of twenty words are in another script; without the one that is known all texts would be the same ids."""
    rows = [f"{'кино ' * 18}{'да' if number % 2 else 'нет'} film\t{number % 2}" for number in range(40)]
    (folder / "reviews" / "test.tsv").write_text("\n".join(("sentence\tlabel", *rows)), encoding="utf-8")
    message = (
        r"recipe\.yaml:3: workload\.huggingface\.data: test\.tsv: 95% of the tokens are \[UNK\], what the tokenizer does not know "
        r"\(allowed: 90%\), so that texts are hardly told apart; give texts in the language and script of the model, or the tokenizer"
    )
    with pytest.raises(InputError, match=message):
        load(folder, HUGGINGFACE)


def test_more_than_a_fifth_unknown_is_told(folder: Path) -> None:
    """Of test.tsv's 0 + 1 + 2 + 3 times "very" and 4 x 4 other words, 8 are in another script; dev.tsv has 1 in 5 of them, no more."""
    rows = [f"good film {'very ' * number}кино кино\t{number % 2}" for number in range(4)]
    (folder / "reviews" / "test.tsv").write_text("\n".join(("sentence\tlabel", *rows)), encoding="utf-8")
    (folder / "reviews" / "dev.tsv").write_text("sentence\tlabel\nthe film was bad кино\t0\n", encoding="utf-8")
    assert load(folder, HUGGINGFACE).notes == (
        "test.tsv: 36% of the tokens are [UNK], what the tokenizer does not know; language, script and case should be those that "
        "the model was trained on",
    )


def test_pairs_bring_token_types(folder: Path) -> None:
    rows = [f"good film\tthe {'very ' * number}play\t{number % 2}" for number in range(40)]
    (folder / "pairs.tsv").write_text("premise\thypothesis\tlabel\n" + "\n".join(rows) + "\n")
    workload = load(folder, "huggingface: {path: bert, data: pairs.tsv, max_length: 16}")
    assert list(workload.example_inputs) == ["input_ids", "attention_mask", "token_type_ids"]
    types = workload.example_inputs["token_type_ids"]
    assert types[0].tolist()[:4] == [0, 0, 0, 0]  # [CLS] good film [SEP]
    assert types[0].tolist()[4] == 1
    assert workload.preprocessing is None
    assert "training texts have more than 16 tokens and are cut" in workload.notes[-2]
    assert "bundles will carry no preprocessing: texts come in pairs" in workload.notes[-1]


def test_a_network_that_reads_the_mask_in_its_own_way_is_given_it_as_it_is(folder: Path) -> None:
    torch.manual_seed(0)
    config = DebertaV2Config(**SIZES, relative_attention=True, position_biased_input=False, type_vocab_size=0)
    model = DebertaV2ForSequenceClassification(config).eval()
    save(model, folder / "deberta")
    workload = load(folder, HUGGINGFACE.replace("bert", "deberta"))
    for inputs, _ in workload.evaluation:
        with torch.no_grad():
            torch.testing.assert_close(workload.model(**inputs), model(**inputs).logits)


def test_a_network_of_ones_own_takes_the_recipes_arguments_and_weights(folder: Path) -> None:
    (folder / "rule.py").write_text(RULE)
    save_file(
        {"embed.weight": torch.ones(40, 4), "head.weight": torch.ones(2, 4), "head.bias": torch.zeros(2)},
        folder / "rule.safetensors",
    )
    written = (
        "text_csv: {model: 'rule.py:Rule', weights: rule.safetensors, tokenizer: bert, path: reviews, max_length: 16}"
    )
    workload = load(folder, written, "arguments.width=4")
    assert float(workload.model.state_dict()["embed.weight"].min()) == 1.0
    (folder / "bert" / "tokenizer.json").unlink()
    (folder / "bert" / "vocab.txt").write_text("\n".join((*SPECIAL, "good", "bad", "the", "is", "was", "very")))
    again = load(folder, written, "arguments.width=4")
    assert "the tokenizer is no tokenizer.json" in again.notes[-1]


def unpickled(folder: Path) -> None:
    weights = folder / "bert" / "model.safetensors"
    torch.save(load_file(weights), folder / "bert" / "pytorch_model.bin")
    weights.unlink()


def test_pickled_weights_are_read_and_code_in_them_is_refused(folder: Path) -> None:
    unpickled(folder)
    workload = load(folder, HUGGINGFACE)
    torch.save(workload.model, folder / "bert" / "pytorch_model.bin")
    with pytest.raises(SecurityError, match=r"pytorch_model.bin: refused: loading it would run"):
        load(folder, HUGGINGFACE)


def change_config(folder: Path, **values: object) -> None:
    path = folder / "bert" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_weights(folder: Path, name: str, value: float | None) -> None:
    path = folder / "bert" / "model.safetensors"
    weights = load_file(path)
    if value is None:
        del weights[name]
    else:
        weights[name][0] = value
    save_file(weights, path, metadata={"format": "pt"})


def train_table(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "reviews" / "train.tsv").write_text(text)


BROKEN = [
    (lambda f: (f / "bert" / "model.safetensors").unlink(), InputError, r"workload.huggingface.path: the folder has no weights; one of"),
    (lambda f: (f / "bert" / "config.json").unlink(), InputError, r"'bert' has no config.json with a model_type"),
    (lambda f: (f / "bert" / "config.json").write_text("{"), InputError, r"config.json: is no JSON file"),
    (lambda f: (f / "bert" / "tokenizer.json").unlink(), InputError, r"the folder 'bert' has neither tokenizer.json nor vocab.txt"),
    (lambda f: (f / "bert" / "tokenizer.json").write_text("{}"), InputError, r"tokenizer.json cannot be read as a tokenizer"),
    (lambda f: change_config(f, model_type="zebra"), InputError, r"does not know the model_type 'zebra'"),
    (lambda f: change_config(f, model_type="zebra", auto_map={"AutoModel": "zebra.Zebra"}), SecurityError, r"'zebra' is code of the"),
    (lambda f: change_config(f, architectures=["BertModel"]), InputError, r"\(BertModel\) are of no task.*add task: one of seq"),
    (lambda f: change_config(f, problem_type="regression"), InputError, r"the model does regression; ready-made is one class a text"),
    (lambda f: change_config(f, vocab_size=9), InputError, r"the weights do not fit BertForSequenceClassification"),
    (lambda f: change_weights(f, "classifier.weight", None), InputError, r"no weights for classifier.weight of Bert"),
    (lambda f: change_weights(f, "classifier.weight", float("nan")), QualityError, r"'classifier.weight': 16 of 32 values are NaN or Inf"),
    (lambda f: (f / "reviews" / "train.tsv").unlink(), InputError, r"the folder has no train.csv; .* found dev.tsv, test.tsv"),
    (lambda f: reviews(f / "reviews" / "train.csv", 9), InputError, r"train.csv and train.tsv are both train files"),
    (train_table("x\ty\nfilm\t1\n"), InputError, r"does not say which column holds the text; add text: one of x, y"),
    (train_table("text\ty\nfilm\t1\n"), InputError, r"does not say which column holds the label; add label: one of text, y"),
    (train_table("sentence\tlabel\nfilm\n"), InputError, r"train.tsv:2: found 1 columns, the header has 2"),
    (train_table("sentence\tlabel\n \t1\n"), InputError, r"train.tsv:2: column 'sentence' is empty"),
    (train_table("sentence\tlabel\n"), InputError, r"train.tsv: no row under the header"),
    (train_table(""), InputError, r"train.tsv: is empty; the first line must name the columns"),
    (lambda f: (f / "reviews" / "train.tsv").write_bytes(b"\xff\xfe"), InputError, r"train.tsv: is not UTF-8 text \(byte 0\)"),
    (lambda f: (f / "reviews" / "test.tsv").write_text("sentence\tlabel\nfilm\t7\n"), InputError, r"test.tsv:2: found the label .7."),
    (train_table("sentence\tlabel\nfilm\t1\nplay\t2\n"), InputError, r"outputs of shape \(2, 2\) for two texts, the data have 3 classes"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "kind", "message"), BROKEN)
def test_what_is_wrong_in_the_folders_is_named(
    folder: Path, spoil: Callable[[Path], object], kind: type[CompressError], message: str
) -> None:
    spoil(folder)
    with pytest.raises(kind, match=message):
        load(folder, HUGGINGFACE)


WRONG = [
    ("huggingface: {path: nowhere/model, data: reviews}", r"recipe.yaml:3: workload.huggingface.path: .nowhere/model' is no folder"),
    ("huggingface: {path: bert, data: nowhere}", r"workload.huggingface.data: there is no 'nowhere' \(relative to the recipe\)"),
    ("huggingface: {path: bert, data: PATH-OF-YOUR-DATA}", r"huggingface.data: is still the placeholder of compress init; name a .csv"),
    ("huggingface: {path: bert}", r"recipe.yaml:3: workload.huggingface: 'data' is missing"),
    ("huggingface: {path: bert, data: reviews, tsak: masked-lm}", r"yaml:3: .*unknown key .tsak.; .*Did you mean 'task'\?"),
    ("huggingface: {path: bert, data: reviews, task: zebra}", r"workload.huggingface.task: must be 'sequence-.*found 'zebra'"),
    ("huggingface: {path: bert, data: reviews}", r"max_length: found 128, the model reads at most 40 tokens"),
    ("huggingface: {path: bert, data: reviews, max_length: 2}", r"max_length must be 3 or more, found 2"),
    ("huggingface: {path: bert, data: reviews, batch_size: 0}", r"batch_size must be 1 or more, found 0"),
    ("huggingface: {path: bert, data: reviews, pair: b}", r"pair names the second text; name the first one by text"),
    ("huggingface: {path: bert, data: reviews, max_length: 16, text: x}", r"there is no column 'x'; the header has sentence, label"),
    ("text_csv: {path: reviews, model: 'rule.py:Rule'}", r"text_csv: tokenizer is missing"),
    ("text_csv: {path: reviews, model: bert, weights: a.safetensors}", r"text_csv.weights: a folder brings its own weights"),
    ("text_csv: {path: reviews/dev.txt, model: bert, max_length: 16}", r"there is no 'reviews/dev.txt'"),
    ("text_csvs: {path: reviews}", r"recipe.yaml:3: workload: unknown 'text_csvs'; known: image_folder, .*Did you mean 'text_csv'\?"),
    ("[a]", r"found \['a'\]; or one of image_folder, text_csv, huggingface"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "message"), WRONG)
def test_each_mistake_in_the_options_is_named_with_its_line(folder: Path, written: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(folder, written)


def test_the_schema_takes_a_ready_made_workload_and_refuses_a_typo() -> None:
    schema = Draft202012Validator(recipe_schema())
    recipe = {"name": "a", "steps": [], "targets": ["openvino"]}
    good = {"huggingface": {"path": "bert", "data": "reviews", "task": "causal-lm"}}
    assert schema.is_valid(recipe | {"workload": good})
    assert schema.is_valid(recipe | {"workload": "workload.py:made"})
    for workload in ({"huggingface": {"path": "bert"}}, {"huggingfaces": good["huggingface"]}, "workload.py"):
        assert not schema.is_valid(recipe | {"workload": workload})
    options = recipe_schema()["properties"]["workload"]["anyOf"][3]["properties"]["huggingface"]["properties"]
    assert options["task"]["description"] == "What the model was trained for; told from config.json if left out."


def test_arguments_are_for_functions_alone(folder: Path) -> None:
    with pytest.raises(
        InputError, match=r"the recipe's arguments go to a function FILE.py:FUNCTION, and this is a folder"
    ):
        load(folder, TEXT_CSV, "arguments.width=3")


def test_check_tells_what_was_decided(folder: Path, cli: Cli) -> None:
    (folder / "reviews" / "dev.tsv").unlink()
    code, out, _ = cli("check", write_recipe(folder, HUGGINGFACE), "--set", "workload.huggingface.batch_size=8")
    assert code == 0
    assert "of 60 training samples are held out for validation" in out
