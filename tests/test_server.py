"""The guard in front of every route, and the desk's routes behind it."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import numpy as np
import pytest
from fastapi import HTTPException
from httpx import Response
from starlette.testclient import TestClient

from deft_core.errors import DeftError
from deft_core.store import Store
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
    while workspace.review.undo(uid=uuid4().hex):
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
        "/api/v1/samples/0/history",
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


def test_every_answer_names_the_store_and_the_run(client: TestClient, workspace: Workspace) -> None:
    name = f"{workspace.store.id}/phase1-001"
    refused = {"store": "another", "items": [decide("a", 0)]}
    answers = [
        client.get("/api/v1/session"),
        client.get("/api/v1/points"),
        client.post("/api/v1/decisions", json=refused),
    ]
    assert [one.status_code for one in answers] == [200, 200, 409]
    assert [one.headers["X-Run"] for one in answers] == [name] * 3


def test_the_queue_comes_in_pages_most_suspect_first(client: TestClient) -> None:
    first = client.post("/api/v1/queue", json={"limit": 3}).json()
    rest = client.post("/api/v1/queue", json={"limit": 3, "after": first["next"]}).json()
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
def test_a_redo_and_a_note_are_settled_with_the_rest(client: TestClient) -> None:
    store = client.get("/api/v1/session").json()["store"]
    items = [
        {"type": "note", "uid": "n", "group": "n", "sample_id": 0, "note": "a\nb"},
        decide("o", 1),
        {"type": "undo", "uid": "p"},
        {"type": "redo", "uid": "q", "undo": "p"},
        {"type": "undo", "uid": "s", "group": "o"},
    ]
    for _ in range(2):
        answer = client.post("/api/v1/decisions", json={"store": store, "items": items}).json()
        assert (answer["undone"], answer["redone"]) == ([[1], [1]], [[1]])
    assert client.get("/api/v1/samples/0").json()["note"] == "a\nb"
    history = client.get("/api/v1/samples/1/history").json()
    kinds = [one["kind"] for one in history["events"]]
    assert kinds[-4:] == ["decision", "undo", "redo", "undo"]


@pytest.mark.usefixtures("fresh")
def test_everybody_decides_under_a_name_of_their_own(
    client: TestClient, workspace: Workspace
) -> None:
    name = "Zoë <b>${1}</b> 'x'"
    headers = {"X-Reviewer": quote(name)}
    items = [decide("r1", 0), {**decide("r2", 1), "reviewer": "ann"}]
    body = {"store": workspace.store.id, "items": items}
    assert client.post("/api/v1/decisions", json=body, headers=headers).status_code == 200
    session = client.get("/api/v1/session", headers=headers).json()
    assert session["reviewer"] == name
    assert client.get("/api/v1/samples/0").json()["reviewer"] == name
    assert client.get("/api/v1/samples/1").json()["reviewer"] == "ann"
    for reviewer in (name, "ann"):
        assert workspace.review.undo(uid=uuid4().hex, reviewer=reviewer)
    answer = client.get("/api/v1/session", headers={"X-Reviewer": "a%00b"})
    assert answer.status_code == 409


@pytest.mark.usefixtures("fresh")
def test_all_that_match_are_decided_in_one_step_or_not_at_all(
    client: TestClient, workspace: Workspace
) -> None:
    body = {
        "store": workspace.store.id,
        "uid": "all",
        "filter": {"given": [0]},
        "verdict": "relabel",
        "label": 1,
        "n": 2,
        "counted_at": 0,
    }
    refused = client.post("/api/v1/apply", json=body)
    assert refused.status_code == 409
    assert refused.json()["n_matching"] == 3
    for _ in range(2):
        answer = client.post("/api/v1/apply", json={**body, "n": 3}).json()
        assert (answer["n_applied"], answer["group"]) == (3, "all")
        assert answer["progress"]["n_relabelled"] == 3
    assert client.post("/api/v1/apply", json={**body, "store": "x"}).json()["is_another_store"]
    del body["counted_at"]
    assert client.post("/api/v1/apply", json=body).status_code == 422


def test_a_queue_is_chosen_counted_and_leased(client: TestClient, workspace: Workspace) -> None:
    n_events = workspace.store.log.n_events()
    body = {"filter": {"name": "all", "text": "DOG"}, "sort": "margin", "limit": 2}
    page = client.post("/api/v1/queue", json=body).json()
    rest = client.post("/api/v1/queue", json={**body, "after": page["next"]}).json()
    assert [one["sample_id"] for one in page["samples"] + rest["samples"]] == [3, 4, 5]
    counts = client.post("/api/v1/count", json={"filter": body["filter"]}).json()
    assert counts.pop("counted_at") == n_events
    assert counts == {
        "n_matching": 3,
        "n_flagged": 1,
        "n_undecided": 3,
        "n_with_suggestion": 0,
        "n_leased": 0,
    }
    cells = client.post("/api/v1/confusion", json={"filter": {"name": "all"}}).json()
    assert cells["n_cells"] == 2
    assert cells["cells"][0]["given"] == 0
    held = client.post("/api/v1/queue", json={"lease": True, "limit": 3}).json()
    other = client.post("/api/v1/queue", json={"lease": True}, headers={"X-Reviewer": "bob"}).json()
    assert [one["sample_id"] for one in held["samples"]] == [0, 1, 2]
    assert [one["sample_id"] for one in other["samples"]] == [3]
    assert other["n_leased"] == 3
    assert client.put("/api/v1/leases").json() == {"n_renewed": 3}
    for headers, n in (({}, 3), ({"X-Reviewer": "bob"}, 1)):
        answer = client.post("/api/v1/leases", json={"release": "all"}, headers=headers)
        assert answer.json() == {"n_released": n}


def test_the_view_survives_and_is_each_reviewers_own(client: TestClient) -> None:
    assert client.get("/api/v1/view").json() == {"view": None}
    store = client.get("/api/v1/session").json()["store"]
    state = {"sort": "random", "seed": 7, "mode": "grid", "filter": {"given": [1]}, "run": "r1"}
    kept = client.put("/api/v1/view", json={**state, "store": store}).json()
    assert client.get("/api/v1/view").json() == kept
    assert kept["view"]["filter"]["given"] == [1]
    assert (kept["view"]["page_size"], kept["view"]["run"]) == (24, "r1")
    assert client.get("/api/v1/view", headers={"X-Reviewer": "bob"}).json() == {"view": None}


def test_a_page_of_another_store_leaves_the_view_alone(client: TestClient) -> None:
    before = client.get("/api/v1/view").json()

    refused = client.put("/api/v1/view", json={"store": "other", "page_size": 77})

    assert refused.status_code == 409
    assert refused.json()["is_another_store"]
    assert client.get("/api/v1/view").json() == before


def test_double_review_is_chosen_and_its_agreement_shown(client: TestClient) -> None:
    assert client.put("/api/v1/double", json={"share": 0.5}).json() == {"double_share": 0.5}
    assert client.get("/api/v1/agreement").json() == {
        "double_share": 0.5,
        "n_disputed": 0,
        "pairs": [],
    }
    assert client.put("/api/v1/double", json={"share": 0}).status_code == 200


def test_evidence_has_a_sentence(client: TestClient) -> None:
    evidence = client.get("/api/v1/samples/0/evidence").json()
    assert evidence["sentence"].startswith("Labelled cat; closer to the positive prompt")
    assert (evidence["nearest"], evidence["has_neighbours"]) == ([], False)


def test_a_copy_of_the_store_is_made_while_it_is_open(
    client: TestClient, workspace: Workspace
) -> None:
    name = client.post("/api/v1/backup").json()["name"]
    with Store(workspace.path / "backups" / name) as copy:
        assert copy.id == workspace.store.id
        assert copy.samples().num_rows == 6


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "queue", {"sort": "path"}),
        ("POST", "queue", {"filter": {"name": "mine"}}),
        ("POST", "queue", {"filter": {"sql": "1=1"}}),
        ("POST", "queue", {"filter": {"sample_ids": [0] * 100_001}}),
        ("POST", "queue", {"filter": {"text": "x" * 201}}),
        ("POST", "queue", {"limit": 201}),
        ("POST", "confusion", {"limit": 1001}),
        ("PUT", "view", {"mode": "list"}),
        ("PUT", "view", {"filter": {"sample_ids": [0] * 1001}}),
        ("PUT", "double", {"share": 2}),
        ("POST", "leases", {"release": "everything"}),
        (
            "POST",
            "apply",
            {"store": "x", "uid": "u" * 151, "filter": {}, "verdict": "keep", "n": 1},
        ),
    ],
)
def test_what_is_over_a_limit_is_refused(
    client: TestClient, method: str, path: str, body: dict
) -> None:
    answer = client.request(method, f"/api/v1/{path}", json=body)
    assert answer.status_code == 422
    assert set(answer.json()) == {"message", "hint"}


def test_pictures_come_in_a_few_sizes(client: TestClient) -> None:
    for px in (160, 320, 640, 1024, 2048):
        assert client.get(f"/images/0?px={px}").headers["content-type"] == "image/jpeg"
    assert client.get("/images/0?px=161").status_code == 422


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
    assert client.post("/api/v1/queue", json={"limit": limit}).status_code == 422


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
