"""Kills the application with -9 again and again while a client decides, and counts what was lost.

python -m tools.kill_review [--rounds N]

A client sends decisions, whole groups, undos and bulk steps as the desk does: in order, each again
until it is answered. The process dies at a moment drawn anew for each round, also in the middle of
a bulk step. At the end every acknowledged event must be in the log exactly once, every group whole,
and log, journal and derived tables must agree.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import numpy as np

from deft_core.workspace import STORE, Workspace
from tools.bench_core import filled_store

ROOT = Path(__file__).resolve().parent.parent
N_SAMPLES = 2000
GROUP = 24
FEWEST_ANSWERS, MOST_ANSWERS = 3, 25
"""A round ends by a kill while the answer after so many is under way."""
OPENER = build_opener(ProxyHandler({}))


@dataclass
class Toll:
    """What the kills cost. A whole group has all of its events in the log, or none."""

    n_kills: int = 0
    n_acknowledged: int = 0
    n_lost: int = 0
    n_doubled: int = 0
    n_half_groups: int = 0
    is_sound: bool = False
    n_restart_failures: int = 0

    @property
    def is_clean(self) -> bool:
        return self.is_sound and not (
            self.n_lost or self.n_doubled or self.n_half_groups or self.n_restart_failures
        )


@dataclass
class Client:
    """Makes requests in order and remembers which uids and groups were acknowledged, and how large
    each group is that was ever sent."""

    store: str
    rng: random.Random
    n_sent: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    acknowledged: list[str] = field(default_factory=list)

    def next_request(self) -> tuple[str, dict[str, Any], list[str]]:
        """A route, what to send there and the uids that an answer acknowledges."""
        self.n_sent += 1
        uid = f"c{self.n_sent}"
        kind = self.rng.choices(["one", "group", "undo", "bulk"], [5, 3, 2, 2])[0]
        if kind == "bulk":
            ids = sorted(self.rng.sample(range(N_SAMPLES), 1000))
            self.sizes[uid] = len(ids)
            wanted = {"name": "all", "sample_ids": ids}
            body = {
                "store": self.store,
                "uid": uid,
                "filter": wanted,
                "verdict": "exclude",
                "n": len(ids),
                "counted_at": 0,
            }
            return "apply", body, [f"{uid}:{one}" for one in ids]
        if kind == "undo":
            items: list[dict[str, Any]] = [{"type": "undo", "uid": uid}]
        else:
            n = GROUP if kind == "group" else 1
            self.sizes[uid] = n
            items = [
                {
                    "type": "decide",
                    "uid": f"{uid}-{number}",
                    "group": uid,
                    "sample_id": self.rng.randrange(N_SAMPLES),
                    "verdict": self.rng.choice(["keep", "both", "unsure"]),
                }
                for number in range(n)
            ]
        body = {"store": self.store, "items": items}
        return "decisions", body, [item["uid"] for item in items]


class Application:
    """The application as a child process."""

    def __init__(self, workspace: Path) -> None:
        command = [sys.executable, "app.py", "--workspace", str(workspace), "--no-browser"]
        self._process = subprocess.Popen(
            [*command, "--port", "0"], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("Ready: "):
            self.kill()
            raise RuntimeError(f"The application did not start: {line!r}")
        self.address = line.split()[1]

    def post(self, route: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request; OSError when the application is gone."""
        request = Request(
            f"{self.address}/api/v1/{route}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with OPENER.open(request, timeout=60) as answer:
            return dict(json.load(answer))

    def kill(self) -> None:
        """The process is dead, without a chance to do anything."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def kill_again_and_again(workspace: Path, *, rounds: int, seed: int = 0) -> Toll:
    """What `rounds` kills cost on a new workspace."""
    workspace.mkdir(parents=True)
    with filled_store(workspace / STORE, n_samples=N_SAMPLES) as store:
        client = Client(store=store.id, rng=random.Random(seed))
    toll = Toll()
    waiting = client.next_request()
    for _ in range(rounds):
        try:
            application = Application(workspace)
        except RuntimeError:
            toll.n_restart_failures += 1
            continue
        waiting = _talk_until_killed(application, client=client, waiting=waiting)
        toll.n_kills += 1
    _count(workspace, client=client, toll=toll)
    return toll


def _talk_until_killed(
    application: Application, *, client: Client, waiting: tuple[str, dict[str, Any], list[str]]
) -> tuple[str, dict[str, Any], list[str]]:
    """The request that had no answer yet when the application died."""
    last = client.rng.randint(FEWEST_ANSWERS, MOST_ANSWERS)
    delay = client.rng.random() * 0.04
    n_answers = 0
    killer: threading.Timer | None = None
    while True:
        if n_answers == last:
            killer = threading.Timer(delay, application.kill)
            killer.start()
        route, body, uids = waiting
        try:
            application.post(route, body)
        except HTTPError as error:
            raise AssertionError(f"{route} was refused: {error.read()!r}") from error
        except (OSError, HTTPException):
            assert killer is not None, "The application died by itself."
            killer.join()
            return waiting
        client.acknowledged += uids
        n_answers += 1
        waiting = client.next_request()


def _count(workspace: Path, *, client: Client, toll: Toll) -> None:
    with Workspace.open(workspace) as opened:
        log = opened.store.log.events()
        toll.is_sound = opened.store.verify().is_sound
    times = Counter(log["uid"].to_pylist())
    is_decision = np.array(log["verdict"].is_valid())
    by_group = Counter(np.array(log["grp"])[is_decision].tolist())
    toll.n_acknowledged = len(client.acknowledged)
    toll.n_lost = sum(uid not in times for uid in client.acknowledged)
    toll.n_doubled = sum(n > 1 for n in times.values())
    toll.n_half_groups = sum(n != client.sizes[group] for group, n in by_group.items())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        toll = kill_again_and_again(Path(scratch) / "workspace", rounds=options.rounds)
    print(toll)
    sys.exit(0 if toll.is_clean else 1)
