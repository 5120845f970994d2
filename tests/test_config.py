"""Settings: what is taken, in which type, and what is refused by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deft_core.config import LARGEST_SEED, Phase1Config, Phase2Config
from deft_core.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent


def test_numbers_take_the_type_of_their_setting() -> None:
    config = Phase1Config.from_json({"epochs": 10.0, "learning_rate": 1, "seed": LARGEST_SEED})

    assert (type(config.epochs), type(config.learning_rate)) == (int, float)
    assert config == Phase1Config(epochs=10, learning_rate=1.0, seed=LARGEST_SEED)
    assert Phase1Config.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"learning_rate": float("nan")}, "learning_rate is nan; it must be a finite number"),
        ({"learning_rate": float("inf")}, "learning_rate is inf; it must be a finite number"),
        ({"learning_rate": 10**400}, "learning_rate must be a number, found 1000"),
        ({"epochs": 2.5}, "epochs must be a whole number, found 2.5"),
        ({"epochs": float("inf")}, "epochs must be a whole number, found inf"),
        ({"epochs": True}, "epochs must be a whole number, found True"),
        ({"epochs": "2"}, "epochs must be a whole number, found '2'"),
        ({"epochs": 0}, "epochs is 0; the least is 1"),
        ({"has_class_contexts": 1}, "has_class_contexts must be true or false, found 1"),
        ({"seed": -1}, "seed is -1; the least is 0"),
        ({"seed": 2**32}, "seed is 4294967296; the most is 4294967295"),
        ({"seed": 10**400}, "seed is 1000"),
        ({"device": "tpu"}, 'device is "tpu"'),
        ({"epoch": 1}, 'Phase 1 has no setting "epoch"'),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Phase1Config.from_json(values)

    assert problem in caught.value.message


def test_a_preset_that_does_not_exist_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match='Phase 2 has no preset "quick"') as caught:
        Phase2Config.from_preset("quick")

    assert "linear-probe" in caught.value.hint


@pytest.mark.parametrize("config", [Phase1Config, Phase2Config])
def test_the_demo_model_is_found_from_any_folder(config: type[Phase1Config]) -> None:
    folder = Path(config.from_preset("demo").model.removeprefix("local-dir:"))

    assert folder == ROOT / "data" / "demo-clip"


def test_the_application_keeps_its_data_in_one_place_whatever_the_current_folder(
    tmp_path: Path,
) -> None:
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import app; print(app.DEMO_WORKSPACE)"
    printed = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert printed.stdout.strip() == str(ROOT / "data" / "demo-workspace")


def test_a_phase_2_in_which_nothing_learns_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing is left to learn"):
        Phase2Config(image_side="none", head="text")


def test_lora_cannot_be_compiled() -> None:
    with pytest.raises(ConfigError, match='cannot follow the image_side "lora"') as caught:
        Phase1Config(image_side="lora", is_compiled=True)

    assert "is_compiled" in caught.value.hint


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"image_side": "vpt-deep"}, '"vpt-deep" is for the image tower of a CLIP'),
        ({"head": "text"}, "has no text encoder"),
    ],
)
def test_what_timm_models_cannot_do_is_refused(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Phase2Config(model="timm:resnet18", **values)


def test_every_preset_can_be_used() -> None:
    for config in (Phase1Config, Phase2Config):
        for name in config.presets:
            assert config.from_preset(name).to_json().items() >= config.presets[name].items()
