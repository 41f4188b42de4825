"""A small BERT over characters, with a head for the classes of headlines and one for masked tokens."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertModel

from compress.padded import encoded, mean_over_tokens

LAYERS, WIDTH, HEADS = 4, 256, 4

MOST_TOKENS = 64
"""Of a text: more than there are have no position."""


def encoder(words: int) -> BertModel:
    """A BERT with random weights for a vocabulary of so many words; the feed-forward is four times as wide as the rest."""
    config = BertConfig(
        vocab_size=words,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        max_position_embeddings=MOST_TOKENS,
        type_vocab_size=1,
    )
    config._attn_implementation = "sdpa"
    return BertModel(config, add_pooling_layer=False)


class HeadlineClassifier(nn.Module):
    """Mean over the real tokens and one linear layer."""

    def __init__(self, bert: BertModel, classes: int) -> None:
        super().__init__()
        self.bert = bert
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(bert.config.hidden_size, classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits, shape (batch, classes), from token ids and a mask (1 token, 0 padding), both int64 (batch, length)."""
        pooled = mean_over_tokens(encoded(self.bert, input_ids, attention_mask), attention_mask)
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits


class MaskedLanguageModel(nn.Module):
    """What stood at each place: a layer, a normalisation, and a product with the word embeddings themselves.

    Source: the head of Devlin et al. 2018, arXiv:1810.04805 (their code ties it to the embeddings).
    """

    def __init__(self, bert: BertModel) -> None:
        super().__init__()
        self.bert = bert
        words, width = bert.embeddings.word_embeddings.weight.shape
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.decoder = nn.Linear(width, words)
        self.decoder.weight = bert.embeddings.word_embeddings.weight

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits, shape (batch, length, words), from token ids and a mask, both int64 (batch, length)."""
        logits: Tensor = self.decoder(self.transform(encoded(self.bert, input_ids, attention_mask)))
        return logits


def cross_entropy(outputs: Tensor, target: Tensor) -> Tensor:
    """Of texts, logits (batch, classes) and target (batch,), or of the tokens that are not IGNORED, with a length behind the batch."""
    return functional.cross_entropy(outputs.flatten(0, -2), target.flatten())
