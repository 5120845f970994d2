"""Pre-trains the demo model in data/demo-clip: a real open_clip CLIP, small enough for a CPU.

    python -m tools.pretrain_demo_clip --steps 8000
    python -m tools.pretrain_demo_clip --steps 5000 --pictures 50000 --seed 1 --go-on
    python -m tools.pretrain_demo_clip --steps 10000 --pictures 60000 --seed 2 --go-on

It learns from pictures of other styles and other seeds than the demo set (`pretraining_pictures`),
so on the demo set it works zero-shot, as a real CLIP does. These choices matter:

* The position embeddings start as the sines and cosines of Beyer et al. ("Better plain ViT
  baselines", 2022), and easy pictures come first. From open_clip's own start the small image tower
  had learned next to nothing after 800 steps.

* The images are compared with all class prompts and all colour prompts, not with the captions of
  their batch: with whole captions it learns the colours first and needs several times longer.
* Every prompt gets a new random prefix in every step, of vocabulary tokens or of plain noise.
  Without it, learned contexts leave the text tower's training range and phase 1 collapses.
* Prompts that say no ("no star") are trained too, as in CLIPN (Wang et al., ICCV 2023), so that
  there is a negative prompt for phase 1 to find.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from deft_core import clip
from deft_core.demo import write_demo
from tools.pretraining_pictures import CLASS_NAMES, COLOUR_NAMES, make_pictures

ARCHITECTURE = {
    "embed_dim": 128,
    "vision_cfg": {
        "image_size": 48,
        "patch_size": 8,
        "width": 160,
        "layers": 4,
        "head_width": 32,
    },
    "text_cfg": {
        "context_length": 32,
        "vocab_size": 49408,
        "width": 96,
        "heads": 3,
        "layers": 3,
    },
}
PREPROCESSING = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
TEMPLATES = ("", "a ", "a photo of a ", "a drawing of a ", "a picture of a ", "this is a ")
DENIALS = ("no ", "not a ", "without a ", "anything but a ")
LONGEST_PREFIX = 20
SIZE = ARCHITECTURE["vision_cfg"]["image_size"]


Pictures = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Recipe:
    steps: int
    pictures: int
    batch: int
    seed: int
    peak_rate: float
    colour_weight: float = 0.3
    denial_weight: float = 0.5

    goes_on: bool = False

    @property
    def easy_steps(self) -> int:
        return 0 if self.goes_on else self.steps // 10

    def longest_prefix(self, step: int) -> int:
        """No prefix for a tenth of the steps, then longer ones until half of them are done."""
        if self.goes_on:
            return LONGEST_PREFIX
        grown = (step / self.steps - 0.1) / 0.4
        return round(LONGEST_PREFIX * min(max(grown, 0.0), 1.0))


def main() -> None:
    arguments = parse_arguments()
    torch.manual_seed(arguments.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe = Recipe(
        arguments.steps,
        arguments.pictures,
        arguments.batch,
        arguments.seed,
        peak_rate=7e-4 if arguments.go_on else 1e-3,
        goes_on=arguments.go_on,
    )
    start = clip.load(f"{clip.LOCAL_PREFIX}{arguments.out}") if arguments.go_on else untrained()
    model = start.to(device)
    model.model.requires_grad_(True)

    print(f"drawing {recipe.pictures} pictures", flush=True)
    seed = 1_000_000 + 2 * recipe.seed
    easy = make_pictures(recipe.pictures // 5, seed=seed, is_easy=True)
    pictures = make_pictures(recipe.pictures, seed=seed + 1)
    pretrain(model, easy, pictures, recipe, out=arguments.out)
    save(model.model, arguments.out)
    print(f"zero-shot accuracy on the demo set: {demo_accuracy(arguments.out):.3f}")


def untrained() -> clip.Clip:
    model = open_clip.CLIP(**ARCHITECTURE)
    model.visual.image_mean, model.visual.image_std = PREPROCESSING["mean"], PREPROCESSING["std"]
    with torch.no_grad():
        positions = model.visual.positional_embedding
        positions.copy_(sines_and_cosines(positions))
    return clip.Clip(model, open_clip.SimpleTokenizer(context_length=model.context_length))


def pretrain(
    model: clip.Clip,
    easy: Pictures,
    pictures: Pictures,
    recipe: Recipe,
    *,
    out: Path,
) -> None:
    """Trains `model` in place; saves it every 500 steps so that a stopped run is not lost."""
    device = model.logit_scale.device
    optimiser = torch.optim.AdamW(
        parameter_groups(model), lr=recipe.peak_rate, betas=(0.9, 0.98), fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.peak_rate, total_steps=recipe.steps, pct_start=0.1
    )
    random = torch.Generator().manual_seed(recipe.seed)
    started = time.monotonic()
    for step in range(1, recipe.steps + 1):
        images, classes, colours = map(
            torch.from_numpy, easy if step <= recipe.easy_steps else pictures
        )
        rows = torch.randint(len(images), (recipe.batch,), generator=random)
        batch = augment(images[rows].permute(0, 3, 1, 2).to(device))
        optimiser.zero_grad()
        # On short sequences the plain kernel trains twice as fast on a CPU as the fused one.
        with sdpa_kernel(SDPBackend.MATH):
            with torch.autocast(device.type, torch.bfloat16):
                loss, accuracy = training_loss(
                    model,
                    batch,
                    classes[rows].to(device),
                    colours[rows].to(device),
                    recipe,
                    longest_prefix=recipe.longest_prefix(step),
                )
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            model.model.logit_scale.clamp_(max=math.log(100))
        if step % 100 == 0 or step == recipe.steps:
            left = (time.monotonic() - started) / step * (recipe.steps - step)
            print(
                f"step {step}/{recipe.steps}  loss {loss.item():.3f}",
                f"accuracy {accuracy.item():.2f}  scale {model.logit_scale.item():.1f}",
                f"{left / 60:.1f} min left",
                sep="  ",
                flush=True,
            )
        if step % 500 == 0:
            save(model.model, out)


def sines_and_cosines(embedding: Tensor) -> Tensor:
    """Two-dimensional position embeddings in the shape of `embedding`; 0 for the class token."""
    width = embedding.shape[1]
    n = math.isqrt(len(embedding) - 1)
    y, x = (at.flatten()[:, None] for at in torch.meshgrid(*[torch.arange(n)] * 2, indexing="ij"))
    frequencies = 100 ** -(torch.arange(width // 4) / (width // 4))
    waves = [wave(at * frequencies) for at in (x, y) for wave in (torch.sin, torch.cos)]
    return torch.cat([torch.zeros(1, width), 0.5 * torch.cat(waves, dim=1)])


def parameter_groups(model: clip.Clip) -> list[dict[str, object]]:
    """Matrices with weight decay; embeddings, gains and biases without."""
    named = list(model.model.named_parameters())
    decayed = [p for name, p in named if p.ndim >= 2 and "embedding" not in name]
    kept = [p for name, p in named if p.ndim < 2 or "embedding" in name]
    return [{"params": decayed, "weight_decay": 0.05}, {"params": kept, "weight_decay": 0.0}]


def training_loss(
    model: clip.Clip,
    images: Tensor,
    classes: Tensor,
    colours: Tensor,
    recipe: Recipe,
    *,
    longest_prefix: int,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy against class and colour prompts plus the denial loss; batch accuracy."""
    count = len(CLASS_NAMES)
    prompts = [
        *(pick(TEMPLATES) + name for name in CLASS_NAMES),
        *(pick(DENIALS) + name for name in CLASS_NAMES),
        *(pick(TEMPLATES) + name for name in COLOUR_NAMES),
    ]
    sentences = [prompt + pick((".", "")) for prompt in prompts]
    text = encode_with_prefixes(model, sentences, longest_prefix=longest_prefix)
    image = F.normalize(model.visual(images).float(), dim=-1)
    logits = model.logit_scale * image @ text.T
    positive, negative, colour = (
        logits[:, :count],
        logits[:, count : 2 * count],
        logits[:, 2 * count :],
    )

    margin = positive - negative
    is_true = F.one_hot(classes, count).bool()
    wrong = F.softplus(margin).masked_fill(is_true, 0).sum(1) / (count - 1)
    right = F.softplus(-margin)[is_true]
    loss = (
        F.cross_entropy(positive, classes, label_smoothing=0.05)
        + recipe.colour_weight * F.cross_entropy(colour, colours)
        + recipe.denial_weight * (right + wrong).mean()
    )
    return loss, (positive.argmax(1) == classes).float().mean()


def encode_with_prefixes(
    model: clip.Clip, prompts: Sequence[str], *, longest_prefix: int
) -> Tensor:
    """Features of the prompts, each behind a random prefix of its own.

    Half of the prefixes are tokens of the vocabulary, half are Gaussian vectors of a random size.
    """
    device = model.logit_scale.device
    words = model.tokenize(prompts)
    n_words = words.argmax(1) + 1
    n_prefix = torch.randint(longest_prefix + 1, (len(prompts),), device=device)
    n_prefix = torch.minimum(n_prefix, model.context_length - n_words)
    length = int((n_prefix + n_words).max())

    places = torch.arange(length, device=device).expand(len(prompts), -1)
    is_prefix = (places >= 1) & (places <= n_prefix[:, None])
    source = torch.where(places == 0, 0, places - n_prefix[:, None]).clamp(0, words.shape[1] - 1)
    random_tokens = torch.randint(49405, places.shape, device=device)
    embedded = model.embed_tokens(torch.where(is_prefix, random_tokens, words.gather(1, source)))

    sizes = torch.exp(
        torch.empty(len(prompts), 1, 1, device=device).uniform_(math.log(0.01), math.log(0.3))
    )
    noise = torch.randn_like(embedded) * sizes
    takes_noise = torch.rand(len(prompts), 1, device=device) < 0.5
    embedded = torch.where((is_prefix & takes_noise)[..., None], noise, embedded)
    return model.encode_embeddings(embedded, n_prefix + n_words - 1)


def pick(choices: Sequence[str]) -> str:
    return choices[int(torch.randint(len(choices), ()))]


def augment(images: Tensor) -> Tensor:
    """Crops, turns, mirrors and recolours a batch of bytes; the model's normalised input."""
    n, device = len(images), images.device
    scale = torch.empty(n, device=device).uniform_(0.65, 1.1)
    angle = torch.empty(n, device=device).uniform_(-0.25, 0.25)
    mirror = torch.where(torch.rand(n, device=device) < 0.5, -1.0, 1.0)
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    shift = torch.empty(n, 2, device=device).uniform_(-0.15, 0.15)
    rows = torch.stack(
        [cosine * mirror, -sine, shift[:, 0], sine * mirror, cosine, shift[:, 1]], dim=1
    )
    grid = F.affine_grid(rows.view(n, 2, 3), [n, 3, SIZE, SIZE], align_corners=False)
    pixels = F.grid_sample(
        images.float() / 255, grid, padding_mode="reflection", align_corners=False
    )
    contrast = torch.empty(n, 1, 1, 1, device=device).uniform_(0.7, 1.3)
    brightness = torch.empty(n, 1, 1, 1, device=device).uniform_(-0.15, 0.15)
    pixels = ((pixels - 0.5) * contrast + 0.5 + brightness).clamp(0, 1)
    mean = torch.tensor(PREPROCESSING["mean"], device=device).view(3, 1, 1)
    std = torch.tensor(PREPROCESSING["std"], device=device).view(3, 1, 1)
    return (pixels - mean) / std


def save(model: open_clip.CLIP, out: Path) -> None:
    """Writes the folder that open_clip loads as local-dir:; half precision keeps it small."""
    out.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": ARCHITECTURE, "preprocess_cfg": PREPROCESSING}
    (out / "open_clip_config.json").write_text(json.dumps(config, indent=1) + "\n")
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, out / "open_clip_model.safetensors")


@torch.no_grad()
def demo_accuracy(model_folder: Path, seed: int = 0) -> float:
    """Zero-shot accuracy on the true labels of the demo set drawn from `seed`."""
    model = clip.load(f"{clip.LOCAL_PREFIX}{model_folder}")
    with tempfile.TemporaryDirectory() as scratch:
        demo = Path(scratch) / "demo"
        report = write_demo(demo, seed=seed, n_train=1600, n_test=0)
        rows = [line.split(",") for line in (demo / "truth.csv").read_text().splitlines()[1:]]
        images = [
            Image.open(demo / name).convert("RGB").resize((SIZE, SIZE), 3) for name, _ in rows
        ]
        pixels = torch.from_numpy(np.stack([np.asarray(one) for one in images])).permute(0, 3, 1, 2)
    text = model.encode_text([f"a drawing of a {name}." for name in report.class_names])
    guesses = (model.encode_image(pixels) @ text.T).argmax(1).tolist()
    right = [report.class_names[g] == true for g, (_, true) in zip(guesses, rows, strict=True)]
    return sum(right) / len(right)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("data/demo-clip"))
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--pictures", type=int, default=40_000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--go-on",
        action="store_true",
        help="start from the weights in --out; give another --seed for new pictures",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
