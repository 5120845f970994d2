"""What several threads ask for at the same time is done by one of them in one go."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Request = TypeVar("Request")


class Together(Generic[Request]):
    """Gives `do_all` the requests that have come while it was at work, in their order.

    When it fails, each of them is done alone, so that a bad one fails by itself: what fails must
    leave nothing behind, or be harmless to do again.
    """

    def __init__(self, do_all: Callable[[list[Request]], None]) -> None:
        self._do_all = do_all
        self._turn = threading.Condition()
        self._waiting: list[tuple[Request, Future[None]]] = []
        self._is_busy = False

    def do(self, request: Request) -> None:
        """The request is done; raises what it failed with."""
        outcome: Future[None] = Future()
        with self._turn:
            self._waiting.append((request, outcome))
            self._turn.wait_for(lambda: outcome.done() or not self._is_busy)
            is_mine = not outcome.done()
            if is_mine:
                self._is_busy = True
                batch, self._waiting = self._waiting, []
        if is_mine:
            self._settle(batch)
            with self._turn:
                self._is_busy = False
                self._turn.notify_all()
        outcome.result()

    def _settle(self, batch: list[tuple[Request, Future[None]]]) -> None:
        try:
            self._do_all([request for request, _ in batch])
        except BaseException as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            for one in batch:
                self._settle([one])
        else:
            for _, outcome in batch:
                outcome.set_result(None)
