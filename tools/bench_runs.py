"""What the benchmarks share: runs without a workspace, noise by name, and how errors are shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from deft_core import noise
from deft_core.config import Config, Phase1Config
from deft_core.errors import EXIT_ERROR, ConfigError, DeftError
from deft_core.prompts import default_prompt
from deft_core.run_folder import RunFolder
from deft_core.selection import undecided


def new_run(
    path: Path, settings: Config, *, root: Path, class_names: Sequence[str], samples: pa.Table
) -> RunFolder:
    """A run of `settings` on samples that nobody has decided, at the new folder `path`, with its
    cache beside it."""
    config = {
        "kind": "phase1" if isinstance(settings, Phase1Config) else "phase2",
        "round": 1,
        "created_at": datetime.now(UTC).isoformat(),
        "root": str(root),
        "cache": str(path.parent / "cache"),
        "class_names": list(class_names),
        "prompts": list(map(default_prompt, class_names)),
        "settings": settings.to_json(),
    }
    return RunFolder.create(path, config=config, samples=undecided(samples))


def parse_noise(text: str) -> tuple[str, float]:
    """Mode and ratio from "sym:0.2"; ConfigError when it is not a kind of noise with a ratio.

    >>> parse_noise("idn-raw:0.3")
    ('idn-raw', 0.3)
    """
    mode, _, ratio = text.partition(":")
    try:
        number = float(ratio)
    except ValueError:
        number = -1.0
    if mode not in noise.MODES or not 0 <= number < 1:
        raise ConfigError(
            f'"{text}" is not a kind of noise with a ratio.',
            f"Write it as sym:0.2, with one of {', '.join(noise.MODES)} and a ratio below 1.",
        )
    return mode, number


def parse_changes(pairs: Sequence[str], config: type[Config]) -> dict[str, object]:
    """Settings from `NAME=VALUE`; what is not a text setting is read as JSON."""
    defaults = config().to_json()
    changes: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        is_text = isinstance(defaults.get(name, ""), str)
        try:
            changes[name] = value if is_text else json.loads(value)
        except ValueError:
            equals = ""
        if not equals:
            raise ConfigError(f'"{pair}" changes no setting.', "Write it as epochs=3.")
    return changes


@contextmanager
def showing_errors() -> Iterator[None]:
    """A block whose DeftErrors end the program as the command line shows them, with exit code 2."""
    try:
        yield
    except DeftError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(EXIT_ERROR)
