"""The TensorBoard files of a run, read back as TensorBoard reads them."""

from __future__ import annotations

import struct
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event

from deft_core.curves import Curves
from deft_core.run_folder import Progress, RunFolder


def written(folder: Path) -> list[Event]:
    """The events in the folder, file after file: length, its checksum, bytes, their checksum."""
    events = []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            (n,) = struct.unpack("<Q", content[:8])
            events.append(Event.FromString(content[12 : 12 + n]))
            content = content[16 + n :]
    return events


def test_a_loss_is_written_over_the_images_done(tmp_path: Path) -> None:
    with Curves(RunFolder(tmp_path)) as curves:
        curves.add(Progress(stage="loading"))
        curves.add(Progress(stage="training", done=64, loss=1.5, images_per_second=20.0))

    scalars = {
        one.summary.value[0].tag: (one.step, one.summary.value[0].simple_value)
        for one in written(tmp_path / "tensorboard")
        if one.summary.value
    }
    assert scalars == {
        "loss/training": (64, 1.5),
        "images_per_second/training": (64, 20.0),
    }


def test_a_run_that_goes_on_voids_what_comes_again(tmp_path: Path) -> None:
    with Curves(RunFolder(tmp_path)) as curves:
        curves.add(Progress(stage="training", done=64, loss=1.5))

    assert any(
        one.session_log.status and one.step == 64 for one in written(tmp_path / "tensorboard")
    )


def test_a_run_without_a_loss_writes_nothing(tmp_path: Path) -> None:
    with Curves(RunFolder(tmp_path)) as curves:
        curves.add(Progress(stage="scoring", done=3))

    assert not (tmp_path / "tensorboard").exists()
