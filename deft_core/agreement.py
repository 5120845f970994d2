"""How far two reviewers agree who decided the same samples without seeing each other's verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

Outcome = TypeVar("Outcome", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class PairAgreement:
    """Two reviewers, in alphabetical order, on `n` samples of which they decided `n_agree` alike.

    `kappa` is Cohen's: agreement beyond what chance gives, 1 at best; None where chance alone
    explains all, because both gave every sample the same outcome.
    """

    first: str
    second: str
    n: int
    n_agree: int
    agreement: float
    kappa: float | None


def pair_agreements(rows: Iterable[Mapping[str, Any]]) -> tuple[PairAgreement, ...]:
    """One entry a pair from rows (first, second, first_outcome, second_outcome, n), sorted by
    pair."""
    return tuple(
        _agreement(
            *pair, {(row["first_outcome"], row["second_outcome"]): row["n"] for row in counts}
        )
        for pair, counts in groupby(rows, key=lambda row: (row["first"], row["second"]))
    )


def cohens_kappa(counts: Mapping[tuple[Outcome, Outcome], int]) -> float | None:
    """Cohen's kappa (1960) of two raters from how often they gave which pair of outcomes; None
    where chance alone explains all.

    >>> cohens_kappa({("cat", "cat"): 4, ("cat", "dog"): 1, ("dog", "dog"): 5})
    0.8
    """
    n = sum(counts.values())
    firsts: Counter[Outcome] = Counter()
    seconds: Counter[Outcome] = Counter()
    for (first, second), times in counts.items():
        firsts[first] += times
        seconds[second] += times
    by_chance = sum(firsts[outcome] * seconds[outcome] for outcome in firsts) / n**2
    if by_chance == 1:
        return None
    return (_n_agree(counts) / n - by_chance) / (1 - by_chance)


def _agreement(first: str, second: str, counts: Mapping[tuple[str, str], int]) -> PairAgreement:
    n, n_agree = sum(counts.values()), _n_agree(counts)
    return PairAgreement(
        first=first,
        second=second,
        n=n,
        n_agree=n_agree,
        agreement=n_agree / n,
        kappa=cohens_kappa(counts),
    )


def _n_agree(counts: Mapping[tuple[Outcome, Outcome], int]) -> int:
    return sum(times for (first, second), times in counts.items() if first == second)
