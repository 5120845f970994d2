"""The desk's own routes: small JSON answers over the use cases of the core, and pictures by id.

Nothing here knows a path that a client sent: samples go by number, exports by the name of a file
that is there. What was wrong is answered as {message, hint}; see `server.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, HTTPException, Query, Response
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from deft_core.errors import StoreError
from deft_core.review import LONGEST_PAGE, Decision, QueuedSample, QueuePage
from deft_core.workspace import Workspace
from review_ui.images import PREVIEW_PX, Images, SourceFile

LONGEST_BATCH = 1000
ASSETS = Path(__file__).parent / "assets"
ASSET_TYPES = {".js": "text/javascript", ".css": "text/css"}
KEEP = "private, max-age=604800, immutable"
ASK_AGAIN = "no-cache"
ANOTHER_STORE = {
    "message": "Another workspace is open here.",
    "hint": "Reload the page.",
    "is_another_store": True,
}

Name = Annotated[str, Field(min_length=1, max_length=200)]
Number = Annotated[int, Field(ge=0, lt=2**31)]


class Decide(BaseModel):
    """One verdict as the desk sends it."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["decide"]
    uid: Name
    group: Name
    sample_id: Number
    verdict: Name
    label: Number | None = None


class Undo(BaseModel):
    """One step back: the decisions of `group`, or the reviewer's last ones without it."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["undo"]
    uid: Name
    group: Name | None = None


class Batch(BaseModel):
    """Decisions and undos in the order in which they were made, for the store with the id `store`.
    Sample ids start at 0 in every store, so another one must never take them."""

    store: Name
    items: list[Annotated[Decide | Undo, Field(discriminator="type")]] = Field(
        min_length=1, max_length=LONGEST_BATCH
    )


def desk_routes(workspace: Workspace) -> APIRouter:
    """/api/v1: what the review desk asks for and sends."""
    routes = APIRouter(prefix="/api/v1")

    @routes.get("/session")
    def session() -> dict[str, Any]:
        workspace.runs.import_finished()
        dataset = workspace.dataset
        run = workspace.store.current_run()
        return {
            "store": workspace.store.id,
            "classes": dataset.class_names if dataset else [],
            "run": run.run_id if run else None,
            "similarity_range": _similarity_range(workspace),
            "progress": workspace.review.progress(),
        }

    @routes.get("/queue")
    def queue(
        after: Annotated[str | None, Query(max_length=100)] = None,
        limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE)] = 50,
    ) -> QueuePage:
        return workspace.review.queue(after=after, limit=limit)

    @routes.get("/samples/{sample_id}")
    def sample(sample_id: int) -> QueuedSample:
        with _unknown_is_404():
            return workspace.review.sample(sample_id)

    @routes.post("/decisions")
    def decisions(batch: Batch) -> Any:
        if batch.store != workspace.store.id:
            return JSONResponse(ANOTHER_STORE, status_code=409)
        return _settle(batch, workspace=workspace)

    @routes.get("/points")
    def points() -> Response:
        every = workspace.review.points()
        blob = b"".join(
            np.ascontiguousarray(column, dtype=kind).tobytes()
            for column, kind in (
                (every.sample_id, "<i4"),
                (every.pos_sim, "<f4"),
                (every.neg_sim, "<f4"),
                (every.p_clean, "<f4"),
            )
        )
        return Response(blob, media_type="application/octet-stream")

    return routes


def file_routes(workspace: Workspace) -> APIRouter:
    """Pictures, exported files, our own scripts, and Plotly from the installed wheel."""
    routes = APIRouter()
    images = Images(workspace.cache, find=lambda sample_id: _source(workspace, sample_id))

    @routes.get("/images/{sample_id}")
    def image(sample_id: int) -> Response:
        return _picture(images, sample_id, px=PREVIEW_PX)

    @routes.get("/exports/{name}")
    def export(name: str) -> FileResponse:
        return _one_of(workspace.exports, name, filename=name)

    @routes.get("/desk/{name}")
    def asset(name: str) -> FileResponse:
        return _one_of(ASSETS, name, media_type=ASSET_TYPES.get(Path(name).suffix))

    @routes.get("/vendor/plotly.min.js")
    def plotly() -> FileResponse:
        script = Path(str(files("plotly") / "package_data" / "plotly.min.js"))
        return FileResponse(script, media_type="text/javascript", headers={"Cache-Control": KEEP})

    return routes


def _settle(batch: Batch, *, workspace: Workspace) -> dict[str, Any]:
    """The progress once all is committed, and for each undo the samples it gave back.

    Neighbouring decisions share a transaction; an undo takes effect at its place among them.
    """
    undone: list[tuple[int, ...]] = []
    for is_undo, items in groupby(batch.items, key=lambda item: isinstance(item, Undo)):
        if is_undo:
            undone += [
                workspace.review.undo(uid=item.uid, group=item.group).sample_ids for item in items
            ]
        else:
            workspace.review.decide(
                [Decision(**item.model_dump(exclude={"type"})) for item in items]
            )
    return {"progress": workspace.review.progress(), "undone": undone}


def _similarity_range(workspace: Workspace) -> tuple[float, float]:
    """The least and the greatest similarity of any sample to a prompt of its given label."""
    points = workspace.review.points()
    if points.pos_sim.size == 0:
        return (0.0, 1.0)
    every = np.concatenate([points.pos_sim, points.neg_sim])
    return (float(every.min()), float(every.max()))


def _source(workspace: Workspace, sample_id: int) -> SourceFile:
    if workspace.dataset is None:
        raise StoreError(f"No sample with id {sample_id}.", "Bring in a data set first.")
    sample = workspace.store.sample(sample_id)
    return SourceFile(root=workspace.dataset.root, file_name=sample.file_name, sha256=sample.sha256)


def _picture(images: Images, sample_id: int, *, px: int) -> Response:
    with _unknown_is_404():
        picture = images.picture(sample_id, px=px)
    headers = {"Cache-Control": KEEP}
    if picture.problem:
        problem = picture.problem.encode("ascii", "replace").decode().replace("\n", " ")
        headers = {"Cache-Control": "no-store", "X-Picture-Problem": problem}
    return Response(picture.jpeg, media_type="image/jpeg", headers=headers)


def _one_of(folder: Path, name: str, **options: Any) -> FileResponse:
    """The file of this name that lies directly in the folder; 404 for any other name."""
    known = {path.name: path for path in folder.iterdir() if path.is_file()}
    if name not in known:
        raise HTTPException(404, f"There is no file {name}.")
    return FileResponse(known[name], headers={"Cache-Control": ASK_AGAIN}, **options)


@contextmanager
def _unknown_is_404() -> Iterator[None]:
    """Turns the core's refusal of an id into the web's "not found"."""
    try:
        yield
    except StoreError as error:
        raise HTTPException(404, error.message) from error
