"""An embedding that keeps a row for the tokens in use; all others read one row together."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TrimmedEmbedding(nn.Module):
    """Stands where an nn.Embedding stood and takes the same token ids.

    Args:
        tokens: ids that may come, 0 to `tokens` - 1.
        kept: rows that are left.
        width: of a token's vector, as before.
        rank: the rows have this width, and a linear layer brings them to `width`; None leaves them as they were.
    """

    rows: Tensor
    """Which row each token reads: int32 (tokens,). Part of the state, so that it is saved with the weights."""

    def __init__(self, tokens: int, kept: int, width: int, rank: int | None = None) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(tokens, dtype=torch.int32))
        self.embedding = nn.Embedding(kept, width if rank is None else rank)
        self.projection = nn.Identity() if rank is None else nn.Linear(rank, width, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors (..., width) of token ids, an integer tensor of any shape."""
        vectors: Tensor = self.projection(self.embedding(self.rows[ids]))
        return vectors

    @property
    def shape(self) -> dict[str, int | None]:
        """The arguments that make one like it."""
        kept, inner = self.embedding.num_embeddings, self.embedding.embedding_dim
        if isinstance(self.projection, nn.Linear):
            return {"tokens": len(self.rows), "kept": kept, "width": self.projection.out_features, "rank": inner}
        return {"tokens": len(self.rows), "kept": kept, "width": inner, "rank": None}


def trimmed(whole: nn.Embedding, counts: Tensor, keep: Tensor, rank: int | None) -> TrimmedEmbedding:
    """The embedding with the rows of `keep`, and one row more for the others, if there are any: the mean of theirs.

    Factors of a lower rank are the best for the tokens as often as they come: the singular value decomposition of the rows,
    each weighted by the root of its count.
    Source: Chen et al. 2018, GroupReduce, arXiv:1806.06950, section 3 (there by blocks of like frequency).

    Args:
        counts: how often each token comes, int64 (tokens,).
        keep: bool (tokens,).
        rank: of the two factors; None leaves the rows whole.
    """
    weight = whole.weight.detach()
    table, often = weight[keep], counts[keep]
    if not keep.all():
        table = torch.cat([table, weight[~keep].mean(dim=0, keepdim=True)])
        often = torch.cat([often, counts[~keep].sum().reshape(1)])
    new = TrimmedEmbedding(len(weight), len(table), weight.shape[1], rank)
    new.rows.fill_(len(table) - 1)
    new.rows[keep] = torch.arange(int(keep.sum()), dtype=torch.int32)
    with torch.no_grad():
        if isinstance(new.projection, nn.Linear):
            rows, columns = _factors(table, often, new.projection.in_features)
            new.embedding.weight.copy_(rows)
            new.projection.weight.copy_(columns)
        else:
            new.embedding.weight.copy_(table)
    for parameter in new.parameters():
        parameter.requires_grad_(whole.weight.requires_grad)
    return new.to(device=weight.device, dtype=weight.dtype).train(whole.training)


def _factors(table: Tensor, often: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """(rows, rank) and (width, rank) whose product comes closest to `table`, the squared error of a row times its count."""
    weights = often.double().clamp(min=1).sqrt()
    _, _, directions = torch.linalg.svd(table.double() * weights[:, None], full_matrices=False)
    columns = directions[:rank].T
    return (table.double() @ columns).to(table), columns.to(table)
