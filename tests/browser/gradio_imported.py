"""Imports once what every application needs, as the application does: see application.py."""

from review_ui.server import _quiet_gradio

with _quiet_gradio():
    import review_ui.layout  # noqa: F401
