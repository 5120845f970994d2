"""The losses against numbers worked out by hand, and against what must always hold."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deft_core import losses


def test_p_clean_is_the_two_way_softmax_at_the_given_label() -> None:
    pos, neg = torch.tensor([[1.0, 3.0], [0.0, 2.0]]), torch.tensor([[1.0, 1.0], [2.0, 0.0]])

    p_clean = losses.p_clean(pos, neg, torch.tensor([1, 0]))

    expected = [math.exp(3) / (math.exp(3) + math.exp(1)), 1 / (1 + math.exp(2))]
    assert p_clean.tolist() == pytest.approx(expected)


def test_believed_label_is_the_given_one_only_where_selected() -> None:
    pos = torch.tensor([[5.0, 1.0, 0.0], [5.0, 1.0, 0.0]])

    believed = losses.believed_labels(pos, torch.tensor([2, 2]), torch.tensor([True, False]))

    assert believed.tolist() == [2, 0]


def test_dual_prompt_loss_by_hand() -> None:
    pos, neg = torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([[1.0, 3.0, 1.0]])

    loss = losses.dual_prompt_loss(pos, neg, torch.tensor([0]), torch.tensor([1]))

    p_right, p_wrong = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(3))
    assert loss.item() == pytest.approx(-math.log(p_right) - math.log(1 - p_wrong))


def test_dual_prompt_loss_trains_the_negative_side_alone() -> None:
    pos = torch.randn(4, 3, requires_grad=True)
    neg = torch.randn(4, 3, requires_grad=True)

    losses.dual_prompt_loss(
        pos, neg, torch.tensor([0, 1, 2, 0]), torch.tensor([1, 2, 0, 2])
    ).backward()

    assert pos.grad is None
    assert neg.grad is not None
    assert neg.grad.abs().sum() > 0


def test_logarithms_are_cut_off_where_the_reference_cuts_them() -> None:
    pos = torch.tensor([[0.0, 0.0]])
    neg = torch.tensor([[50.0, -50.0]], requires_grad=True)

    loss = losses.dual_prompt_loss(pos, neg, torch.tensor([0]), torch.tensor([1]))
    loss.backward()

    assert loss.item() == pytest.approx(-2 * math.log(1e-5))
    assert neg.grad is not None
    assert neg.grad.abs().sum() == 0


def test_alignment_loss_averages_over_the_selected() -> None:
    pos = torch.tensor([[0.0, 0.0], [9.0, 1.0]])

    loss = losses.alignment_loss(pos, torch.tensor([0, 1]), torch.tensor([True, False]))

    assert loss.item() == pytest.approx(math.log(2))


def test_alignment_loss_of_an_empty_selection_is_zero_and_trains_nothing() -> None:
    pos = torch.randn(3, 2, requires_grad=True)

    loss = losses.alignment_loss(pos, torch.tensor([0, 1, 0]), torch.zeros(3, dtype=torch.bool))
    loss.backward()

    assert loss.item() == 0
    assert pos.grad is not None
    assert torch.isfinite(pos.grad).all()
    assert pos.grad.abs().sum() == 0


@given(st.integers(2, 30), st.integers(0, 2**31))
def test_a_complementary_label_is_another_class(n_classes: int, seed: int) -> None:
    labels = torch.arange(200) % n_classes

    drawn = losses.complementary_labels(
        labels, n_classes=n_classes, generator=torch.Generator().manual_seed(seed)
    )

    assert (drawn != labels).all()
    assert 0 <= drawn.min() <= drawn.max() < n_classes


def test_complementary_labels_are_uniform_over_the_other_classes() -> None:
    labels = torch.full((6000,), 2)

    drawn = losses.complementary_labels(
        labels, n_classes=4, generator=torch.Generator().manual_seed(0)
    )

    assert drawn.bincount(minlength=4).tolist() == pytest.approx([2000, 2000, 0, 2000], abs=150)
