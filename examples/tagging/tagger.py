"""A small BERT over characters that names the tag of each word."""

from __future__ import annotations

from conll import LONGEST
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertModel

from compress.padded import encoded

LAYERS, WIDTH, HEADS = 3, 128, 4


class Tagger(nn.Module):
    """One linear layer on every token of a BERT with random weights.

    Args:
        characters: size of the vocabulary.
        tags: number of classes.
    """

    def __init__(self, characters: int, tags: int) -> None:
        super().__init__()
        config = BertConfig(
            vocab_size=characters,
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=4 * WIDTH,
            max_position_embeddings=LONGEST + 2,
            type_vocab_size=1,
        )
        config._attn_implementation = "sdpa"
        self.bert = BertModel(config, add_pooling_layer=False)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(WIDTH, tags)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits, shape (batch, length, tags), from character ids and a mask (1 token, 0 padding), both int64 (batch, length)."""
        logits: Tensor = self.classifier(self.dropout(encoded(self.bert, input_ids, attention_mask)))
        return logits


def tag_loss(outputs: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of the words: logits (batch, length, tags) and target (batch, length), IGNORED left out."""
    return functional.cross_entropy(outputs.transpose(1, 2), target)
