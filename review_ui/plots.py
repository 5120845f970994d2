"""Pure drawing: arrays in, a Plotly figure out. No state, no data access, no Gradio."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from deft_core.run_folder import Progress
from deft_core.selection import CLEAN_THRESHOLD

FLAGGED = "#d97706"
CLEAN = "#0d9488"
MUTED = "#94a3b8"
LINE = "#7c8796"
GRID = "rgba(128, 138, 150, 0.22)"
FONT = "IBM Plex Sans, system-ui, sans-serif"
N_BINS = 40


def clean_probability_histogram(
    p_clean: NDArray[np.float32], *, is_clean: NDArray[np.bool_]
) -> go.Figure:
    """How many samples have which clean probability, flagged ones set apart."""
    edges = np.linspace(0.0, 1.0, N_BINS + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    figure = _figure(x_title="clean probability", y_title="images")
    for name, colour, chosen in (("flagged", FLAGGED, ~is_clean), ("believed", CLEAN, is_clean)):
        counts, _ = np.histogram(p_clean[chosen], bins=edges)
        figure.add_bar(
            x=centres.tolist(),
            y=counts.tolist(),
            width=1.0 / N_BINS,
            name=name,
            marker={"color": colour, "line": {"width": 0}},
            hovertemplate="%{y} images near %{x:.0%}<extra></extra>",
        )
    figure.add_vline(x=CLEAN_THRESHOLD, line={"color": LINE, "width": 1.5, "dash": "dot"})
    figure.update_layout(barmode="stack", xaxis={"range": [0, 1], "tickformat": ".0%"})
    return figure


def loss_curve(reports: Sequence[Progress]) -> go.Figure:
    """The training loss against the share of the run that is done."""
    figure = _figure(x_title="share of the run done", y_title="training loss")
    figure.add_scatter(
        x=[one.fraction for one in reports],
        y=[one.loss for one in reports],
        mode="lines" if len(reports) > 1 else "markers",
        line={"color": CLEAN, "width": 2},
        name="loss",
        hovertemplate="loss %{y:.3f} at %{x:.0%}<extra></extra>",
        showlegend=False,
    )
    figure.update_layout(xaxis={"range": [0, 1], "tickformat": ".0%"})
    return figure


def accuracy_bars(accuracies: Sequence[tuple[str, float]]) -> go.Figure:
    """One bar for each (name, accuracy between 0 and 1), the first one in the accent colour."""
    figure = _figure(x_title="accuracy on the test images", y_title="")
    figure.add_bar(
        y=[name for name, _ in accuracies],
        x=[accuracy for _, accuracy in accuracies],
        orientation="h",
        marker={"color": [CLEAN, *[MUTED] * (len(accuracies) - 1)]},
        text=[f"{accuracy:.1%}" for _, accuracy in accuracies],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}: %{x:.1%}<extra></extra>",
        showlegend=False,
    )
    figure.update_layout(
        xaxis={"range": [0, 1.08], "tickformat": ".0%", "tickvals": [0, 0.25, 0.5, 0.75, 1]},
        yaxis={"autorange": "reversed", "showgrid": False},
        bargap=0.35,
        height=90 + 56 * len(accuracies),
    )
    return figure


def _figure(*, x_title: str, y_title: str) -> go.Figure:
    """An empty figure in the style of the desk's; the page's style sheet colours its text."""
    axis = {"gridcolor": GRID, "zeroline": False, "automargin": True, "ticklabelstandoff": 6}
    return go.Figure(
        layout={
            "template": "none",
            "height": 280,
            "margin": {"l": 56, "r": 24, "t": 28, "b": 48},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"color": LINE, "size": 13, "family": FONT},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            "xaxis": {**axis, "title": {"text": x_title, "font": {"size": 13}}},
            "yaxis": {**axis, "title": {"text": y_title, "font": {"size": 13}}},
        }
    )
