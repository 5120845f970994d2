"""Errors the user can mend. Anything else that is raised is a bug and keeps its traceback.

Only two places show them: the command line (standard error, exit code 2) and the one boundary of
the browser side.
"""

from __future__ import annotations

from collections.abc import Iterator

EXIT_ERROR = 2
"""How a command ends that one of these has stopped."""


class DeftError(Exception):
    """What is wrong, what was expected and what was found; `hint` says what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nHint: {self.hint}" if self.hint else self.message


class DataError(DeftError):
    """The data set or an image in it cannot be used as it is."""


class ConfigError(DeftError):
    """A setting has a name or a value that does not exist."""


class RunError(DeftError):
    """A run cannot start, was stopped, or its folder is not complete."""


class DiskFullError(DeftError):
    """There is no room for what was to be written: it is not done, and may be asked for again."""


class ExportError(DeftError):
    """The export cannot be written where, or as, it was asked."""


class StoreError(DeftError):
    """The store cannot be opened, or refuses what was asked of it."""


class StoreTakenError(StoreError):
    """The process with the id `pid` has the store open."""

    def __init__(self, message: str, hint: str = "", *, pid: int) -> None:
        super().__init__(message, hint)
        self.pid = pid


class CountChangedError(StoreError):
    """Not as many samples match as the reviewer was shown; `n_matching` do now."""

    def __init__(self, message: str, hint: str = "", *, n_matching: int) -> None:
        super().__init__(message, hint)
        self.n_matching = n_matching


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """An error, then each one that led to it."""
    one: BaseException | None = error
    while one:
        yield one
        one = one.__cause__ or one.__context__
