"""The one training loop, and what it reports."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import pyarrow as pa
import pyarrow.compute as pc
import torch
from accelerate.utils.memory import should_reduce_batch_size
from jaxtyping import Float, Real
from torch import Tensor, nn

from deft_core.config import TrainingConfig
from deft_core.engine import Engine, memory_in_use
from deft_core.errors import RunError
from deft_core.loading import Batch, FeatureLoader, ImageLoader, Rows
from deft_core.run_folder import Progress, RunFolder
from deft_core.squares import open_squares

REPORT_EVERY_SECONDS = 0.5
NO_IMAGES = "None of the training images can be read."
WHERE_IS_IT = "Is the folder of the data set still where it was ingested from?"

T = TypeVar("T")


class Meter:
    """Counts images over all passes of a run and says when and what to report.

    Where `n_encoded` images are encoded once, a pass over the features of one takes `pass_cost` of
    the time that encoding it takes.
    """

    def __init__(self, n_passed: int, *, n_encoded: int = 0, pass_cost: float = 1.0) -> None:
        self._n_passed, self._n_encoded = n_passed, n_encoded
        self._pass_cost = pass_cost
        self._passed = self._encoded = self._skipped = 0
        self._started = time.monotonic()
        self._reported = -math.inf
        self.note = ""

    def skip(self, n_images: int) -> None:
        """Count passes over images that were done before this process began."""
        self._skipped += n_images

    def add(self, n_images: int, *, is_encoding: bool = False) -> bool:
        """Whether a report is due now that `n_images` more are done."""
        if is_encoding:
            self._encoded += n_images
        else:
            self._passed += n_images
        now = time.monotonic()
        is_due = now - self._reported >= REPORT_EVERY_SECONDS
        if is_due:
            self._reported = now
        return is_due

    def progress(self, stage: str, **details: Any) -> Progress:
        seconds = max(time.monotonic() - self._started, 1e-9)
        here = self._encoded + self._pass_cost * self._passed
        done = self._encoded + self._pass_cost * (self._skipped + self._passed)
        total = self._n_encoded + self._pass_cost * self._n_passed
        device, memory_bytes = memory_in_use()
        return Progress(
            stage=stage,
            done=self._skipped + self._passed + self._encoded,
            total=self._n_passed + self._n_encoded,
            fraction=done / max(total, 1),
            images_per_second=(self._passed + self._encoded) / seconds,
            seconds_left=(total - done) * seconds / max(here, 1e-9),
            device=device,
            memory_bytes=memory_bytes,
            note=self.note,
            **details,
        )


class Parts:
    """How many images are worked through at once: `size` at first, half as many whenever the memory
    runs out.

    `use` says in an error what for. Where processes wait for each other within an attempt, one
    alone cannot try again (`is_repeatable`).
    """

    def __init__(
        self,
        size: int,
        *,
        device: torch.device,
        meter: Meter,
        use: str,
        is_repeatable: bool = True,
    ) -> None:
        self.size = size
        self._device = device
        self._meter = meter
        self._use = use
        self._is_repeatable = is_repeatable

    def work(self, attempt: Callable[[int], T]) -> T:
        """What `attempt` comes to with the first size that the memory holds; RunError when it does
        not hold a single image."""
        while True:
            try:
                return attempt(self.size)
            except RuntimeError as error:
                if not should_reduce_batch_size(error):
                    raise
            # What the failed attempt held is free again only here, behind its handler.
            self._halve()

    def encode(
        self,
        images: Real[Tensor, "batch 3 size size"],
        encoder: Callable[[Tensor], Float[Tensor, "_ dim"]],
    ) -> Float[Tensor, "batch dim"]:
        """What `encoder` makes of the images, a part at a time."""
        if len(images) == 0:
            # Models do not take none: those of a blank one have the shape.
            return encoder(images.new_zeros(1, *images.shape[1:]))[:0]
        return self.work(lambda size: torch.cat([encoder(part) for part in images.split(size)]))

    def _halve(self) -> None:
        if self.size == 1 or not self._is_repeatable:
            raise RunError(
                f"The memory of {self._device} does not hold {self.size} "
                f"{'image' if self.size == 1 else 'images'} in {self._use}.",
                "Choose a smaller part_size, a smaller model, or fewer visual prompt tokens.",
            )
        full = self.size
        self.size = math.ceil(full / 2)
        self._meter.note = (
            f"The memory does not hold {full} images at once: batches are worked through in parts "
            f"of {self.size}."
        )
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def open_images(
    folder: RunFolder,
    samples: pa.Table,
    *,
    image_size: int,
    engine: Engine,
    settings: TrainingConfig,
) -> ImageLoader:
    """A loader of some of the run's samples, by way of the squares that its workspace keeps."""
    task, every = folder.config(), folder.samples()
    squares = None
    if settings.keeps_squares:
        squares = open_squares(Path(task["cache"]), every["sha256"].to_pylist(), size=image_size)
    return ImageLoader(
        Path(task["root"]),
        samples["file_name"].to_pylist(),
        image_size=image_size,
        batch_size=settings.batch_size,
        seed=settings.seed,
        device=engine.device,
        share=engine.share,
        squares=squares,
        places=pc.index_in(samples["sample_id"], every["sample_id"]).to_pylist(),
    )


def encode_once(
    images: ImageLoader,
    encoder: Callable[[Tensor], Float[Tensor, "batch dim"]],
    *,
    engine: Engine,
    settings: TrainingConfig,
    meter: Meter,
) -> Generator[Progress, None, FeatureLoader]:
    """A loader of what `encoder` makes of the images, for a training that leaves it as it is."""
    rows, features = [], []
    parts = Parts(settings.images_at_once, device=engine.device, meter=meter, use="encoding")
    for batch in images.in_order():
        rows.append(batch.rows.cpu())
        features.append(parts.encode(batch.images, encoder).cpu())
        if meter.add(batch.n_in_all, is_encoding=True):
            yield meter.progress("encoding")
    shares = engine.gather([(torch.cat(rows), torch.cat(features))])
    return FeatureLoader(
        torch.cat([rows for rows, _ in shares]),
        torch.cat([features for _, features in shares]),
        n_images=images.n_images,
        batch_size=settings.batch_size,
        seed=settings.seed,
        device=engine.device,
        share=engine.share,
    )


@runtime_checkable
class Loader(Protocol):
    """Where batches come from: images or features that were encoded before."""

    n_images: int

    def shuffled(self, epoch: int, rows: Rows | None = None) -> Iterator[Batch]: ...

    def in_order(self, rows: Rows | None = None) -> Iterator[Batch]: ...


@runtime_checkable
class Objective(Protocol):
    """What a training minimises, in terms that do not depend on how a batch is cut up."""

    def begin_batch(self) -> None:
        """A new batch comes, or the last one once more in smaller parts."""

    def loss(self, part: Batch, epoch: int) -> Float[Tensor, ""]:
        """The sum of the losses of a part of the batch, to be divided by the size of the batch."""

    def end_batch(self, n_in_all: int) -> Float[Tensor, ""]:
        """The loss of the whole batch, once the gradients of all its parts are there."""


State = dict[str, Any]


class Training:
    """Gradient descent on the learnable parameters of `module`, which is as the engine prepared it.

    The learning rate falls by a cosine, one step an epoch. A batch that the memory does not hold
    is worked through in parts; the gradient is that of the whole batch, but for batch norm, whose
    statistics are those of each part.
    """

    def __init__(
        self,
        module: nn.Module,
        objective: Objective,
        *,
        engine: Engine,
        settings: TrainingConfig,
        stage_of: Callable[[int], str],
        meter: Meter,
    ) -> None:
        self._module = module
        self._engine = engine
        self._objective = objective
        self._settings = settings
        self._stage_of = stage_of
        self._meter = meter
        self._parameters = [one for one in module.parameters() if one.requires_grad]
        engine.restart_scale()
        self._optimiser = engine.prepare(
            _optimiser(self._parameters, settings=settings, device=engine.device)
        )
        self._parts = Parts(
            settings.images_at_once,
            device=engine.device,
            meter=meter,
            use="training",
            is_repeatable=engine.share.n_processes == 1,
        )

    @property
    def weights(self) -> list[Tensor]:
        """All of the module that training changes: what learns, and running statistics."""
        return [one.detach() for one in (*self._parameters, *self._module.buffers())]

    @weights.setter
    def weights(self, saved: Sequence[Tensor]) -> None:
        for mine, one in zip(self.weights, saved, strict=True):
            mine.copy_(one)

    def state(self) -> State:
        """All that the next epoch needs to know of the epochs before."""
        return {
            "weights": self.weights,
            "optimiser": self._optimiser.state_dict(),
            "scale": self._engine.scale_state(),
            "part_size": self._parts.size,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Be where the training was that this state is of."""
        self.weights = state["weights"]
        self._optimiser.load_state_dict(state["optimiser"])
        self._engine.restore_scale(state["scale"])
        self._parts.size = state["part_size"]

    def epoch(self, number: int, batches: Iterable[Batch]) -> Iterator[Progress]:
        """One pass over the batches, the `number`th, counted from 1.

        Raises RunError when no image can be read or the loss is no longer a number.
        """
        self._set_learning_rate(number)
        sum_of_losses, n_seen = torch.zeros((), device=self._engine.device), 0
        n_readable = torch.zeros((), device=self._engine.device)
        for batch in batches:
            if len(batch.rows) == 0:
                self._refuse_alone()
                continue
            loss = self.step(batch, epoch=number)
            sum_of_losses += loss.detach() * batch.n_in_all
            n_seen += batch.n_in_all
            n_readable += len(batch.rows)
            if self._meter.add(batch.n_in_all):
                yield self._meter.progress(
                    self._stage_of(number),
                    epoch=number,
                    epochs=self._settings.epochs,
                    loss=_finite(sum_of_losses / n_seen, number),
                )
        if self._engine.total(n_readable) == 0:
            raise RunError(NO_IMAGES, WHERE_IS_IT)
        _finite(sum_of_losses, number)

    def step(self, batch: Batch, *, epoch: int) -> Float[Tensor, ""]:
        """The loss of a batch, after one step against its gradient."""
        self._parts.work(lambda size: self._find_gradients(batch, epoch, size))
        loss = self._objective.end_batch(batch.n_in_all)
        if self._settings.gradient_limit:
            self._engine.shorten(self._parameters, limit=self._settings.gradient_limit)
        self._optimiser.step()
        return loss

    def _set_learning_rate(self, epoch: int) -> None:
        done = (epoch - 1) / self._settings.epochs
        for group in self._optimiser.param_groups:
            group["lr"] = self._settings.learning_rate * (1 + math.cos(math.pi * done)) / 2

    def _find_gradients(self, batch: Batch, epoch: int, part_size: int) -> None:
        """Gradients of the mean loss of the batch, summed over its parts."""
        self._objective.begin_batch()
        self._optimiser.zero_grad(set_to_none=True)
        *before, last = batch.split(part_size)
        # Processes may have different numbers of parts: they meet at the last one alone.
        with self._engine.without_exchange(self._module):
            for part in before:
                self._add_gradients(part, epoch)
        self._add_gradients(last, epoch)

    def _add_gradients(self, part: Batch, epoch: int) -> None:
        try:
            with self._engine.autocast():
                loss = self._objective.loss(part, epoch)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise RunError(
                "The model normalises over the images of a batch, and cannot learn from one alone.",
                "Choose a larger batch_size, part_size or image_size, or a model without batch "
                "norm.",
            ) from error
        # The processes' gradients are averaged; their sum is wanted.
        self._engine.backward(loss * (self._engine.share.n_processes / part.n_in_all))

    def _refuse_alone(self) -> None:
        """RunError where other processes would wait for this one's part of a batch for ever."""
        if self._engine.share.n_processes > 1:
            raise RunError(
                "A process cannot read any image of its part of a batch.",
                "Run in one process to see which images are missing.",
            )


def _optimiser(
    parameters: list[nn.Parameter], *, settings: TrainingConfig, device: torch.device
) -> torch.optim.Optimizer:
    lr, weight_decay = settings.learning_rate, settings.weight_decay
    is_fused = device.type in ("cpu", "cuda")
    if settings.optimiser == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=is_fused)
    return torch.optim.SGD(
        parameters,
        lr=lr,
        momentum=settings.momentum,
        weight_decay=weight_decay,
        fused=is_fused,
    )


def _finite(sum_of_losses: Tensor, epoch: int) -> float:
    """The loss as a number; RunError if it is none."""
    value = float(sum_of_losses)
    if not math.isfinite(value):
        raise RunError(f"The loss is {value} in epoch {epoch}.", "Try a smaller learning rate.")
    return value
