"""The form for the settings of a run: which preset it shows as chosen."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from deft_core.config import Config, Phase1Config, Phase2Config
from deft_core.presets import DEMO_MODEL, PHASE1, PHASE2, PRESET_HELPS
from review_ui.widgets import SettingsForm, setting_label


@pytest.mark.parametrize("name", ["paper", "demo"])
def test_a_preset_is_chosen_only_while_all_its_values_are(name: str) -> None:
    form = SettingsForm(Phase1Config)
    settings = Phase1Config.from_preset(name).to_json()

    assert form.preset_of(form.values(settings)) == name
    assert form.preset_of(form.values({**settings, "epochs": 77})) is None


def test_settings_that_another_version_saved_are_completed() -> None:
    form = SettingsForm(Phase1Config)

    shown = form.values({"epochs": 3, "model": DEMO_MODEL, "a_setting_of_old": 1})

    assert shown == form.values(Phase1Config(epochs=3, model=DEMO_MODEL).to_json())


def test_a_first_phase_2_takes_the_model_of_phase_1() -> None:
    form = SettingsForm(Phase2Config)

    demo = form.values_for_model(DEMO_MODEL, pretrained="")
    assert form.preset_of(demo) == "demo"

    other = form.values_for_model("RN50", pretrained="weights.pt")
    paper = Phase2Config.from_preset("paper").to_json()
    assert other == form.values({**paper, "model": "RN50", "pretrained": "weights.pt"})
    assert form.preset_of(other) is None


@pytest.mark.parametrize("config", [Phase1Config, Phase2Config])
def test_every_setting_has_a_label_of_its_own_in_words(config: type[Config]) -> None:
    labels = [setting_label(one) for one in fields(config)]

    assert not [one for one in labels if re.match(r"(Is|Has|N|Vpt) |Pretrained", one)]
    assert len(set(labels)) == len(labels)


def test_every_preset_says_what_it_is_for() -> None:
    assert {*PHASE1, *PHASE2} == set(PRESET_HELPS)
