"""What every test has to itself, and what keeps tests that run side by side apart."""

from __future__ import annotations

import os
import tempfile

import pytest
from hypothesis import HealthCheck, settings

# Threads of several processes that wait for each other on one core cost many times their work. Set
# before anything imports torch, and inherited by child processes; rounding may differ with others.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a run looks often how it stands."""
    monkeypatch.setattr("deft_core.runs.POLL_SECONDS", 0.05)


@pytest.fixture(autouse=True)
def own_turns(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for the device that a run outside of it works on."""
    folder = str(tmp_path_factory.mktemp("turns"))
    monkeypatch.setenv("TMPDIR", folder)
    monkeypatch.setattr(tempfile, "tempdir", folder)
