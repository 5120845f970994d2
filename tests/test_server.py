"""The guard in front of every route, and the desk's routes behind it."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from fastapi import HTTPException
from httpx import Response
from starlette.testclient import TestClient

from deft_core.errors import DeftError
from deft_core.workspace import Workspace
from review_ui.api import _one_of
from review_ui.server import create_app, listening
from tests.small_world import add_scores, write_class_folders

ROOT = Path(__file__).parent.parent
HERE = "http://127.0.0.1:7860"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("server")
    write_class_folders(folder / "data", n=3)
    with Workspace.open(folder / "workspace") as workspace:
        workspace.ingest(folder / "data")
        add_scores(workspace.store, [0.1, 0.2, 0.3, 0.4, 0.9, 0.9], predicted=[1] * 6)
        yield workspace


@pytest.fixture(scope="module")
def client(workspace: Workspace) -> TestClient:
    with warnings.catch_warnings():
        # Gradio leaves event loops of its own unclosed.
        warnings.simplefilter("ignore", ResourceWarning)
        app = create_app(workspace)
        gc.collect()
    return TestClient(app, base_url=HERE, raise_server_exceptions=False)


@pytest.fixture
def fresh(workspace: Workspace) -> Iterator[None]:
    """Takes back what a test decided."""
    yield
    while workspace.review.undo(uid=uuid4().hex).sample_ids:
        pass


def decide(uid: str, sample_id: int, verdict: str = "keep", label: int | None = None) -> dict:
    return {
        "type": "decide",
        "uid": uid,
        "group": uid,
        "sample_id": sample_id,
        "verdict": verdict,
        "label": label,
    }


def post(client: TestClient, workspace: Workspace, items: list[dict]) -> Response:
    body = {"store": workspace.store.id, "items": items}
    return client.post("/api/v1/decisions", json=body)


# --- the guard


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:3000"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/decisions", "/gradio_api/run/predict"])
def test_a_post_from_another_page_is_refused(
    client: TestClient, workspace: Workspace, path: str, headers: dict[str, str]
) -> None:
    body = {"store": workspace.store.id, "items": [decide("evil", 0)]}
    answer = client.post(path, json=body, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["message"] == "Requests from other web pages are refused."
    assert workspace.review.progress().n_decided == 0


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example"])
def test_another_host_name_is_refused(client: TestClient, host: str) -> None:
    assert client.get("/api/v1/session", headers={"host": host}).status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/upload",
        "/gradio_api/component_server",
        "/gradio_api/process_recording",
        "/login",
        "/api/v1/session/extra",
    ],
)
def test_routes_that_the_page_does_not_post_to_are_closed(client: TestClient, path: str) -> None:
    assert client.post(path, content=b"x").status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=https://example.com/x",
        "/gradio_api/file=http://127.0.0.1/x",
        "/gradio_api/proxy=https://example.com",
        "/gradio_api/upload_progress?upload_id=1",
        "/gradio_api/deep_link",
        "/monitoring",
    ],
)
def test_routes_that_would_fetch_from_elsewhere_are_closed(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 403


@pytest.mark.parametrize("path", ["/", "/api/v1/session", "/images/0", "/nowhere", "/desk/app.css"])
def test_every_answer_carries_the_security_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/config", "/api/v1/session", "/gradio_api/info"])
def test_no_other_page_may_read_an_answer(client: TestClient, path: str) -> None:
    headers = client.get(path, headers={"origin": "http://localhost:3000"}).headers
    assert not [name for name in headers if name.startswith("access-control-")]


def test_the_page_names_no_other_machine(client: TestClient) -> None:
    page = client.get("/").text
    hosts = set(re.findall(r"""(?:src|href)=["'](?:https?:)?//([^/"']+)""", page))
    assert hosts <= {"127.0.0.1:7860"}


# --- pictures and files


def test_pictures_are_served_by_id_and_cached(client: TestClient) -> None:
    answer = client.get("/images/0?v=1")
    assert answer.headers["content-type"] == "image/jpeg"
    assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize("path", ["/images/999", "/api/v1/samples/999", "/exports/none.csv"])
def test_what_is_unknown_is_not_found(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json()["message"]


@pytest.mark.parametrize(
    "path", ["/images/..%2f..%2fetc", "/exports/..%2fstore.duckdb", "/desk/..%2fserver.py"]
)
def test_no_path_leads_out(client: TestClient, path: str) -> None:
    assert client.get(path).status_code in (404, 422)


@pytest.mark.parametrize("name", ["../store.duckdb", "..", ".", "", "cache", "none.csv"])
def test_only_a_file_that_lies_in_the_folder_is_served(workspace: Workspace, name: str) -> None:
    assert (workspace.exports / ".." / "store.duckdb").is_file()
    with pytest.raises(HTTPException) as refused:
        _one_of(workspace.exports, name)
    assert refused.value.status_code == 404


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/desk/review.js", "text/javascript"),
        ("/desk/app.css", "text/css"),
        ("/vendor/plotly.min.js", "text/javascript"),
    ],
)
def test_scripts_come_from_this_machine(client: TestClient, path: str, kind: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(kind)


# --- the desk's routes


def test_the_session_says_what_the_desk_needs(client: TestClient) -> None:
    session = client.get("/api/v1/session").json()
    assert session["classes"] == ["cat", "dog"]
    assert session["run"] == "phase1-001"
    assert session["store"]
    assert session["progress"]["n_flagged"] == 4
    assert session["similarity_range"] == pytest.approx([0.2, 0.3])


def test_the_queue_comes_in_pages_most_suspect_first(client: TestClient) -> None:
    first = client.get("/api/v1/queue", params={"limit": 3}).json()
    rest = client.get("/api/v1/queue", params={"limit": 3, "after": first["next"]}).json()
    assert [one["sample_id"] for one in first["samples"] + rest["samples"]] == [0, 1, 2, 3]
    assert rest["next"] is None


def test_points_are_columns_of_four_bytes(client: TestClient, workspace: Workspace) -> None:
    blob = client.get("/api/v1/points").content
    columns = np.frombuffer(blob, "<f4").reshape(6, 6)
    assert columns[0].view("<i4").tolist() == list(range(6))
    assert columns[3] == pytest.approx(workspace.review.points().p_clean)
    assert columns[4].view("<i4").tolist() == workspace.review.points().given_label.tolist()
    assert columns[5].view("<i4").tolist() == workspace.review.points().is_clean.tolist()


@pytest.mark.usefixtures("fresh")
def test_a_batch_is_settled_in_order(client: TestClient, workspace: Workspace) -> None:
    items = [
        decide("a", 0),
        decide("b", 1, "relabel", 1),
        {"type": "undo", "uid": "c", "group": "b"},
        decide("d", 2, "exclude"),
    ]
    for _ in range(2):  # Sent twice, settled once.
        answer = post(client, workspace, items).json()
        assert answer["undone"] == [[1]]
        assert answer["progress"]["n_decided"] == 2
    assert [workspace.review.sample(i).verdict for i in range(3)] == ["keep", None, "exclude"]


@pytest.mark.usefixtures("fresh")
def test_an_undo_takes_back_what_the_desk_showed(client: TestClient, workspace: Workspace) -> None:
    items = [
        decide("e", 0),
        decide("f", 0, "exclude"),
        {"type": "undo", "uid": "g", "group": "e"},
        {"type": "undo", "uid": "h", "group": "e"},
    ]
    answer = post(client, workspace, items).json()
    assert answer["undone"] == [[0], []]
    assert workspace.review.sample(0).verdict == "exclude"


def test_decisions_for_another_store_are_not_taken(
    client: TestClient, workspace: Workspace
) -> None:
    body = {"store": "another", "items": [decide("i", 0)]}
    answer = client.post("/api/v1/decisions", json=body)
    assert answer.status_code == 409
    assert answer.json() == {
        "message": "Another workspace is open here.",
        "hint": "Reload the page.",
        "is_another_store": True,
    }
    assert workspace.review.progress().n_decided == 0


@pytest.mark.parametrize(
    ("item", "status"),
    [
        (decide("u", 999), 409),
        (decide("u", 0, "perhaps"), 409),
        (decide("u", 0, "relabel", 7), 409),
        (decide("u", 2**40), 422),
        (decide("u", -1), 422),
        (decide("", 0), 422),
        (decide("u" * 201, 0), 422),
        ({**decide("u", 0), "path": "/etc/passwd"}, 422),
        ({"type": "delete", "uid": "u"}, 422),
    ],
)
def test_what_cannot_be_decided_is_refused_in_words(
    client: TestClient, workspace: Workspace, item: dict, status: int
) -> None:
    answer = post(client, workspace, [item])
    assert answer.status_code == status
    assert set(answer.json()) == {"message", "hint"}
    assert "Traceback" not in answer.text
    assert workspace.review.progress().n_decided == 0


@pytest.mark.parametrize("limit", [0, 201])
def test_a_page_has_a_longest_size(client: TestClient, limit: int) -> None:
    assert client.get("/api/v1/queue", params={"limit": limit}).status_code == 422


@pytest.mark.parametrize("n", [0, 1001])
def test_a_batch_has_a_longest_size(client: TestClient, workspace: Workspace, n: int) -> None:
    answer = post(client, workspace, [decide(f"u{i}", 0) for i in range(n)])
    assert answer.status_code == 422
    assert answer.json()["message"].startswith("body.items")


def test_a_bug_is_called_one_and_shows_no_traceback(
    client: TestClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace.review, "points", lambda: 1 / 0)
    answer = client.get("/api/v1/points")
    assert answer.status_code == 500
    assert answer.json()["message"] == "This is a bug."


# --- the process


def test_a_port_in_use_is_named_and_without_one_the_next_is_taken() -> None:
    with listening(None) as first:
        port = first.getsockname()[1]
        with pytest.raises(DeftError, match=f"Port {port} cannot be used"):
            listening(port)
        with listening(None) as second:
            assert second.getsockname()[1] > port


def test_the_web_process_knows_no_torch_and_keeps_the_children_online() -> None:
    code = (
        "import sys, os, tempfile; from pathlib import Path;"
        "from deft_core.workspace import Workspace; from review_ui.server import create_app;"
        "create_app(Workspace.open(Path(tempfile.mkdtemp())));"
        "print([m for m in ('torch', 'open_clip', 'torchvision') if m in sys.modules],"
        "os.environ['GRADIO_ANALYTICS_ENABLED'], os.environ.get('HF_HUB_OFFLINE'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[0] == "[] False None"
