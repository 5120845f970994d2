"""The losses of Denoising Fine-Tuning as pure functions of logits (DeFT, Wei et al., NeurIPS 2024).

Each gives the term of every sample; the mean over a batch, or over its selected samples, is taken
where the whole batch is known. `pos` and `neg` are the scaled similarities of a batch to the
positive and the negative prompt of every class.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

LOG_FLOOR = math.log(1e-5)
LOG_ZERO = math.log(1e-4)


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


def is_selected(
    pos: Float[Tensor, "batch n_cls"],
    neg: Float[Tensor, "batch n_cls"],
    given: Int[Tensor, " batch"],
    *,
    must_be_likeliest: bool,
) -> Bool[Tensor, " batch"]:
    """Whether each given label is believed: p_clean > 0.5, that is pos_y > neg_y.

    With `must_be_likeliest` no other class may have a larger p_clean either, as the recipe for real
    label noise asks.
    """
    margin = (pos - neg).detach()
    is_clean = _at(margin, given) > 0
    if must_be_likeliest:
        is_clean = is_clean & (margin.argmax(dim=-1) == given)
    return is_clean


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


def dual_prompt_losses(
    pos: Float[Tensor, "batch n_cls"],
    neg: Float[Tensor, "batch n_cls"],
    believed: Int[Tensor, " batch"],
    complementary: Int[Tensor, "batch n_drawn"],
) -> Float[Tensor, " batch"]:
    """Terms of L_dp: -log p_clean(believed) - mean over the drawn of log(1 - p_clean(drawn)).

    The positive side is detached: this loss trains the negative prompt alone. Each logarithm is
    cut off at log 1e-5, where its gradient ends too, as in the reference.
    """
    margin = pos.detach() - neg
    right = F.logsigmoid(_at(margin, believed)).clamp(min=LOG_FLOOR)
    wrong = F.logsigmoid(-margin.gather(1, complementary)).clamp(min=LOG_FLOOR)
    return -right - wrong.mean(dim=1)


def alignment_losses(
    pos: Float[Tensor, "batch n_cls"], given: Int[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Terms of L_sim: cross-entropy -log softmax(pos)[given]."""
    return F.cross_entropy(pos, given, reduction="none")


def symmetric_losses(
    pos: Float[Tensor, "batch n_cls"], given: Int[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Symmetric cross-entropy (Wang et al., ICCV 2019) with alpha = beta = 1.

    Cross-entropy plus its reverse, -sum_k softmax(pos)_k log q_k, where q is the given label with
    log 0 set to log 1e-4.
    """
    reverse = -LOG_ZERO * (1 - _at(pos.softmax(dim=-1), given))
    return alignment_losses(pos, given) + reverse


def label_margins(
    pos: Float[Tensor, "batch n_cls"], given: Int[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """pos_y - max over the other classes of pos_k: below 0 where another class is nearer.

    The area-under-the-margin statistic (Pleiss et al., NeurIPS 2020) is its mean over epochs.
    """
    others = pos.scatter(1, given[:, None], -math.inf)
    return _at(pos, given) - others.amax(dim=1)


def _at(values: Float[Tensor, "batch n_cls"], label: Int[Tensor, " batch"]) -> Tensor:
    return values.gather(1, label[:, None]).squeeze(1)
