"""The Review tab: one gr.HTML with a constant template; all of its logic is assets/review.js."""

from __future__ import annotations

import gradio as gr

from review_ui.api import ASSETS

START = "import('/desk/review.js').then(({ mount }) => mount(element));"


class ReviewTab:
    """The desk itself says when it is empty, busy, done, or could not save."""

    def layout(self) -> None:
        with gr.Tab("Review", id="review", elem_id="review-tab") as self.tab:
            gr.HTML(
                html_template=(ASSETS / "review.html").read_text(encoding="utf-8"),
                js_on_load=START,
                apply_default_css=False,
            )
