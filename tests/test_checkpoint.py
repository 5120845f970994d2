"""What a run goes on from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deft_core import checkpoint
from deft_core.errors import RunError
from tests.small_world import make_store
from tests.test_runs import worked_through

CPU = torch.device("cpu")


def test_a_run_does_not_go_on_with_other_settings(tmp_path: Path) -> None:
    with make_store([0, 1]) as store:
        folder = worked_through(tmp_path / "phase1-001", store=store)
    assert checkpoint.load(folder, device=CPU) is None
    checkpoint.save(folder, {"epoch": 3})
    assert checkpoint.load(folder, device=CPU) == {"epoch": 3}

    task = folder.config()
    folder.write_json("config.json", {**task, "settings": {**task["settings"], "vpt_tokens": 5}})

    with pytest.raises(RunError, match="phase1-001 was trained with vpt_tokens 20 and cannot go"):
        checkpoint.load(folder, device=CPU)
