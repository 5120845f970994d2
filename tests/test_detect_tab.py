"""What the Detect tab says of the scores of a phase 1."""

from __future__ import annotations

import numpy as np
import pytest

from review_ui.detect_tab import tells_apart


@pytest.mark.parametrize(
    ("p_clean", "expected"),
    [
        ([0.47, 0.49, 0.5, 0.52, 0.55, 0.48, 0.51, 0.5, 0.53, 0.46], False),
        ([0.47, 0.49, 0.5, 0.52, 0.55, 0.48, 0.51, 0.5, 0.1, 0.9], True),
        ([0.99, 0.98, 1.0], True),
        ([], True),
    ],
)
def test_scores_near_one_half_tell_nothing_apart(p_clean: list[float], expected: bool) -> None:
    assert tells_apart(np.array(p_clean, np.float32)) is expected
