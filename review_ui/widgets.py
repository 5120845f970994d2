"""What several tabs use: the error boundary, texts that are shown literally, and forms."""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import gradio as gr

from deft_core.config import Config
from deft_core.errors import DeftError
from deft_core.presets import PRESET_HELPS

P = ParamSpec("P")
R = TypeVar("R")

BUG = "This is a bug. The terminal shows what happened."
PRESSED = {"api_visibility": "private", "show_progress": "hidden"}
"""How a button is wired. Gradio shows an error to the user only if the event goes by its queue."""
LOOKED_AT = {**PRESSED, "queue": False}
"""How a view is filled: by one small request, which a poll every second can afford."""

log = logging.getLogger(__name__)


def shows_errors(handler: Callable[P, R]) -> Callable[P, R]:
    """The handler, with a DeftError shown as written and anything else logged as a bug."""

    @wraps(handler)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return handler(*args, **kwargs)
        except DeftError as error:
            raise _toast(error.message, hint=error.hint) from error
        except Exception as error:
            log.exception("%s failed", handler.__qualname__)
            raise _toast(BUG) from error

    return guarded


def _toast(message: str, *, hint: str = "") -> gr.Error:
    return gr.Error(
        html.escape(" ".join(filter(None, (message, hint)))),
        title="Not possible",
        duration=12,
        print_exception=False,
    )


def literal(text: str) -> str:
    """Markdown that shows exactly this text, whatever it contains."""
    escaped = re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)
    return "<br>".join(line.strip() for line in escaped.splitlines())


def problem(message: str, *, hint: str = "") -> str:
    """Markdown for an error and what to do about it."""
    return "\n\n".join(filter(None, (f"**{literal(message)}**", literal(hint))))


def counted(number: int, singular: str, plural: str = "") -> str:
    """The number with its noun: "1 image", "1,204 images"."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def notice(*, tone: str = "plain") -> gr.Markdown:
    """A set-off paragraph, hidden while it is empty; `tone` is "plain", "good" or "bad".

    The style sheet hides it, not Gradio: a component that Gradio mounts together with its next
    value can come up with the value before.
    """
    return gr.Markdown(elem_classes=["notice", f"notice-{tone}"], latex_delimiters=[])


def figure_row() -> gr.HTML:
    """A row of numbers with their names, filled by `figures`: never with text of a data set."""
    return gr.HTML(
        value=[],
        html_template=(
            '<dl class="figures">{{#each value}}'
            "<div><dd>{{number}}</dd><dt>{{name}}</dt></div>"
            "{{/each}}</dl>"
        ),
        js_on_load="",
        apply_default_css=False,
        elem_classes="figure-row",
    )


def figures(pairs: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """The value of a figure row, from (number, name) pairs; the row is hidden without any."""
    return [{"number": number, "name": name} for number, name in pairs]


def progress_bar(*, label: str) -> gr.HTML:
    """A bar for 0 to 100 percent, hidden while it is None."""
    return gr.HTML(
        value=None,
        html_template=(
            '<div class="bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" '
            f'aria-label="{label}" aria-valuenow="{{{{value}}}}">'
            '<div style="width: {{value}}%"></div></div>'
        ),
        js_on_load="",
        apply_default_css=False,
        elem_classes="bar-row",
    )


class SettingsForm:
    """A form for one kind of settings, made from their own help texts and presets."""

    def __init__(self, config_type: type[Config]) -> None:
        self._type = config_type
        self._fields = {one.name: one for one in fields(config_type)}
        self._presets = list(config_type.presets)
        self._inputs: dict[str, gr.components.Component] = {}

    def layout(self) -> None:
        self.preset = gr.Radio(
            self._presets,
            value=self._presets[0],
            label="Preset",
            info="Fills in the settings below; each of them can still be changed.",
        )
        self._meaning = gr.Markdown(_meaning(self._presets[0]))
        plain = [one for one in self._fields.values() if not one.metadata["is_advanced"]]
        advanced = [one for one in self._fields.values() if one.metadata["is_advanced"]]
        with gr.Accordion("Settings", open=False), gr.Row(elem_classes="form-grid"):
            self._add_inputs(plain)
        with gr.Accordion("Advanced settings", open=False), gr.Row(elem_classes="form-grid"):
            self._add_inputs(advanced)

    def wire(self) -> None:
        self.preset.input(shows_errors(self._of_preset), self.preset, self.inputs, **PRESSED)
        # It changes with what a look at the page fills in, too.
        self.preset.change(_meaning, self.preset, self._meaning, **LOOKED_AT)
        for one in self.inputs:
            # What is pasted into a text field is no input to Gradio. Its changes would be those by
            # the page too, which come while the other inputs still hold what they held before.
            events = [one.input, one.blur] if isinstance(one, gr.Textbox) else [one.input]
            gr.on(events, shows_errors(self._preset_now), self.inputs, self.preset, **LOOKED_AT)

    @property
    def inputs(self) -> list[gr.components.Component]:
        return [self._inputs[name] for name in self._fields]

    def settings(self, values: Sequence[Any]) -> Config:
        """The settings that the inputs hold; ConfigError names what is wrong with them."""
        return self._type.from_json(dict(zip(self._fields, values, strict=True)))

    def values(self, settings: Mapping[str, Any]) -> list[Any]:
        """What the inputs show for these settings, which an older version may have saved."""
        known = {name: value for name, value in settings.items() if name in self._fields}
        complete = self._type.from_json(known).to_json()
        return [complete[name] for name in self._fields]

    def values_for_model(self, model: str, *, pretrained: str) -> list[Any]:
        """The first preset that uses this model, or the first of all, with this model."""
        every = [self._type.from_preset(name).to_json() for name in self._presets]
        using = [settings for settings in every if settings["model"] == model]
        return self.values({**(using or every)[0], "model": model, "pretrained": pretrained})

    def preset_of(self, values: Sequence[Any]) -> str | None:
        """The preset whose settings are exactly what the inputs hold, if there is one."""
        held = list(values)
        return next((name for name in self._presets if self._of_preset(name) == held), None)

    def _preset_now(self, *values: Any) -> str | None:
        return self.preset_of(values)

    def _of_preset(self, name: str) -> list[Any]:
        return self.values(self._type.from_preset(name).to_json())

    def _add_inputs(self, chosen: Sequence[Any]) -> None:
        for one in chosen:
            self._inputs[one.name] = _input(one)


def _meaning(preset: str | None) -> str:
    return PRESET_HELPS[preset] if preset else "Settings of your own."


def setting_label(one: Any) -> str:
    """What the form calls a setting: by its label, or its name."""
    return one.metadata["label"] or one.name.replace("_", " ").capitalize()


def _input(one: Any) -> gr.components.Component:
    """The component that suits a setting's type."""
    shown_as = {
        "value": one.default,
        "label": setting_label(one),
        "info": one.metadata["help"],
        "min_width": 260,
    }
    if one.metadata["choices"]:
        return gr.Dropdown(list(one.metadata["choices"]), **shown_as)
    if isinstance(one.default, bool):
        return gr.Checkbox(**shown_as)
    if isinstance(one.default, int):
        return gr.Number(precision=0, **shown_as)
    if isinstance(one.default, float):
        return gr.Number(**shown_as)
    return gr.Textbox(**shown_as)
