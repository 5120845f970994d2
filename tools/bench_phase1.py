"""How fast phase 1 trains and scores, beside a plain transcription of the published step.

    python -m tools.bench_phase1
    python -m tools.bench_phase1 --model ViT-B-16 --batch 64 --classes 100 --precision bf16

Each variant works in a process of its own, in turn, so that its peak memory is its own. `longhand`
is a step of DeFT as its reference writes it: all 77 text tokens, the positive and the negative
prompts in two passes, a plain optimiser, the loss read after every step. `encode_image` is
open_clip's, without prompts and without text: the limit of scoring. Weights are random, for they
do not change the speed; images are made up on the device, so that decoding does not count.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deft_core import clip
from deft_core.config import Phase1Config
from deft_core.detector import Detector
from deft_core.engine import Engine
from deft_core.loading import Batch, n_cores
from deft_core.phase1 import DualPromptObjective, Standing
from deft_core.presets import DEMO_MODEL
from deft_core.training import Meter, Training

VARIANTS = ("ours, training", "longhand, training", "ours, scoring", "encode_image")
WORDS = ("red", "old", "small", "wooden", "wild", "round", "tall", "dark", "bright", "plain")
THINGS = ("fox", "boat", "mug", "tree", "bell", "key", "star", "fish", "house", "apple")


@dataclass(frozen=True)
class Workload:
    """What every variant works on."""

    model: clip.Clip
    settings: Phase1Config
    engine: Engine
    images: Tensor
    given: Tensor
    class_names: list[str]


def main() -> None:
    arguments = parse_arguments()
    if arguments.variant:
        print(json.dumps(measure(arguments)))
        return
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(f"# torch {torch.__version__}, {platform.machine()}, {n_cores()} cores, {gpu}")
    print(f"# batch {arguments.batch}, {arguments.classes} classes, {arguments.precision}")
    print(f"{'model':<14}{'variant':<22}{'images/s':>10}{'ms/step':>10}{'peak MiB':>10}")
    for model in arguments.model:
        for variant in VARIANTS:
            command = [*sys.argv[1:], "--model", model, "--variant", variant]
            child = subprocess.run(
                [sys.executable, "-m", "tools.bench_phase1", *command],
                capture_output=True,
                text=True,
                check=True,
            )
            found = json.loads(child.stdout.splitlines()[-1])
            rate = arguments.batch / found["seconds"]
            print(
                f"{model[-13:]:<14}{variant:<22}{rate:>10.1f}{1000 * found['seconds']:>10.1f}"
                f"{found['peak'] / 2**20:>10.0f}",
                flush=True,
            )


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Median seconds of a step and peak memory in bytes of one variant."""
    work = workload(arguments)
    step = {
        "ours, training": our_training,
        "longhand, training": longhand_training,
        "ours, scoring": our_scoring,
        "encode_image": bare_encoding,
    }[arguments.variant](work)
    seconds = []
    for number in range(arguments.steps + 2):
        started = time.perf_counter()
        step()
        if work.images.is_cuda:
            torch.cuda.synchronize()
        if number >= 2:
            seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if work.images.is_cuda:
        peak = torch.cuda.max_memory_allocated()
    return {"seconds": statistics.median(seconds), "peak": peak}


def workload(arguments: argparse.Namespace) -> Workload:
    torch.manual_seed(0)
    (name,) = arguments.model[-1:]
    if name == "demo":
        model = clip.load(DEMO_MODEL)
    else:
        model = clip.Clip(open_clip.create_model(name), open_clip.get_tokenizer(name))
    changes = {"precision": arguments.precision, "batch_size": arguments.batch}
    settings = Phase1Config(**changes)
    if name == "demo":
        settings = Phase1Config.from_preset("demo", **changes)
    engine = Engine(settings)
    size = model.image_size
    images = torch.randint(256, (arguments.batch, 3, size, size), dtype=torch.uint8)
    given = torch.arange(arguments.batch) % arguments.classes
    names = [f"{word} {thing}" for word in WORDS for thing in THINGS]
    if arguments.classes > len(names):
        sys.exit(f"--classes is {arguments.classes}; there are names for {len(names)}")
    return Workload(
        model.to(engine.device),
        settings,
        engine,
        images.to(engine.device),
        given.to(engine.device),
        names[: arguments.classes],
    )


def our_training(work: Workload) -> Callable[[], None]:
    detector = Detector(work.model, work.class_names, work.settings).to(work.engine.device)
    objective = DualPromptObjective(
        detector,
        work.engine.prepare(detector),
        Standing(
            labels=work.given,
            is_confirmed=torch.zeros_like(work.given, dtype=torch.bool),
            trained_rows=np.arange(len(work.given)),
        ),
        engine=work.engine,
        settings=work.settings,
    )
    training = Training(
        detector,
        objective,
        engine=work.engine,
        settings=work.settings,
        stage_of=str,
        meter=Meter(0),
    )
    objective.begin_epoch(2)
    batch = Batch(work.images, torch.arange(len(work.images)), len(work.images))

    def step() -> None:
        training.step(batch, epoch=2)

    return step


def our_scoring(work: Workload) -> Callable[[], None]:
    detector = Detector(work.model, work.class_names, work.settings).to(work.engine.device)
    with torch.no_grad():
        text = detector.text_features()

    @torch.no_grad()
    def step() -> None:
        with work.engine.autocast():
            features = detector.clip.encode_image(work.images)
        detector.compare(features, text)

    return step


def bare_encoding(work: Workload) -> Callable[[], None]:
    @torch.no_grad()
    def step() -> None:
        with work.engine.autocast():
            work.model.model.encode_image(work.model.normalise(work.images), normalize=True)

    return step


class Longhand(nn.Module):
    """The detector as the reference writes it, with open_clip's blocks."""

    def __init__(self, work: Workload) -> None:
        super().__init__()
        model, settings = work.model.model, work.settings
        self.clip, self.n_context = work.model, settings.n_context
        width = model.token_embedding.embedding_dim
        self.positive = nn.Parameter(0.02 * torch.randn(self.n_context, width))
        self.negative = nn.Parameter(0.02 * torch.randn(self.n_context, width))
        visual = model.visual
        shape = (len(visual.transformer.resblocks), settings.vpt_tokens)
        self.vpt = nn.Parameter(0.02 * torch.randn(*shape, visual.positional_embedding.shape[1]))
        texts = [" ".join(["X"] * self.n_context) + f" {name}." for name in work.class_names]
        self.tokens = work.model.tokenizer(texts).to(work.engine.device)
        with torch.no_grad():
            self.embedded = model.token_embedding(self.tokens)

    def text(self, context: Tensor) -> Tensor:
        model = self.clip.model
        before, after = self.embedded[:, :1], self.embedded[:, 1 + self.n_context :]
        prompts = torch.cat([before, context.expand(len(before), -1, -1), after], dim=1)
        hidden = prompts + model.positional_embedding
        hidden = model.transformer(hidden, attn_mask=model.attn_mask)
        hidden = model.ln_final(hidden)
        ends = self.tokens.argmax(dim=-1)
        return hidden[torch.arange(len(hidden)), ends] @ model.text_projection

    def image(self, images: Tensor) -> Tensor:
        visual = self.clip.visual
        patches = visual.conv1(self.clip.normalise(images)).flatten(2).transpose(1, 2)
        first = visual.class_embedding.expand(len(images), 1, -1)
        hidden = torch.cat([first, patches], dim=1) + visual.positional_embedding
        hidden = visual.ln_pre(hidden)
        n_kept = hidden.shape[1]
        for block, prompt in zip(visual.transformer.resblocks, self.vpt, strict=True):
            prompts = prompt.expand(len(images), -1, -1)
            hidden = block(torch.cat([hidden[:, :n_kept], prompts], dim=1))
        return visual.ln_post(hidden[:, 0]) @ visual.proj

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.image(images)
        positive, negative = self.text(self.positive), self.text(self.negative)
        features = features / features.norm(dim=-1, keepdim=True)
        positive = positive / positive.norm(dim=-1, keepdim=True)
        negative = negative / negative.norm(dim=-1, keepdim=True)
        scale = self.clip.logit_scale
        return scale * features @ positive.T, scale * features.detach() @ negative.T


def longhand_training(work: Workload) -> Callable[[], None]:
    model = Longhand(work).to(work.engine.device)
    learnable = [model.positive, model.negative, model.vpt]
    optimiser = torch.optim.SGD(learnable, lr=0.03, momentum=0.9, weight_decay=5e-4)
    given, n_classes = work.given, len(work.class_names)

    def step() -> None:
        wrong = (given + torch.randint(1, n_classes, given.shape, device=given.device)) % n_classes
        with work.engine.autocast():
            pos, neg = model(work.images)
        pos, neg = pos.float(), neg.float()
        pair = torch.stack([pos.detach(), neg], dim=-1).softmax(dim=-1)
        p_yes, p_no = pair[:, :, 0], pair[:, :, 1]
        rows = range(len(given))
        selected = (p_yes[rows, given] > 0.5).cpu()
        believed = given.clone()
        believed[~selected] = pos.argmax(dim=1)[~selected]
        log_no, log_yes = p_no.clamp(1e-5, 1).log(), p_yes.clamp(1e-5, 1).log()
        loss = F.nll_loss(log_no, wrong) + F.nll_loss(log_yes, believed)
        losses = F.cross_entropy(pos, given, reduction="none")[selected]
        if len(losses):
            loss = loss + losses.mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        loss.item()

    return step


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", nargs="+", action="extend", help="demo or an open_clip name")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.model = arguments.model or ["demo", "ViT-B-16"]
    return arguments


if __name__ == "__main__":
    main()
