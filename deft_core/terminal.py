"""The words of the command line: how far a run is, in one rewritten line, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Self, TextIO

from deft_core.run_folder import Progress

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_REWRITES = 0.1
TRAINED_ON = {
    "given": "given labels",
    "selected": "selected clean set",
    "curated": "curated set",
}
"""The words for what a phase 2 was trained on."""
LEAST_KAPPA = 0.1
GONE_ASTRAY = (
    "Phase 1 has gone astray: the classes that it sees agree with the labels hardly more often "
    "than by chance, so its scores mean nothing. Start it again with a gradient limit of 1, or "
    "with a lower learning rate."
)
EXPORT_STAGES = (
    "loading the model",
    "writing the model",
    "reading it again",
    "translating to ONNX",
)
"""What export-model says on its way; the last one only if ONNX is asked for."""
ERASE_LINE = "\r\x1b[2K"


class ProgressLine:
    """A line that follows a command; where there is no terminal, a line in ten seconds at
    most."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._is_terminal = stream.isatty()
        self._pause = SECONDS_BETWEEN_REWRITES if self._is_terminal else SECONDS_BETWEEN_LINES
        self._shown_at = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_terminal:
            self._stream.write(ERASE_LINE)
            self._stream.flush()

    def show(self, progress: Progress) -> None:
        """Show a run's report, unless the last one is too fresh."""
        self._write(describe(progress))

    def counting(self, stage: str) -> Callable[[int, int], None]:
        """A callback that shows how many of how many are done."""
        return lambda done, total: self._write(f"{stage} · {done:,} of {total:,} images")

    def _write(self, text: str) -> None:
        now = self._clock()
        if now - self._shown_at < self._pause:
            return
        self._shown_at = now
        self._stream.write(f"{ERASE_LINE}{text}" if self._is_terminal else f"{text}\n")
        self._stream.flush()


def describe(progress: Progress) -> str:
    """A run's report in one line.

    >>> describe(Progress(stage="training", epoch=2, epochs=10, images_per_second=81.5,
    ...                   seconds_left=95.0))
    'training · epoch 2 of 10 · 82 images/s · 1 min 35 s left'
    """
    parts = [
        progress.stage,
        f"epoch {progress.epoch} of {progress.epochs}" if progress.epochs else "",
        f"{progress.fraction:.0%}" if progress.total else "",
        f"{progress.images_per_second:.0f} images/s" if progress.images_per_second else "",
        f"{duration(progress.seconds_left)} left" if progress.seconds_left is not None else "",
        progress.note,
    ]
    return " · ".join(filter(None, parts))


def duration(seconds: float) -> str:
    """Seconds in the two largest units that matter.

    >>> duration(7), duration(95), duration(7300)
    ('7 s', '1 min 35 s', '2 h 1 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def memory(n_bytes: int) -> str:
    """Bytes in the unit that suits them.

    >>> memory(1200), memory(300_000_000), memory(12_340_000_000)
    ('1 kB', '300 MB', '12.3 GB')
    """
    if n_bytes < 1e6:
        return f"{n_bytes / 1e3:.0f} kB"
    return f"{n_bytes / 1e6:.0f} MB" if n_bytes < 1e9 else f"{n_bytes / 1e9:.1f} GB"


def summary(kind: str, report: dict[str, Any]) -> str:
    """What a run of this kind came to."""
    n_unreadable = len(report["unreadable"])
    left_out = f" {n_unreadable:,} images were left out, for they cannot be read."
    return _SUMMARIES[kind](report) + (left_out if n_unreadable else "")


def phase1_warning(report: dict[str, Any]) -> str:
    """That a phase 1 has gone astray, if it has.

    >>> phase1_warning({"kappa": 0.7})
    ''
    """
    kappa = report.get("kappa")
    return GONE_ASTRAY if kappa is not None and kappa < LEAST_KAPPA else ""


def _phase1_summary(report: dict[str, Any]) -> str:
    counts = f"{report['n_scored']:,} images scored, {report['n_flagged']:,} of them flagged."
    warning = phase1_warning(report)
    return f"{counts} {warning}" if warning else counts


def _phase2_summary(report: dict[str, Any]) -> str:
    *compared, curated = report["evaluation"]
    trained = f"trained on {curated['n_train']:,} curated images"
    if curated["test"] is None:
        return f"{trained}; there are no test images."
    accuracy = (
        f"{trained}, {curated['test']['accuracy']:.1%} of {curated['test']['n']:,} test images are "
        "right"
    )
    others = [
        f"; trained on the {TRAINED_ON[one['trained_on']]}, {one['test']['accuracy']:.1%} are"
        for one in compared
    ]
    return f"{accuracy}{''.join(others)}."


_SUMMARIES: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "phase1": _phase1_summary,
    "phase2": _phase2_summary,
}
