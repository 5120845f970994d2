"""The losses against numbers worked out by hand, and against what must always hold."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deft_core import losses

N_CLASSES = 4


def one_batch(seed: int, *, n: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of both sides, far and near, and a given label for each row."""
    random = torch.Generator().manual_seed(seed)
    pos, neg = 20 * torch.randn(2, n, N_CLASSES, generator=random)
    return pos, neg, torch.randint(N_CLASSES, (n,), generator=random)


seeds = st.integers(0, 2**31)


# --- what is believed


def test_p_clean_is_the_two_way_softmax_at_the_given_label() -> None:
    pos, neg = torch.tensor([[1.0, 3.0], [0.0, 2.0]]), torch.tensor([[1.0, 1.0], [2.0, 0.0]])

    p_clean = losses.p_clean(pos, neg, torch.tensor([1, 0]))

    expected = [math.exp(3) / (math.exp(3) + math.exp(1)), 1 / (1 + math.exp(2))]
    assert p_clean.tolist() == pytest.approx(expected)


def test_a_label_is_selected_where_the_positive_prompt_is_nearer() -> None:
    pos = torch.tensor([[2.0, 9.0], [2.0, 9.0], [2.0, 9.0]])
    neg = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])

    selected = losses.is_selected(pos, neg, torch.zeros(3).long(), must_be_likeliest=False)

    assert selected.tolist() == [True, False, False]


def test_the_stricter_rule_also_wants_the_largest_p_clean() -> None:
    # pos - neg is [1, 2], [2, 1] and [-1, -2]; the larger pos has nothing to say in it.
    pos = torch.tensor([[9.0, 2.0], [9.0, 2.0], [1.0, 0.0]])
    neg = torch.tensor([[8.0, 0.0], [7.0, 1.0], [2.0, 2.0]])
    labels = torch.zeros(3).long()

    strict = losses.is_selected(pos, neg, labels, must_be_likeliest=True)
    lenient = losses.is_selected(pos, neg, labels, must_be_likeliest=False)

    assert strict.tolist() == [False, True, False]
    assert lenient.tolist() == [True, True, False]


@given(seeds)
def test_selection_is_a_clean_probability_above_a_half(seed: int) -> None:
    pos, neg, labels = one_batch(seed)

    lenient = losses.is_selected(pos, neg, labels, must_be_likeliest=False)
    strict = losses.is_selected(pos, neg, labels, must_be_likeliest=True)

    # In double precision, for single precision rounds a tiny margin to 0.5.
    assert torch.equal(lenient, losses.p_clean(pos.double(), neg.double(), labels) > 0.5)
    assert not (strict & ~lenient).any()
    assert not strict.requires_grad


def test_believed_label_is_the_given_one_only_where_selected() -> None:
    pos = torch.tensor([[5.0, 1.0, 0.0], [5.0, 1.0, 0.0]])

    believed = losses.believed_labels(pos, torch.tensor([2, 2]), torch.tensor([True, False]))

    assert believed.tolist() == [2, 0]


# --- the dual-prompt loss


def test_dual_prompt_losses_by_hand() -> None:
    pos = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 2.0]])
    neg = torch.tensor([[1.0, 3.0, 1.0], [0.0, 0.0, 0.0]])

    terms = losses.dual_prompt_losses(pos, neg, torch.tensor([0, 2]), torch.tensor([[1], [0]]))

    first = -math.log(1 / (1 + math.exp(-1))) - math.log(1 - 1 / (1 + math.exp(3)))
    second = -math.log(1 / (1 + math.exp(-2))) - math.log(1 - 0.5)
    assert terms.tolist() == pytest.approx([first, second])


def test_several_wrong_classes_count_as_their_mean() -> None:
    pos, neg = torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([[1.0, 3.0, 1.0]])

    (term,) = losses.dual_prompt_losses(pos, neg, torch.tensor([0]), torch.tensor([[1, 2, 2]]))

    p_right, p_one, p_two = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(3)), 0.5
    wrong = (math.log(1 - p_one) + 2 * math.log(1 - p_two)) / 3
    assert term.item() == pytest.approx(-math.log(p_right) - wrong)


@given(seeds, st.integers(1, 5))
def test_dual_prompt_losses_equal_the_clamped_softmax_of_the_reference(
    seed: int, n_drawn: int
) -> None:
    pos, neg, believed = one_batch(seed)
    neg.requires_grad_()
    drawn = (believed[:, None] + torch.arange(1, n_drawn + 1)) % N_CLASSES

    terms = losses.dual_prompt_losses(pos, neg, believed, drawn)
    (gradient,) = torch.autograd.grad(terms.sum(), neg)

    pairs = torch.stack([pos, neg], dim=-1).softmax(dim=-1).clamp(1e-5, 1)
    expected = []
    for i in range(len(believed)):
        wrong = [pairs[i, k, 1].log() for k in drawn[i]]
        expected.append(-pairs[i, believed[i], 0].log() - sum(wrong) / n_drawn)
    (expected_gradient,) = torch.autograd.grad(torch.stack(expected).sum(), neg)
    torch.testing.assert_close(terms, torch.stack(expected), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-5)


def test_dual_prompt_losses_train_the_negative_side_alone() -> None:
    pos = torch.randn(4, 3, requires_grad=True)
    neg = torch.randn(4, 3, requires_grad=True)
    drawn = torch.tensor([[1], [2], [0], [2]])

    losses.dual_prompt_losses(pos, neg, torch.tensor([0, 1, 2, 0]), drawn).sum().backward()

    assert pos.grad is None
    assert neg.grad is not None
    assert neg.grad.abs().sum() > 0


def test_logarithms_are_cut_off_where_the_reference_cuts_them() -> None:
    pos = torch.tensor([[0.0, 0.0]])
    neg = torch.tensor([[50.0, -50.0]], requires_grad=True)

    loss = losses.dual_prompt_losses(pos, neg, torch.tensor([0]), torch.tensor([[1]])).sum()
    loss.backward()

    assert loss.item() == pytest.approx(-2 * math.log(1e-5))
    assert neg.grad is not None
    assert neg.grad.abs().sum() == 0


# --- the losses of the positive side


def test_alignment_losses_by_hand() -> None:
    pos = torch.tensor([[0.0, 0.0], [9.0, 1.0]])

    terms = losses.alignment_losses(pos, torch.tensor([0, 1]))

    assert terms.tolist() == pytest.approx([math.log(2), 8 + math.log(1 + math.exp(-8))])


def test_symmetric_losses_by_hand() -> None:
    pos = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])

    terms = losses.symmetric_losses(pos, torch.tensor([0, 1]))

    # -log p_y, and -log 1e-4 for all that is given to the other class.
    first = math.log(2) + 0.5 * math.log(1e4)
    second = math.log(4) + 0.75 * math.log(1e4)
    assert terms.tolist() == pytest.approx([first, second])


@given(seeds)
def test_symmetric_losses_equal_the_sum_over_all_classes(seed: int) -> None:
    pos, _, labels = one_batch(seed)

    terms = losses.symmetric_losses(pos, labels)

    for row, label, term in zip(pos, labels.tolist(), terms.tolist(), strict=True):
        chances = row.double().softmax(dim=0).tolist()
        targets = [1.0 if k == label else 1e-4 for k in range(N_CLASSES)]
        reverse = -sum(p * math.log(q) for p, q in zip(chances, targets, strict=True))
        forward = -row.double().log_softmax(dim=0)[label].item()
        assert term == pytest.approx(forward + reverse, rel=1e-4, abs=1e-4)


def test_label_margins_by_hand() -> None:
    pos = torch.tensor([[5.0, 2.0, 1.0], [5.0, 2.0, 1.0], [3.0, 3.0, 1.0]])

    margins = losses.label_margins(pos, torch.tensor([0, 2, 1]))

    assert margins.tolist() == [3.0, -4.0, 0.0]


@given(seeds)
def test_a_label_margin_is_above_zero_only_for_the_nearest_class(seed: int) -> None:
    pos, _, labels = one_batch(seed)

    margins = losses.label_margins(pos, labels)

    assert torch.equal(margins > 0, pos.argmax(dim=1) == labels)


@given(seeds, st.integers(1, 5))
def test_the_terms_of_a_batch_do_not_depend_on_how_it_is_cut(seed: int, size: int) -> None:
    pos, neg, labels = one_batch(seed)
    drawn = (labels[:, None] + 1) % N_CLASSES
    parts = zip(pos.split(size), neg.split(size), labels.split(size), strict=True)

    cut = [
        torch.stack(
            [
                losses.dual_prompt_losses(p, n, y, (y[:, None] + 1) % N_CLASSES),
                losses.alignment_losses(p, y),
                losses.symmetric_losses(p, y),
                losses.label_margins(p, y),
            ]
        )
        for p, n, y in parts
    ]

    whole = torch.stack(
        [
            losses.dual_prompt_losses(pos, neg, labels, drawn),
            losses.alignment_losses(pos, labels),
            losses.symmetric_losses(pos, labels),
            losses.label_margins(pos, labels),
        ]
    )
    torch.testing.assert_close(torch.cat(cut, dim=1), whole)
