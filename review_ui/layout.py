"""The page: the tabs, their order, and how it looks."""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr
from fastapi import FastAPI
from gradio.routes import App

from deft_core.workspace import Workspace
from review_ui.adapt_tab import AdaptTab
from review_ui.detect_tab import DetectTab
from review_ui.export_tab import ExportTab
from review_ui.overview_tab import OverviewTab
from review_ui.review_tab import ReviewTab
from review_ui.widgets import LOOKED_AT

TITLE = "Denoising Fine-Tuning"
HEADER = """
<header class="page-head">
  <h1>Denoising Fine-Tuning</h1>
  <p>Find and fix wrong labels</p>
</header>
"""
HEAD = "".join(
    f'<link rel="stylesheet" href="/desk/{name}.css">'
    for name in ("app", "desk", "card", "grid", "plots", "dialogs")
)

TEAL = gr.themes.Color(
    c50="#effcf9",
    c100="#d3f5ee",
    c200="#a8e9de",
    c300="#71d5c8",
    c400="#3cb9ad",
    c500="#1f9c92",
    c600="#137d76",
    c700="#12645f",
    c800="#12504d",
    c900="#124240",
    c950="#042726",
)


def mount_page(app: FastAPI, *, workspace: Workspace) -> Callable[[], None]:
    """Puts the Gradio page at "/" of the app, with all that reaches beyond the machine off. What
    comes back ends the streams of the pages that are open, which Gradio does in its own server."""
    gr.mount_gradio_app(
        app,
        build_app(workspace),
        "/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        max_file_size=1,
        show_error=False,
        theme=theme(),
        head=HEAD,
    )
    page = next(one.app for one in app.routes if isinstance(getattr(one, "app", None), App))
    return page.stop_event.set


def build_app(workspace: Workspace) -> gr.Blocks:
    """The page with every tab wired to the workspace."""
    overview = OverviewTab(workspace)
    detect = DetectTab(workspace)
    review = ReviewTab()
    adapt = AdaptTab(workspace)
    export = ExportTab(workspace)
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as page:
        gr.HTML(html_template=HEADER, js_on_load="", apply_default_css=False)
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as tabs:
            for tab in (overview, detect, review, adapt, export):
                tab.layout()
        for wired in (overview, detect, adapt, export):
            wired.wire(page)
        detect.review.click(lambda: gr.Tabs(selected="review"), None, tabs, **LOOKED_AT)
        overview.go_on.click(lambda: gr.Tabs(selected=overview.next_tab()), None, tabs, **LOOKED_AT)
    return page


def theme() -> gr.themes.Base:
    """Calm neutrals, one accent, fonts that come with Gradio."""
    return gr.themes.Base(
        primary_hue=TEAL,
        secondary_hue=TEAL,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        # Gradio's own choice of weight 600 is a file without Latin letters.
        font=(
            gr.themes.utils.fonts.LocalFont("IBM Plex Sans", weights=(400, 700)),
            "system-ui",
            "sans-serif",
        ),
        font_mono=("ui-monospace", "Menlo", "Consolas", "monospace"),
    ).set(
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        body_background_fill="*neutral_50",
        body_background_fill_dark="#0f1720",
        background_fill_primary_dark="#151f2b",
        background_fill_secondary_dark="#1b2735",
        block_background_fill_dark="#151f2b",
        border_color_primary="*neutral_200",
        border_color_primary_dark="#2b3a4b",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        button_cancel_background_fill="#b91c1c",
        button_cancel_background_fill_hover="#991b1b",
        button_cancel_background_fill_dark="#b91c1c",
        button_cancel_background_fill_hover_dark="#dc2626",
        button_cancel_border_color="transparent",
        button_cancel_border_color_dark="transparent",
        button_cancel_text_color="white",
        button_cancel_text_color_dark="white",
        table_odd_background_fill_dark="#151f2b",
        table_even_background_fill_dark="#1b2735",
        block_shadow="none",
        block_label_text_weight="600",
    )
