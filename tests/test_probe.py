"""How long a run would take, by a clock that the stage itself sets."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from deft_core.probe import probing
from deft_core.run_files import ProbeReport
from deft_core.run_folder import WAITING, Progress, RunFolder


class Work:
    """A run that loads for 5 seconds and then does 10 images a second."""

    def __init__(self, *, n_images: int, seconds_waiting: int = 0) -> None:
        self.now = 100.0
        self._seconds_waiting = seconds_waiting
        self.is_closed = False
        self._n_images = n_images

    def __call__(self, folder: RunFolder) -> Generator[Progress, None, None]:
        try:
            for _ in range(self._seconds_waiting):
                self.now += 1
                yield Progress(stage=WAITING)
            yield Progress(stage="loading")
            self.now += 5
            for done in range(0, self._n_images + 1, 10):
                yield Progress(
                    stage="training",
                    done=done,
                    total=self._n_images,
                    fraction=done / self._n_images,
                )
                self.now += 1
        finally:
            self.is_closed = True


def test_a_long_run_is_stopped_and_reckoned_from_its_speed(tmp_path: Path) -> None:
    work, folder = Work(n_images=6000), RunFolder(tmp_path)

    reports = list(probing(work, clock=lambda: work.now)(folder))

    assert reports[-1].done == 80
    assert work.is_closed
    report = folder.read_json("report.json", ProbeReport)
    assert report == {"seconds": 5 + 600, "measured_seconds": 13}


def test_a_short_run_has_taken_what_it_took(tmp_path: Path) -> None:
    work, folder = Work(n_images=20), RunFolder(tmp_path)

    list(probing(work, clock=lambda: work.now)(folder))

    assert folder.read_json("report.json", ProbeReport) == {"seconds": 8, "measured_seconds": 8}


def test_the_wait_for_a_device_is_no_part_of_it(tmp_path: Path) -> None:
    work, folder = Work(n_images=20, seconds_waiting=600), RunFolder(tmp_path)

    list(probing(work, clock=lambda: work.now)(folder))

    assert folder.read_json("report.json", ProbeReport) == {"seconds": 8, "measured_seconds": 8}
