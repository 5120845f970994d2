"""Work that takes longer than a click: in a thread, so that a reload of the page finds it still
at work, and what came of it when it is over."""

from __future__ import annotations

import threading
from collections.abc import Callable

from deft_core.errors import DataError, DeftError
from review_ui.widgets import BUG, log, problem


class Background:
    """One piece of work at a time: how far it is, then Markdown of its result or its error."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._begin()

    @property
    def is_busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    @property
    def percent(self) -> float:
        return round(100 * self.n_done / self.n_total, 1) if self.n_total else 0.0

    def start(self, work: Callable[[], str]) -> None:
        """Begins `work`, which returns its result; DataError when the last one is not over."""
        if self.is_busy:
            raise DataError("The last one is still at work.", "Wait until it is done.")
        self._begin()
        self._thread = threading.Thread(target=self._work, args=[work], daemon=True)
        self._thread.start()

    def refuse(self, error: str) -> None:
        """What is shown in the place of work that cannot begin."""
        self._begin()
        self.error = error

    def count(self, n_done: int, n_total: int) -> None:
        """Takes in that `n_done` of `n_total` are done."""
        self.n_done, self.n_total = n_done, n_total

    def say(self, stage: str, n_done: int, n_total: int) -> None:
        """The same of steps of which the next one has a name."""
        self.stage = stage
        self.count(n_done, n_total)

    def _begin(self) -> None:
        self.n_done = self.n_total = 0
        self.stage = self.result = self.error = ""

    def _work(self, work: Callable[[], str]) -> None:
        try:
            self.result = work()
        except DeftError as error:
            self.error = problem(error.message, hint=error.hint)
        except Exception:
            log.exception("work in the background failed")
            self.error = problem(BUG)
