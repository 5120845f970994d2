"""Weights that cannot be fetched: said at once and in words, without a request to a real host."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from huggingface_hub import close_session, constants

from deft_core import backbones, clip
from deft_core.errors import ConfigError

FROM_HUB = {
    "timm": partial(backbones.load, "timm:test_vit3", "hub", n_classes=3),
    "open_clip": partial(clip.load, "ViT-B-32", "laion2b_s34b_b79k"),
    "a model of the hub": partial(clip.load, "hf-hub:nobody/nothing"),
}


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No weights have been fetched before, and they may be."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    yield
    close_session()


def point_hub_to(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"http://127.0.0.1:{port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The paths that a model hub on this machine is asked for; it has nothing."""
    paths: list[str] = []

    class Nothing(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            paths.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Nothing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        point_hub_to(server.server_port, monkeypatch)
        yield paths
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("load", FROM_HUB.values(), ids=FROM_HUB.keys())
def test_without_a_network_nothing_is_tried_again(
    load: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        point_hub_to(nobody_listens.getsockname()[1], monkeypatch)

        with pytest.raises(ConfigError, match="there is no connection to http://127") as caught:
            load()

    assert "it is not on this machine" in caught.value.message
    assert "path of a weights file" in caught.value.hint
    assert not constants.HF_HUB_OFFLINE


@pytest.mark.parametrize("load", FROM_HUB.values(), ids=FROM_HUB.keys())
def test_a_hub_that_may_not_be_asked_is_not(
    load: Callable[[], object], asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE forbids to ask"):
        load()

    assert asked == []
    assert constants.HF_HUB_OFFLINE


def test_what_an_answering_hub_does_not_have_is_its_own_error(asked: list[str]) -> None:
    with pytest.raises(ConfigError, match="could not be loaded") as caught:
        FROM_HUB["timm"]()

    assert "no connection" not in caught.value.message
    assert any("test_vit3" in path for path in asked)


def test_models_on_this_machine_ask_no_hub(tmp_path: Path, asked: list[str]) -> None:
    damaged = tmp_path / "weights.safetensors"
    damaged.write_bytes(b"not weights")

    with pytest.raises(ConfigError, match="could not be loaded"):
        backbones.load("timm:resnet18", str(damaged), n_classes=3)
    with pytest.raises(ConfigError, match="could not be loaded"):
        clip.load("ViT-B-32", str(damaged))
    backbones.load("timm:resnet18", "", n_classes=3)

    assert asked == []
