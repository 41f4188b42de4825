import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from compress.model_size import measure_size


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x))


class Attending(nn.Module):
    def forward(self, x):
        return F.scaled_dot_product_attention(x, x, x)


def test_a_convolution_counts_as_in_the_textbook():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 25, 7))
    size = measure_size(model, {"x": torch.zeros(4, 3, 5, 5)})
    assert size.parameters == (3 * 8 * 9 + 8) + 2 * 8 + (200 * 7 + 7)
    assert size.macs == 3 * 8 * 9 * 25 + 200 * 7  # of one sample, though four are given
    assert size.size_bytes == 4 * size.parameters + 4 * 2 * 8 + 8  # running statistics and an int64 counter


def test_a_tied_parameter_counts_once_and_works_twice():
    size = measure_size(Tied(), {"x": torch.zeros(2, 4)})
    assert (size.parameters, size.macs, size.size_bytes) == (16, 32, 64)


def test_fused_attention_is_counted():
    heads, length, width = 2, 6, 4
    size = measure_size(Attending(), {"x": torch.zeros(3, heads, length, width)})
    assert size.macs == 2 * heads * length * length * width


def test_the_mode_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout()).train()
    measure_size(model, {"x": torch.zeros(2, 4)})
    assert model.training
    measure_size(model.eval(), {"x": torch.zeros(2, 4)})
    assert not model.training


def test_torchs_own_encoder_layer_counts_its_products():
    width, length, inner = 16, 5, 32
    layer = nn.TransformerEncoderLayer(width, 2, inner, batch_first=True).eval()
    size = measure_size(layer, {"src": torch.zeros(2, length, width)})
    projections, attention, feed_forward = 4 * width * width, 2 * length * width, 2 * width * inner
    assert size.macs == length * (projections + attention + feed_forward)
    assert torch.backends.mha.get_fastpath_enabled()


def test_every_step_of_an_lstm_is_counted():
    """In both directions four gates of 6 units, from 4 inputs and 6 units of the step before, at 7 steps; GRU has three gates."""
    sequence = {"input": torch.zeros(2, 7, 4)}
    lstm = nn.LSTM(4, 6, batch_first=True, bidirectional=True).eval()
    assert measure_size(lstm, sequence).macs == 7 * 2 * 4 * 6 * (4 + 6)
    assert measure_size(nn.GRU(4, 6, batch_first=True).eval(), sequence).macs == 7 * 3 * 6 * (4 + 6)
    assert torch.backends.mkldnn.enabled == torch.backends.mkldnn.is_available()


def test_a_slice_of_a_parameter_may_be_what_a_layer_reads():
    """As DeBERTa's positions: torch's counter asks such a slice for its gradient function, which it has none of here."""

    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.layer = nn.Parameter(torch.ones(6, 4)), nn.Linear(4, 3, bias=False)

        def forward(self, x):
            return x + self.layer(self.table[: x.shape[1]])

    model = Positions()
    assert measure_size(model, {"x": torch.ones(1, 5, 3)}).macs == 5 * 4 * 3
    assert all(parameter.requires_grad for parameter in model.parameters())
