"""Pre-trained weights from the model hub or a file: what keeps them from being loaded, in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pickle import UnpicklingError

from httpx2 import TransportError
from huggingface_hub import constants, get_session
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import SafetensorError

from deft_core.errors import ConfigError

HUB_SECONDS = 5
ERRORS = (
    RuntimeError,
    ValueError,
    OSError,
    KeyError,
    TypeError,
    AssertionError,
    TransportError,
    UnpicklingError,
    SafetensorError,
)
"""What the libraries raise for weights that are not there, damaged or another model's."""


@contextmanager
def loading(model: str, pretrained: str, *, is_from_hub: bool, fetch: str) -> Iterator[None]:
    """A block in which a library loads these weights; ConfigError says why it could not.

    `fetch` is the Python code that does so where there is a network. When the model hub does not
    answer, only its cache is searched: left to itself, the library asks for each file again and
    again, for most of a minute.
    """
    was_offline = constants.HF_HUB_OFFLINE
    is_offline = was_offline or (is_from_hub and not _hub_answers())
    constants.HF_HUB_OFFLINE = is_offline
    try:
        yield
    except ERRORS as error:
        is_missing = is_offline and _is_missing_here(error)
        reason = _hub_problem(was_offline) if is_missing else str(error)
        raise ConfigError(
            f'The model "{model}" with weights "{pretrained}" could not be loaded: {reason}',
            "Weights come from the model hub once and are cached; where there is a network, fetch "
            f'them with: python -c "{fetch}". Without one, give the path of a weights file.',
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = was_offline


def _hub_answers() -> bool:
    """Whether the model hub says anything at all."""
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_SECONDS)
    except TransportError:
        return False
    return True


def _is_missing_here(error: BaseException | None) -> bool:
    """Whether an error comes from a file that the hub's cache does not have."""
    if error is None:
        return False
    return isinstance(error, LocalEntryNotFoundError) or _is_missing_here(error.__context__)


def _hub_problem(is_forbidden: bool) -> str:
    why = "HF_HUB_OFFLINE forbids to ask" if is_forbidden else "there is no connection to"
    return f"it is not on this machine, and {why} {constants.ENDPOINT}."
