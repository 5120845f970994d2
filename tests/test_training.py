"""The device, the precision and the training loop, on real images and a real optimiser."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from deft_core import training
from deft_core.config import TrainingConfig
from deft_core.engine import Engine, find_device, find_precision
from deft_core.errors import ConfigError, RunError
from deft_core.loading import Batch, FeatureLoader, ImageLoader
from deft_core.run_folder import Progress
from deft_core.training import Meter, Parts, Training

CPU = torch.device("cpu")
N = 10


def configure(**settings: Any) -> TrainingConfig:
    plain = {"batch_size": 5, "momentum": 0.0, "weight_decay": 0.0, "device": "cpu"}
    return TrainingConfig(**{**plain, **settings})


class Pull:
    """Pulls the module's weight towards a number of each row."""

    def __init__(self, module: nn.Linear) -> None:
        self.module = module
        self.targets = torch.arange(N) / 2

    def begin_batch(self) -> None:
        self.sum = torch.zeros(())

    def loss(self, part: Batch, _epoch: int) -> Tensor:
        found = self.module(torch.ones(len(part.rows), 1))[:, 0]
        loss = ((found - self.targets[part.rows]) ** 2).sum()
        self.sum = self.sum + loss.detach()
        return loss

    def end_batch(self, n_in_all: int) -> Tensor:
        return self.sum / n_in_all


class OutOfMemory(Pull):
    """A machine whose memory holds only so many images."""

    def __init__(self, module: nn.Linear, *, n_held: int) -> None:
        super().__init__(module)
        self.n_held = n_held

    def loss(self, part: Batch, epoch: int) -> Tensor:
        loss = super().loss(part, epoch)
        if len(part.rows) > self.n_held:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return loss


class Broken(Pull):
    def loss(self, part: Batch, epoch: int) -> Tensor:
        return super().loss(part, epoch) * math.nan

    def end_batch(self, n_in_all: int) -> Tensor:
        return super().end_batch(n_in_all) * math.nan


def one_weight() -> nn.Linear:
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    return module


def begin(
    objective: Pull,
    settings: TrainingConfig,
    *,
    meter: Meter | None = None,
    engine: Engine | None = None,
) -> Training:
    return Training(
        objective.module,
        objective,
        engine=engine or Engine(settings),
        settings=settings,
        stage_of=lambda epoch: f"epoch {epoch}",
        meter=meter or Meter(N * settings.epochs),
    )


def features(settings: TrainingConfig) -> FeatureLoader:
    return FeatureLoader(
        torch.arange(N),
        torch.zeros(N, 1),
        n_images=N,
        batch_size=settings.batch_size,
        seed=settings.seed,
        device=CPU,
    )


def train(objective: Pull, settings: TrainingConfig) -> tuple[float, list[Progress]]:
    """The weight after all epochs, and the reports on the way."""
    training, loader = begin(objective, settings), features(settings)
    reports = []
    for epoch in range(1, settings.epochs + 1):
        reports += training.epoch(epoch, loader.shuffled(epoch))
    return objective.module.weight.item(), reports


def test_meter_counts_over_all_passes() -> None:
    meter = Meter(200)
    meter.add(50)

    progress = meter.progress("training", epoch=1)

    assert (progress.done, progress.total, progress.fraction) == (50, 200, 0.25)
    assert progress.images_per_second is not None
    assert progress.seconds_left == pytest.approx(150 / progress.images_per_second)


def test_meter_of_a_resumed_run_does_not_count_old_images_as_speed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = iter([100.0, 101.0, 102.0])
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    meter = Meter(200)
    meter.skip(150)
    meter.add(10)

    progress = meter.progress("training")

    assert (progress.done, progress.fraction) == (160, 0.8)
    assert (progress.images_per_second, progress.seconds_left) == (5, 8)


def test_passes_over_features_take_little_of_the_time_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = iter([100.0, 101.0, 110.0, 111.0, 112.0])
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    meter = Meter(1000, n_encoded=100, pass_cost=0.1)
    meter.add(50, is_encoding=True)

    encoding = meter.progress("encoding")
    meter.add(500)
    fitting = meter.progress("training")

    assert (encoding.done, encoding.total) == (50, 1100)
    assert (encoding.fraction, encoding.seconds_left) == (0.25, 30)
    assert (fitting.done, fitting.fraction, fitting.seconds_left) == (550, 0.5, 12)


# --- the loop


def test_a_training_does_not_begin_with_the_loss_scale_of_the_one_before() -> None:
    settings = configure(epochs=1)
    engine = Engine(settings)
    # The scaler of fp16, which accelerate makes on a GPU alone.
    engine._accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
    first = begin(Pull(one_weight()), settings, engine=engine)
    fresh = first.state()["scale"]
    list(first.epoch(1, features(settings).shuffled(1)))
    used = first.state()["scale"]

    second = begin(Pull(one_weight()), settings, engine=engine)

    assert fresh["scale"] == torch.amp.GradScaler("cpu").get_scale()
    assert used != fresh
    assert second.state()["scale"] == fresh
    second.restore(first.state() | {"scale": used})
    assert second.state()["scale"] == used


def test_the_learning_rate_falls_by_a_cosine_once_an_epoch() -> None:
    settings = configure(batch_size=N, learning_rate=0.1, epochs=4)

    weight, reports = train(Pull(one_weight()), settings)

    # The mean of the targets is 2.25; the rates are 0.1 (1 + cos(pi t / 4)) / 2.
    expected = 0.0
    for rate in (0.1, 0.1 * (1 + math.sqrt(0.5)) / 2, 0.05, 0.1 * (1 - math.sqrt(0.5)) / 2):
        expected -= rate * 2 * (expected - 2.25)
    assert weight == pytest.approx(expected)
    assert (reports[0].stage, reports[0].epoch, reports[0].epochs) == ("epoch 1", 1, 4)
    assert reports[0].loss == pytest.approx(sum((i / 2) ** 2 for i in range(N)) / N)


def test_momentum_and_weight_decay_by_hand() -> None:
    settings = configure(batch_size=N, learning_rate=0.1, epochs=2, momentum=0.9, weight_decay=0.01)

    weight, _ = train(Pull(one_weight()), settings)

    first = -2 * 2.25
    after_one = -0.1 * first
    second = 0.9 * first + 2 * (after_one - 2.25) + 0.01 * after_one
    assert weight == pytest.approx(after_one - 0.05 * second)


@pytest.mark.parametrize(("limit", "weight"), [(0.0, 0.45), (1.0, 0.1), (4.6, 0.45)])
@pytest.mark.parametrize("part_size", [0, 3])
def test_a_gradient_beyond_the_limit_is_shortened_to_it(
    limit: float, weight: float, part_size: int
) -> None:
    settings = configure(
        batch_size=N, learning_rate=0.1, epochs=1, gradient_limit=limit, part_size=part_size
    )

    found, _ = train(Pull(one_weight()), settings)

    # The mean of the targets is 2.25, so the gradient of the whole batch is -4.5.
    assert found == pytest.approx(weight, rel=1e-5)


@pytest.mark.parametrize("part_size", [1, 3, 5, 100])
def test_working_in_parts_learns_the_same(part_size: int) -> None:
    whole, _ = train(Pull(one_weight()), configure(epochs=3, learning_rate=0.1))

    cut, _ = train(Pull(one_weight()), configure(epochs=3, learning_rate=0.1, part_size=part_size))

    assert cut == pytest.approx(whole, rel=1e-6)


def test_only_what_requires_a_gradient_learns() -> None:
    module = one_weight()
    frozen = nn.Parameter(torch.ones(3), requires_grad=False)
    module.register_parameter("frozen", frozen)

    weight, _ = train(Pull(module), configure(epochs=1, learning_rate=0.1, weight_decay=0.1))

    assert weight != 0
    assert torch.equal(frozen, torch.ones(3))


def test_a_loss_that_is_no_number_stops_with_advice() -> None:
    with pytest.raises(RunError, match="loss is nan in epoch 1") as caught:
        train(Broken(one_weight()), configure(epochs=1))

    assert "learning rate" in caught.value.hint


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for i in range(N):
        Image.new("RGB", (24, 16), (20 * i,) * 3).save(tmp_path / f"{i}.png")
    return tmp_path


def train_on_images(root: Path, *, learning_rate: float = 0.1) -> float:
    settings = configure(epochs=1, learning_rate=learning_rate, batch_size=4)
    objective = Pull(one_weight())
    loader = ImageLoader(
        root,
        [f"{i}.png" for i in range(N)],
        image_size=8,
        batch_size=settings.batch_size,
        seed=settings.seed,
        device=CPU,
    )
    list(begin(objective, settings).epoch(1, loader.shuffled(1)))
    return objective.module.weight.item()


def test_images_that_cannot_be_read_train_nothing(pictures: Path) -> None:
    whole = train_on_images(pictures)
    (pictures / "9.png").unlink()

    assert 0 < train_on_images(pictures) < whole


def test_no_readable_image_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="None of the training images can be read") as caught:
        train_on_images(tmp_path)

    assert caught.value.hint


# --- memory


def test_batch_norm_of_one_image_is_told() -> None:
    class Normalised(Pull):
        def loss(self, part: Batch, _epoch: int) -> Tensor:
            return F.batch_norm(part.images, None, None, training=True).sum()

    with pytest.raises(RunError, match="cannot learn from one alone") as caught:
        train(Normalised(one_weight()), configure(epochs=1, batch_size=4, part_size=1))

    assert "part_size" in caught.value.hint


def test_no_images_have_no_features() -> None:
    parts = Parts(8, device=CPU, meter=Meter(1), use="encoding")

    # As most models do, it cannot work out the length of no rows.
    features = parts.encode(torch.empty(0, 3, 8, 8), lambda images: images.reshape(len(images), -1))

    assert features.shape == (0, 192)


def test_when_the_memory_runs_out_smaller_parts_learn_the_same() -> None:
    settings = configure(epochs=3, learning_rate=0.1, momentum=0.9, batch_size=8)
    expected, _ = train(Pull(one_weight()), settings)
    in_parts, _ = train(
        Pull(one_weight()),
        configure(epochs=3, learning_rate=0.1, momentum=0.9, batch_size=8, part_size=2),
    )

    weight, reports = train(OutOfMemory(one_weight(), n_held=2), settings)

    assert weight == in_parts
    assert weight == pytest.approx(expected, rel=1e-6)
    assert reports[-1].note == (
        "The memory does not hold 4 images at once: batches are worked through in parts of 2."
    )


def test_memory_that_holds_no_single_image_is_an_error() -> None:
    settings = configure(epochs=1, learning_rate=0.1)

    with pytest.raises(RunError, match="memory of cpu does not hold 1 image in training") as caught:
        train(OutOfMemory(one_weight(), n_held=0), settings)

    assert "smaller" in caught.value.hint


def test_another_error_of_torch_is_not_taken_for_lack_of_memory() -> None:
    class WrongShapes(Pull):
        def loss(self, part: Batch, _epoch: int) -> Tensor:
            return torch.ones(2) @ torch.ones(3)

    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        train(WrongShapes(one_weight()), configure(epochs=1))


# --- going on


def test_a_restored_training_goes_on_exactly() -> None:
    settings = configure(epochs=4, learning_rate=0.05, momentum=0.9, weight_decay=0.01)
    expected, _ = train(Pull(one_weight()), settings)
    loader = features(settings)
    first = begin(Pull(one_weight()), settings)
    for epoch in (1, 2):
        list(first.epoch(epoch, loader.shuffled(epoch)))
    state = first.state()

    objective = Pull(one_weight())
    second = begin(objective, settings)
    second.restore(state)
    for epoch in (3, 4):
        list(second.epoch(epoch, loader.shuffled(epoch)))

    assert objective.module.weight.item() == expected


def test_the_state_knows_what_the_memory_holds() -> None:
    settings = configure(epochs=1, batch_size=8)
    meter = Meter(N)
    first = begin(OutOfMemory(one_weight(), n_held=2), settings)
    list(first.epoch(1, features(settings).shuffled(1)))

    second = begin(OutOfMemory(one_weight(), n_held=2), settings, meter=meter)
    second.restore(first.state())
    list(second.epoch(1, features(settings).shuffled(1)))

    assert second.state()["part_size"] == 2
    assert meter.note == ""


# --- the machine


def test_a_device_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match='The device "gpu" is not available') as caught:
        find_device("gpu")

    assert '"auto"' in caught.value.hint


def test_a_device_that_is_not_there_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has the device that the test wants to be missing")
    with pytest.raises(ConfigError, match='device "cuda" is not available'):
        find_device("cuda")
    assert find_device("auto").type in {"cpu", "mps"}


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_half_precision_needs_an_nvidia_gpu(device: str) -> None:
    with pytest.raises(ConfigError, match=f'"fp16" needs an NVIDIA GPU; this run is on "{device}"'):
        find_precision("fp16", torch.device(device))


def test_precision_on_a_cpu() -> None:
    assert find_precision("auto", CPU) == "fp32"
    assert find_precision("bf16", CPU) == "bf16"
    with pytest.raises(ConfigError, match="fp16"):
        Engine(configure(precision="fp16"))


SHARES_BUFFERS = """
import torch
from deft_core.config import Phase2Config
from deft_core.engine import Engine

engine = Engine(Phase2Config(device="cpu", n_processes=2))
norm = torch.nn.BatchNorm1d(2)
norm.train()(torch.full((3, 2), 1.0 + engine.share.process))
engine.share_buffers(norm)
means = engine.gather([norm.running_mean.tolist()])
engine.close()
if engine.is_first:
    print(means)
"""


def test_every_process_judges_with_the_statistics_of_the_first(tmp_path: Path) -> None:
    script = tmp_path / "shares_buffers.py"
    script.write_text(SHARES_BUFFERS)
    options = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    options += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    ended = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *options, str(script)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert json.loads(ended.stdout) == [pytest.approx([0.1, 0.1])] * 2


def test_one_process_is_the_first_and_has_everything() -> None:
    engine = Engine(configure())

    assert (engine.is_first, engine.share.process, engine.share.n_processes) == (True, 0, 1)
    assert engine.gather(["a", "b"]) == ["a", "b"]
    assert engine.total(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]
