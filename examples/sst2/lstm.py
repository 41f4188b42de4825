"""A bidirectional LSTM as a sentence classifier, over the word pieces and word vectors of MiniLM-L6."""

from __future__ import annotations

import torch
from minilm import package_folder
from safetensors import safe_open
from torch import Tensor, nn

from compress.padded import mean_over_tokens

WORDS = 30522
"""Word pieces of MiniLM's tokenizer."""
VECTOR = 384
"""Width of its word vectors."""


class LstmClassifier(nn.Module):
    """Word vectors, one layer, LSTMs in both directions, mean and maximum over the real tokens, one linear layer.

    Padding changes no answer. The backward LSTM comes through the padding before it meets the last word; without biases
    its state stays zero there, since it is fed zeros: the candidate is tanh(0). What a bias would add, the layer in
    front adds to real tokens alone. So the network exports as one LSTM node, without a gather that would turn each
    sentence round at its own length.

    Args:
        words, vector: rows and width of the table of word vectors.
        width: of the layer that adapts the vectors.
        hidden: units of each direction.
    """

    def __init__(
        self, words: int = WORDS, vector: int = VECTOR, width: int = 128, hidden: int = 128, classes: int = 2
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, vector)
        self.adapt = nn.Linear(vector, width)
        self.lstm = nn.LSTM(width, hidden, batch_first=True, bidirectional=True, bias=False)
        self.dropout = nn.Dropout(0.3)
        self.classifier = nn.Linear(4 * hidden, classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits, shape (batch, classes), from token ids and a mask (1 token, 0 padding), both int64 (batch, length)."""
        real = attention_mask[:, :, None].to(self.classifier.weight.dtype)
        vectors = self.dropout(torch.relu(self.adapt(self.dropout(self.embedding(input_ids))))) * real
        states, _ = self.lstm(vectors)
        largest = (states * real + (real - 1.0)).amax(dim=1)  # states lie between -1 and 1, padding is put at -1
        pooled = torch.cat([mean_over_tokens(states, attention_mask), largest], dim=1)
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits


def lstm() -> LstmClassifier:
    """The network with random weights (12 M parameters, all but 0.3 M of them word vectors), in eval mode."""
    return LstmClassifier().eval()


def with_word_vectors() -> LstmClassifier:
    """The network with MiniLM's word vectors, which are not to be trained; the rest has random weights."""
    model = lstm()
    with safe_open(package_folder() / "model.safetensors", framework="pt") as file:
        model.embedding.weight.data.copy_(file.get_tensor("embeddings.word_embeddings.weight"))
    model.embedding.weight.requires_grad_(False)
    return model
