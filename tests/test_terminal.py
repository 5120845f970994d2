"""What the progress line shows, on a terminal and elsewhere."""

from __future__ import annotations

import io

from deft_core.run_folder import Progress
from deft_core.terminal import GONE_ASTRAY, ProgressLine, describe, duration, summary


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_line__a_line_in_ten_seconds_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    times = iter([0.0, 5.0, 10.0, 19.0, 21.0])

    with ProgressLine(stream, clock=lambda: next(times)) as line:
        for done in range(1, 6):
            line.counting("reading")(done, 5000)

    assert stream.getvalue().splitlines() == [
        "reading · 1 of 5,000 images",
        "reading · 3 of 5,000 images",
        "reading · 5 of 5,000 images",
    ]


def test_progress_line__one_line_that_is_gone_at_the_end() -> None:
    stream = Terminal()
    times = iter([0.0, 0.05, 0.2])

    with ProgressLine(stream, clock=lambda: next(times)) as line:
        for stage in ("loading", "skipped", "training"):
            line.show(Progress(stage=stage))

    assert stream.getvalue() == "\r\x1b[2Kloading\r\x1b[2Ktraining\r\x1b[2K"


def test_describe__only_what_is_known() -> None:
    assert describe(Progress(stage="loading")) == "loading"
    full = Progress(
        stage="training",
        epoch=2,
        epochs=10,
        done=640,
        total=16000,
        fraction=0.04,
        images_per_second=81.5,
        seconds_left=95.4,
    )
    assert describe(full) == ("training · epoch 2 of 10 · 4% · 82 images/s · 1 min 35 s left")


def test_duration() -> None:
    assert [duration(seconds) for seconds in (0.4, 59.6, 7300)] == ["0 s", "1 min 0 s", "2 h 1 min"]


def test_summaries() -> None:
    scores = {"n": 400, "accuracy": 0.9125}
    curated = {"trained_on": "curated", "n_train": 1300, "test": scores}
    given = {"trained_on": "given", "n_train": 1600, "test": {**scores, "accuracy": 0.8}}
    for kind, report, expected in [
        (
            "phase1",
            {"n_scored": 1600, "n_flagged": 320},
            "1,600 images scored, 320 of them flagged.",
        ),
        (
            "phase1",
            {"n_scored": 1598, "n_flagged": 320, "unreadable": [{}, {}]},
            "1,598 images scored, 320 of them flagged. "
            "2 images were left out, for they cannot be read.",
        ),
        (
            "phase1",
            {"n_scored": 1600, "n_flagged": 117, "kappa": 0.01},
            f"1,600 images scored, 117 of them flagged. {GONE_ASTRAY}",
        ),
        (
            "phase2",
            {"evaluation": [{**curated, "test": None}]},
            "trained on 1,300 curated images; there are no test images.",
        ),
        (
            "phase2",
            {"evaluation": [curated]},
            "trained on 1,300 curated images, 91.2% of 400 test images are right.",
        ),
        (
            "phase2",
            {"evaluation": [given, curated]},
            "trained on 1,300 curated images, 91.2% of 400 test images are right; "
            "trained on the given labels, 80.0% are.",
        ),
    ]:
        assert summary(kind, {"unreadable": [], **report}) == expected
