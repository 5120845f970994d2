"""The losses of Denoising Fine-Tuning as pure functions of logits (DeFT, Wei et al., NeurIPS 2024).

`pos` and `neg` are the scaled similarities of a batch to the positive and the negative prompt of
every class.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

LOG_FLOOR = math.log(1e-5)


def p_clean(
    pos: Float[Tensor, "batch n_cls"],
    neg: Float[Tensor, "batch n_cls"],
    given: Int[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """Probability that each given label is clean: sigmoid(pos_y - neg_y).

    The two-way softmax between the positive and the negative prompt of the given class; the label
    is selected as clean above 0.5, that is when the image is closer to the positive prompt.

    >>> p_clean(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([1])).item()
    0.5
    """
    return torch.sigmoid(_at(pos - neg, given))


def believed_labels(
    pos: Float[Tensor, "batch n_cls"],
    given: Int[Tensor, " batch"],
    is_clean: Bool[Tensor, " batch"],
) -> Int[Tensor, " batch"]:
    """The given label where it is selected as clean, else the class with the largest similarity.

    >>> believed_labels(torch.tensor([[1.0, 2.0]]), torch.tensor([0]), torch.tensor([False]))
    tensor([1])
    """
    return torch.where(is_clean, given, pos.argmax(dim=-1))


def complementary_labels(
    given: Int[Tensor, " batch"], *, n_classes: int, generator: torch.Generator
) -> Int[Tensor, " batch"]:
    """A class drawn uniformly from those that differ from each given label.

    # Differs from DeFT: one seeded generator a run, not NumPy's global state in each worker.
    """
    shift = torch.randint(1, n_classes, given.shape, generator=generator)
    return (given + shift.to(given.device)) % n_classes


def dual_prompt_loss(
    pos: Float[Tensor, "batch n_cls"],
    neg: Float[Tensor, "batch n_cls"],
    believed: Int[Tensor, " batch"],
    complementary: Int[Tensor, " batch"],
) -> Float[Tensor, ""]:
    """L_dp = mean[ -log p_clean(believed) - log(1 - p_clean(complementary)) ].

    The positive side is detached: this loss trains the negative prompt alone. Each logarithm is
    cut off at log 1e-5, where its gradient ends too, as in the reference.
    """
    margin = pos.detach() - neg
    right = F.logsigmoid(_at(margin, believed)).clamp(min=LOG_FLOOR)
    wrong = F.logsigmoid(-_at(margin, complementary)).clamp(min=LOG_FLOOR)
    return -(right + wrong).mean()


def alignment_loss(
    pos: Float[Tensor, "batch n_cls"],
    given: Int[Tensor, " batch"],
    is_clean: Bool[Tensor, " batch"],
) -> Float[Tensor, ""]:
    """L_sim = mean over the selected samples of -log softmax(pos)[given].

    # Differs from DeFT: an empty selection gives 0, not NaN.
    """
    losses = F.cross_entropy(pos, given, reduction="none")
    weights = is_clean.to(losses.dtype)
    return (losses * weights).sum() / weights.sum().clamp(min=1)


def _at(values: Float[Tensor, "batch n_cls"], label: Int[Tensor, " batch"]) -> Tensor:
    return values.gather(1, label[:, None]).squeeze(1)
