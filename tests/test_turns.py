"""What a run that waits for its turn is told."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from uuid import uuid4

import pytest

from deft_core import turns
from deft_core.run_folder import Progress


def test_the_run_that_has_the_device_is_named_however_its_folder_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = f"test-{uuid4().hex}"

    def begin(run: Path) -> Generator[Progress, None, None]:
        work = iter([Progress(stage="training")])
        yield from turns.in_turn(work, run=run, devices={"gpu": device})

    monkeypatch.chdir(tmp_path)
    first, second = begin(Path("phase1-001")), begin(tmp_path / "phase1-002")

    assert next(first).stage == "training"
    assert next(second).note == "phase1-001 works on gpu."
    (turns._folder() / f"{device}.lock").write_text("")
    assert next(second).note == "Another run works on gpu."

    first.close()
    assert next(second).stage == "training"
    second.close()
