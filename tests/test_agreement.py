"""Cohen's kappa, by hand."""

from __future__ import annotations

import pytest

from deft_core.agreement import cohens_kappa, pair_agreements


def test_cohens_kappa__of_a_worked_table() -> None:
    # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: 0.7 observed, 0.5 by chance.
    counts = {("y", "y"): 20, ("y", "n"): 5, ("n", "y"): 10, ("n", "n"): 15}

    assert cohens_kappa(counts) == pytest.approx(0.4)


def test_cohens_kappa__at_its_ends() -> None:
    assert cohens_kappa({("a", "a"): 3, ("b", "b"): 2}) == 1
    assert cohens_kappa({("a", "b"): 1, ("b", "a"): 1}) == -1
    assert cohens_kappa({("a", "a"): 5}) is None
    assert cohens_kappa({("a", "b"): 5}) == 0


def test_pair_agreements__one_entry_a_pair() -> None:
    names = ("first", "second", "first_outcome", "second_outcome", "n")
    rows = [("ann", "bob", "0", "0", 3), ("ann", "bob", "0", "1", 1), ("ann", "cy", "0", "0", 2)]

    pairs = pair_agreements([dict(zip(names, row, strict=True)) for row in rows])

    assert [(one.first, one.second, one.n, one.n_agree) for one in pairs] == [
        ("ann", "bob", 4, 3),
        ("ann", "cy", 2, 2),
    ]
    assert pairs[0].agreement == 0.75
    assert pairs[1].kappa is None
