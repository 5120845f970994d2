"""The application killed with -9 while a client decides: nothing acknowledged is lost."""

from __future__ import annotations

from pathlib import Path

from tools.kill_review import kill_again_and_again


def test_no_acknowledged_decision_is_lost_doubled_or_half(tmp_path: Path) -> None:
    toll = kill_again_and_again(tmp_path / "workspace", rounds=3)

    assert toll.n_kills == 3
    assert toll.n_acknowledged > 0
    assert toll.is_clean, toll
