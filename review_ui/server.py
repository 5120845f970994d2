"""The web server: a FastAPI parent with a guard, the desk's routes, and the Gradio page at "/".

Gradio alone answers posts from any web page that the browser has open, and any host name that
points here. The guard and the host check in front of it refuse both, on every route. Only this
machine is served, and nothing is ever requested from another one.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deft_core.errors import DeftError, DiskFullError
from deft_core.whole_files import writing_whole
from deft_core.workspace import SERVER, Workspace
from review_ui.api import desk_routes, file_routes

HOST = "127.0.0.1"
FIRST_PORT = 7860
N_PORTS = 20

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
# What the page posts to: the desk's routes, and Gradio's events. Uploads are among the closed.
OPEN_TO_POST = re.compile(r"/api/v1/[a-z]+|/gradio_api/(queue/join|run/\w+|reset|cancel)/?")
# What Gradio would fetch from elsewhere for the asking, or tell of other visitors.
CLOSED = re.compile(r"/(gradio_api/)?(file=https?:|proxy=|upload|deep_link|monitoring|stream|vibe)")

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        # gr.HTML builds its template with new Function.
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "connect-src 'self' data: blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "frame-ancestors 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "object-src 'none'",
    )
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}

log = logging.getLogger(__name__)


class Guard:
    """Refuses what another web page could make the browser send, and adds the security headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                # Gradio would let pages of other servers on this machine read its answers.
                for name in [name for name in headers if name.startswith("access-control-")]:
                    del headers[name]
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
            await send(message)

        problem = "Web sockets are not used." if scope["type"] != "http" else _refusal(scope)
        answer = _problem(403, problem) if problem else self._app
        await answer(scope, receive, send_with_headers)


def _refusal(scope: Scope) -> str:
    """Why this request is not let in; empty when it is."""
    request = Request(scope)
    path = request.url.path
    if CLOSED.match(path):
        return "This route is closed."
    if request.method in SAFE_METHODS:
        return ""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    is_foreign = site is not None and site not in ("same-origin", "none")
    if is_foreign or (origin and origin.partition("://")[2] != request.headers.get("host")):
        return "Requests from other web pages are refused."
    return "" if OPEN_TO_POST.fullmatch(path) else "This route is closed."


def create_app(workspace: Workspace) -> FastAPI:
    """The whole application on one workspace, ready to be served or tested."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(DeftError, _show_error)
    app.add_exception_handler(HTTPException, _show_http_error)
    app.add_exception_handler(RequestValidationError, _show_invalid)
    app.add_exception_handler(Exception, _show_bug)
    app.include_router(desk_routes(workspace))
    app.include_router(file_routes(workspace))
    with _quiet_gradio():
        from review_ui.layout import mount_page

        app.state.end_streams = mount_page(app, workspace=workspace)
    app.add_middleware(Guard)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    return app


def serve(
    workspace: Workspace, *, port: int | None = None, on_ready: Callable[[str], None]
) -> None:
    """Serves until interrupted; `on_ready` gets the address once it answers.

    Without `port` the first free one from 7860 on is taken.
    """
    with listening(port) as listener:
        own_port = listener.getsockname()[1]
        address = f"http://{HOST}:{own_port}"
        app = create_app(workspace)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3)
        server = _Server(config, on_ready=lambda: on_ready(address), on_stop=app.state.end_streams)
        sign = workspace.path / SERVER
        with writing_whole(sign) as path:
            path.write_text(json.dumps({"pid": os.getpid(), "port": own_port}), encoding="utf-8")
        # uvicorn raises the signal that stopped it once more; both end this block in good order.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            with suppress(KeyboardInterrupt):
                server.run(sockets=[listener])
        finally:
            sign.unlink(missing_ok=True)


class _Server(uvicorn.Server):
    """uvicorn, saying when it has begun to answer, and when it is about to stop."""

    def __init__(
        self, config: uvicorn.Config, *, on_ready: Callable[[], None], on_stop: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._on_stop = on_stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_stop()
        await super().shutdown(sockets)


def listening(port: int | None) -> socket.socket:
    """A socket on the port, or on the first free one; DeftError when there is none."""
    candidates = range(FIRST_PORT, FIRST_PORT + N_PORTS) if port is None else [port]
    problem = ""
    for candidate in candidates:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, candidate))
            listener.listen()
        except OSError as error:
            listener.close()
            problem = f"Port {candidate} cannot be used: {error.strerror}."
        else:
            return listener
    raise DeftError(problem, "Choose another --port, or leave it out.")


@contextmanager
def _quiet_gradio() -> Iterator[None]:
    """Gradio is imported so that neither it nor the hub client ever calls home.

    Offline mode ends with the import, because runs inherit the environment and may have to
    download a model's weights.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before


def _problem(status: int, message: str, hint: str = "") -> JSONResponse:
    return JSONResponse({"message": message, "hint": hint}, status_code=status)


async def _show_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DeftError)
    # The desk asks again for what there was no room for, and never for what was refused.
    status = 507 if isinstance(error, DiskFullError) else 409
    return _problem(status, error.message, error.hint)


async def _show_http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _problem(error.status_code, str(error.detail))


async def _show_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return _problem(422, f"{place}: {first['msg']}", "Reload the page.")


async def _show_bug(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _problem(500, "This is a bug.", "The terminal shows what happened.")
