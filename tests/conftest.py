"""What every test has to itself."""

from __future__ import annotations

import tempfile

import pytest


@pytest.fixture(autouse=True)
def own_turns(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for the device that a run outside of it works on."""
    folder = str(tmp_path_factory.mktemp("turns"))
    monkeypatch.setenv("TMPDIR", folder)
    monkeypatch.setattr(tempfile, "tempdir", folder)
