"""The desk's own routes: small JSON answers over the use cases of the core, and pictures by id.

Nothing here knows a path that a client sent: samples go by number, exports by the name of a file
that is there. What was wrong is answered as {message, hint}; see `server.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote

import numpy as np
from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse
from fastapi.routing import APIRoute

from deft_core.decisions import Decision, Note
from deft_core.errors import CountChangedError, DataError, DiskFullError, StoreError
from deft_core.reasons import Evidence
from deft_core.review import Review
from deft_core.selection import CLEAN_THRESHOLD
from deft_core.shown import Agreement, Confusion, Counts, History, QueuedSample, QueuePage
from deft_core.workspace import Workspace
from review_ui.images import Images, SourceFile
from review_ui.messages import (
    LONGEST_BATCH,
    Apply,
    Batch,
    ConfusionMessage,
    CountMessage,
    Decide,
    Double,
    NoteMessage,
    QueueMessage,
    Redo,
    Release,
    Undo,
    ViewMessage,
)

ASSETS = Path(__file__).parent / "assets"
ASSET_TYPES = {".js": "text/javascript", ".css": "text/css"}
KEEP = "private, max-age=604800, immutable"
ASK_AGAIN = "no-cache"
ANOTHER_STORE = {
    "message": "Another workspace is open here.",
    "hint": "Reload the page.",
    "is_another_store": True,
}


def reviewer_name(x_reviewer: Annotated[str | None, Header(max_length=2000)] = None) -> str | None:
    """Who asks, by the header X-Reviewer in percent-encoding; None for the default reviewer."""
    return unquote(x_reviewer) if x_reviewer else None


Reviewer = Annotated[str | None, Depends(reviewer_name)]


def desk_routes(workspace: Workspace) -> APIRouter:
    """/api/v1: what the review desk asks for and sends. Every answer that is no error names the run
    whose scores it comes from, so that a page which stays open learns of another one."""
    routes = APIRouter(prefix="/api/v1", route_class=_naming_the_run(workspace))

    review = workspace.review

    @routes.get("/session")
    def session(reviewer: Reviewer) -> dict[str, Any]:
        with suppress(DiskFullError):
            workspace.runs.import_finished()
        dataset = workspace.dataset
        run = workspace.store.current_run()
        return {
            "store": workspace.store.id,
            "classes": dataset.class_names if dataset else [],
            "run": run.run_id if run else None,
            "similarity_range": review.similarity_range(),
            "clean_threshold": CLEAN_THRESHOLD,
            "progress": review.progress(seen_by=review.name(reviewer)),
            "reviewer": review.name(reviewer),
            "double_share": review.double_share(),
        }

    @routes.post("/queue")
    def queue(asked: QueueMessage, reviewer: Reviewer) -> QueuePage:
        return review.queue(
            asked.filter.wanted(),
            sort=asked.order(),
            after=asked.after,
            limit=asked.limit,
            reviewer=reviewer,
            is_leased=asked.lease,
        )

    @routes.post("/count")
    def count(asked: CountMessage, reviewer: Reviewer) -> Counts:
        return review.count(asked.filter.wanted(), reviewer=reviewer)

    @routes.post("/confusion")
    def confusion(asked: ConfusionMessage, reviewer: Reviewer) -> Confusion:
        return review.confusion(asked.filter.wanted(), limit=asked.limit, reviewer=reviewer)

    @routes.get("/samples/{sample_id}")
    def sample(sample_id: int, reviewer: Reviewer) -> QueuedSample:
        with _unknown_is_404():
            return review.sample(sample_id, reviewer=reviewer)

    @routes.get("/samples/{sample_id}/history")
    def history(sample_id: int, reviewer: Reviewer) -> History:
        with _unknown_is_404():
            return review.history(sample_id, reviewer=reviewer)

    @routes.get("/samples/{sample_id}/evidence")
    def evidence(sample_id: int, reviewer: Reviewer) -> Evidence:
        with _unknown_is_404():
            return review.evidence(sample_id, reviewer=reviewer)

    @routes.post("/decisions")
    def decisions(batch: Batch, reviewer: Reviewer) -> Any:
        if batch.store != workspace.store.id:
            return JSONResponse(ANOTHER_STORE, status_code=409)
        return _settle(batch, review=review, sender=reviewer)

    @routes.post("/apply")
    def apply(asked: Apply, reviewer: Reviewer) -> Any:
        if asked.store != workspace.store.id:
            return JSONResponse(ANOTHER_STORE, status_code=409)
        try:
            n_applied = review.decide_matching(
                asked.filter.wanted(),
                uid=asked.uid,
                verdict=asked.verdict,
                label=asked.label,
                n_expected=asked.n,
                counted_at=asked.counted_at,
                run=asked.run,
                reviewer=reviewer,
            )
        except CountChangedError as error:
            answer = {"message": error.message, "hint": error.hint, "n_matching": error.n_matching}
            return JSONResponse(answer, status_code=409)
        return {
            "n_applied": n_applied,
            "group": asked.uid,
            "progress": review.progress(seen_by=review.name(reviewer)),
        }

    @routes.get("/view")
    def view(reviewer: Reviewer) -> dict[str, Any]:
        return {"view": review.view(reviewer=reviewer)}

    @routes.put("/view")
    def keep_view(asked: ViewMessage, reviewer: Reviewer) -> Any:
        if asked.store != workspace.store.id:
            return JSONResponse(ANOTHER_STORE, status_code=409)
        state = asked.model_dump(exclude={"store"})
        review.set_view(state, reviewer=reviewer)
        return {"view": state}

    @routes.post("/leases")
    def leases(asked: Release, reviewer: Reviewer) -> dict[str, int]:
        ids = None if asked.release == "all" else asked.release
        return {"n_released": review.release(ids, reviewer=reviewer)}

    @routes.put("/leases")
    def renewed_leases(reviewer: Reviewer) -> dict[str, int]:
        return {"n_renewed": review.renew_leases(reviewer=reviewer)}

    @routes.put("/double")
    def double(asked: Double) -> dict[str, float]:
        review.set_double_share(asked.share)
        return {"double_share": asked.share}

    @routes.get("/agreement")
    def agreement() -> Agreement:
        return review.agreement()

    @routes.post("/backup")
    def backup() -> dict[str, str]:
        return {"name": workspace.copy_store().name}

    @routes.get("/points")
    def points(reviewer: Reviewer) -> Response:
        every = review.points(seen_by=review.name(reviewer))
        blob = b"".join(
            np.ascontiguousarray(column, dtype=kind).tobytes()
            for column, kind in (
                (every.sample_id, "<i4"),
                (every.pos_sim, "<f4"),
                (every.neg_sim, "<f4"),
                (every.p_clean, "<f4"),
                (every.given_label, "<i4"),
                (every.is_clean, "<i4"),
            )
        )
        return Response(blob, media_type="application/octet-stream")

    return routes


def file_routes(workspace: Workspace) -> APIRouter:
    """Pictures, exported files, our own scripts, and Plotly from the installed wheel."""
    routes = APIRouter()
    images = Images(workspace.cache, find=lambda sample_id: _source(workspace, sample_id))

    @routes.get("/images/{sample_id}")
    def image(
        sample_id: int,
        px: Annotated[Literal["160", "320", "640", "1024", "2048"], Query()] = "1024",
    ) -> Response:
        return _picture(images, sample_id, px=int(px))

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


def _naming_the_run(workspace: Workspace) -> type[APIRoute]:
    """Routes whose answers have the header X-Run: the ids of the store and of its current run. It
    is read after the answer was made, so that it is never older than the answer."""

    def name() -> str:
        return f"{workspace.store.id}/{workspace.store.current_run_id() or ''}"

    class NamingRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def named(request: Request) -> Response:
                response = await handle(request)
                response.headers["X-Run"] = await run_in_threadpool(name)
                return response

            return named

    return NamingRoute


def _settle(batch: Batch, *, review: Review, sender: str | None) -> dict[str, Any]:
    """The progress once all is committed, and for each undo and redo the samples it gave back.

    Neighbouring decisions and notes of one reviewer share a transaction; an undo or redo takes
    effect at its place among them.
    """
    undone: list[tuple[int, ...]] = []
    redone: list[tuple[int, ...]] = []
    for (is_step, reviewer), items in groupby(
        batch.items, key=lambda item: (isinstance(item, Undo | Redo), item.reviewer or sender)
    ):
        if not is_step:
            review.decide(list(map(_event, items)), reviewer=reviewer)
            continue
        for item in items:
            if isinstance(item, Undo):
                back = review.undo(uid=item.uid, group=item.group, reviewer=reviewer)
                undone.append(back[:LONGEST_BATCH])
            else:
                back = review.redo(uid=item.uid, undo=item.undo, reviewer=reviewer)
                redone.append(back[:LONGEST_BATCH])
    progress = review.progress(seen_by=review.name(sender))
    return {"progress": progress, "undone": undone, "redone": redone}


def _event(item: Decide | NoteMessage) -> Decision | Note:
    values = item.model_dump(exclude={"type", "reviewer"})
    return Decision(**values) if isinstance(item, Decide) else Note(**values)


def _source(workspace: Workspace, sample_id: int) -> SourceFile:
    if workspace.dataset is None:
        raise StoreError(f"No sample with id {sample_id}.", "Bring in a data set first.")
    sample = workspace.store.sample(sample_id)
    return SourceFile(root=workspace.dataset.root, file_name=sample.file_name, sha256=sample.sha256)


def _picture(images: Images, sample_id: int, *, px: int) -> Response:
    try:
        with _unknown_is_404():
            jpeg = images.picture(sample_id, px=px)
    except DataError as error:
        raise HTTPException(404, f"This image cannot be shown: {error.message}.") from error
    return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": KEEP})


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
