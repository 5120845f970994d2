"""The house rules that a machine can check."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_import_walls_stand() -> None:
    result = run(
        sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"
    )

    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("imports", "forbidden"),
    [
        ("app, review_ui.layout, review_ui.server", ("torch", "open_clip", "torchvision", "timm")),
        ("deft_core.__main__, deft_core.workspace", ("torch", "open_clip", "gradio", "fastapi")),
        ("deft_core.phase1, deft_core.phase2", ("duckdb", "gradio", "fastapi")),
    ],
)
def test_modules_stay_out_of_the_process(imports: str, forbidden: tuple[str, ...]) -> None:
    """A static graph cannot see imports inside functions; `sys.modules` can."""
    found = f"[name for name in {forbidden!r} if name in sys.modules]"

    result = run(sys.executable, "-c", f"import sys, {imports}; print({found})")

    assert result.stdout.strip() == "[]", result.stderr


def test_readme_names_commands_that_exist() -> None:
    targets = re.findall(r"^make (\w+)", README, flags=re.MULTILINE)
    commands = re.findall(r"python -m deft_core (\w+)", README)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    help_text = run(sys.executable, "-m", "deft_core", "--help").stdout

    assert {"demo", "test"} <= set(targets)
    assert all(f"\n{target}:" in makefile for target in targets)
    assert {"ingest", "phase1", "phase2", "export"} <= set(commands)
    assert all(command in help_text for command in commands)


def test_readme_lists_every_module() -> None:
    tree = README.split("## The tree")[1].split("```")[1]
    modules = [
        path.name
        for package in ("deft_core", "review_ui")
        for path in (ROOT / package).glob("*.py")
        if path.name != "__init__.py"
    ]

    missing = [name for name in modules if name not in tree]

    assert missing == []


def test_the_demo_model_is_small_enough_to_ship() -> None:
    size = sum(path.stat().st_size for path in (ROOT / "data" / "demo-clip").iterdir())

    assert size <= 16e6
