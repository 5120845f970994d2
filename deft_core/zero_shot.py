"""A quick look at how well the prompts fit the images before anything is trained."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float

from deft_core import clip
from deft_core.engine import find_device
from deft_core.errors import DataError
from deft_core.loading import IMAGES_AT_ONCE, ImageLoader
from deft_core.prompts import PHOTO
from deft_core.training import WHERE_IS_IT, Meter, Parts
from deft_core.whole_files import writing_whole


@dataclass(frozen=True, kw_only=True)
class ZeroShot:
    """How often the nearest prompt is that of the given label: among `n` images, and by class."""

    n: int
    accuracy: float
    by_class: dict[int, float]


def preview(
    root: Path,
    samples: pa.Table,
    *,
    prompts: Sequence[str],
    model: str,
    pretrained: str,
    cache: Path,
) -> ZeroShot:
    """Agreement of the samples' given labels with "a photo of a <prompt>" under an untrained model.

    Image features are kept in `cache`, so that a look at other prompts encodes text alone.
    """
    encoder = clip.load(model, pretrained).to(find_device("auto"))
    path = cache / _cache_name(encoder, samples["sha256"].to_pylist())
    features = _features(encoder, root, samples["file_name"].to_pylist(), path=path)
    with torch.no_grad():
        text = encoder.encode_text([PHOTO.format(prompt) for prompt in prompts]).cpu().numpy()
    is_readable = ~np.isnan(features[:, 0])
    if not is_readable.any():
        raise DataError(
            f"None of the images in {root} can be read.",
            WHERE_IS_IT,
        )
    labels = samples["given_label"].to_numpy()[is_readable]
    is_hit = (features[is_readable] @ text.T).argmax(axis=1) == labels
    return ZeroShot(
        n=len(labels),
        accuracy=float(is_hit.mean()),
        by_class={int(label): float(is_hit[labels == label].mean()) for label in np.unique(labels)},
    )


def _features(
    encoder: clip.Clip, root: Path, file_names: Sequence[str], *, path: Path
) -> Float[np.ndarray, "n dim"]:
    """Unit-length image features from the cache or the images; NaN for what cannot be read."""
    if path.exists():
        return np.load(path)
    device = encoder.logit_scale.device
    loader = ImageLoader(
        root,
        file_names,
        image_size=encoder.image_size,
        batch_size=IMAGES_AT_ONCE,
        seed=0,
        device=device,
    )
    parts = Parts(IMAGES_AT_ONCE, device=device, meter=Meter(loader.n_images), use="encoding")
    found = []
    for batch in loader.in_order():
        with torch.no_grad():
            encoded = parts.encode(batch.images, encoder.encode_image).cpu().numpy()
        found.append((batch.rows.cpu().numpy(), encoded))
    features = np.full((len(file_names), found[0][1].shape[1]), np.nan, np.float32)
    for rows, encoded in found:
        features[rows] = encoded
    if loader.unreadable:
        return features
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing_whole(path) as temporary, temporary.open("wb") as file:
        np.save(file, features)
    return features


def _cache_name(encoder: clip.Clip, digests: Sequence[str]) -> str:
    """A name that changes with any weight and any image, whatever they are called."""
    what = hashlib.sha256("".join(digests).encode())
    for weight in encoder.visual.state_dict().values():
        what.update(weight.cpu().numpy().tobytes())
    return f"zero-shot-{what.hexdigest()[:16]}.npy"
