"""How long a run would take: the run itself, stopped after some seconds of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing

from deft_core.run_folder import WAITING, Progress, RunFolder
from deft_core.run_process import Stage

MEASURED_SECONDS = 8.0


def probing(stage: Stage, *, clock: Callable[[], float] = time.monotonic) -> Stage:
    """The stage until its speed is known. Its report holds the `seconds` that all of it would take
    on a free device, of which `measured_seconds` were tried."""

    def probe(folder: RunFolder) -> Generator[Progress, None, None]:
        begun = clock()
        first: tuple[float, float] | None = None
        seconds_left = 0.0
        with closing(stage(folder)) as reports:
            for progress in reports:
                yield progress
                now = clock()
                if progress.stage == WAITING:
                    begun = now
                if not progress.total:
                    continue
                if first is None:
                    # What comes before is loading, which happens once.
                    first = (now, progress.fraction)
                elif now - first[0] >= MEASURED_SECONDS:
                    speed = (progress.fraction - first[1]) / (now - first[0])
                    seconds_left = (1 - progress.fraction) / max(speed, 1e-9)
                    break
        seconds = clock() - begun
        folder.write_json(
            "report.json", {"seconds": seconds + seconds_left, "measured_seconds": seconds}
        )

    return probe
