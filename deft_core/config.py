"""The settings of each stage: one table that makes the command-line flags, the form in the browser
and the saved `config.json`.

Defaults are the paper's (DeFT, Wei et al., NeurIPS 2024).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from typing import Any, ClassVar, Self

from deft_core.errors import ConfigError
from deft_core.presets import PHASE1, PHASE2, Presets

LARGEST_SEED = 2**32 - 1
TIMM_PREFIX = "timm:"
IMAGE_SIDES = (
    "vpt-deep",
    "vpt-shallow",
    "lora",
    "dora",
    "norms",
    "biases",
    "adapters",
    "all",
    "none",
)
COMPARISONS = ("none", "given", "selected", "both")
TIMM_IMAGE_SIDES = ("lora", "dora", "norms", "biases", "all", "none")
KINDS_OF_VALUE = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def setting(
    default: Any,
    help_text: str,
    *,
    label: str = "",
    choices: tuple[str, ...] = (),
    minimum: float = -math.inf,
    maximum: float = math.inf,
    is_advanced: bool = False,
) -> Any:
    """One field of a configuration with what the command line and the form need to show it; the
    form calls it by its name when it has no label."""
    return field(
        default=default,
        metadata={
            "help": help_text,
            "label": label,
            "choices": choices,
            "minimum": minimum,
            "maximum": maximum,
            "is_advanced": is_advanced,
        },
    )


@dataclass(frozen=True, kw_only=True)
class Config:
    """What every stage's settings share: checks, JSON in and out, presets. Errors call the stage by
    its `title`."""

    title: ClassVar[str]
    presets: ClassVar[Presets] = {}

    def __post_init__(self) -> None:
        for one in fields(self):
            value = _checked(getattr(self, one.name), one)
            object.__setattr__(self, one.name, value)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The configuration saved by `to_json`; an unknown name is an error that says which."""
        known = [one.name for one in fields(cls)]
        for name in values:
            if name not in known:
                close = get_close_matches(name, known, n=1)
                hint = f'Did you mean "{close[0]}"?' if close else f"Known: {', '.join(known)}."
                raise ConfigError(f'{cls.title} has no setting "{name}".', hint)
        return cls(**values)

    @classmethod
    def from_preset(cls, name: str, **changes: Any) -> Self:
        """A preset's settings with `changes` (those that are not None) laid over them."""
        if name not in cls.presets:
            raise ConfigError(
                f'{cls.title} has no preset "{name}".', f"Presets: {', '.join(cls.presets)}."
            )
        chosen = {key: value for key, value in changes.items() if value is not None}
        return cls.from_json({**cls.presets[name], **chosen})

    def to_json(self) -> dict[str, Any]:
        """Plain values, one a setting."""
        return asdict(self)


def _checked(value: Any, one: Any) -> Any:
    """The value of a setting in the type of its default; ConfigError when it cannot be used."""
    expected, allowed, name = type(one.default), one.metadata, one.name
    value = _as_number(value, expected)
    if not isinstance(value, expected) or isinstance(value, bool) != (expected is bool):
        raise ConfigError(
            f"{name} must be {KINDS_OF_VALUE[expected]}, found {value!r}.", allowed["help"]
        )
    if allowed["choices"] and value not in allowed["choices"]:
        raise ConfigError(
            f'{name} is "{value}".', f"Choose one of: {', '.join(allowed['choices'])}."
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name} is {value}; it must be a finite number.")
    if isinstance(value, int | float) and value < allowed["minimum"]:
        raise ConfigError(f"{name} is {value}; the least is {allowed['minimum']}.")
    if isinstance(value, int | float) and value > allowed["maximum"]:
        raise ConfigError(f"{name} is {value}; the most is {allowed['maximum']}.")
    return value


def _as_number(value: Any, expected: type) -> Any:
    """The value as the expected kind of number, if there is one that is equal to it."""
    if expected not in (int, float) or type(value) not in (int, float):
        return value
    try:
        number = expected(value)
    except (OverflowError, ValueError):
        return value
    return number if number == value else value


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Config):
    """What every training needs: a model, an optimiser and a machine."""

    model: str = setting(
        "ViT-B-16",
        "open_clip model name, hf-hub:NAME, or local-dir:FOLDER with a model's config and weights.",
    )
    pretrained: str = setting(
        "openai",
        "open_clip weights tag or a weights file; leave empty for hf-hub: and local-dir: models.",
        label="Weights",
    )
    epochs: int = setting(
        10, "Passes over the training images.", label="Passes over the images (epochs)", minimum=1
    )
    batch_size: int = setting(
        64, "Images per training step.", label="Images per step (batch size)", minimum=1
    )
    learning_rate: float = setting(0.03, "Step size at the start of the cosine.", minimum=0)
    optimiser: str = setting(
        "sgd",
        "How steps follow from gradients: sgd, or adamw, which suits some backbones of phase 2.",
        choices=("sgd", "adamw"),
        is_advanced=True,
    )
    momentum: float = setting(0.9, "Momentum of sgd.", minimum=0, is_advanced=True)
    weight_decay: float = setting(
        5e-4, "How much weights shrink, as a share of a step.", minimum=0, is_advanced=True
    )
    gradient_limit: float = setting(
        0.0,
        "Longest gradient that a step follows in full; longer ones are shortened to it. 0 for any.",
        label="Longest gradient",
        minimum=0,
        is_advanced=True,
    )
    part_size: int = setting(
        0,
        "Images worked through at once; 0 for the whole batch, halved when the memory runs out.",
        label="Images at once",
        minimum=0,
        is_advanced=True,
    )
    seed: int = setting(0, "Seed of every random choice.", minimum=0, maximum=LARGEST_SEED)
    device: str = setting(
        "auto", "auto takes a GPU if there is one.", choices=("auto", "cpu", "cuda", "mps")
    )
    image_side: str = setting(
        "vpt-deep",
        "What learns in the image encoder: visual prompts, LoRA, DoRA, layer norms, biases, "
        "bottleneck adapters, everything, or nothing (images are then encoded once: fast).",
        label="What learns in the image encoder",
        choices=IMAGE_SIDES,
    )
    vpt_tokens: int = setting(
        20,
        "Learnable visual prompt tokens at each layer, for vpt-deep and vpt-shallow.",
        label="Visual prompt tokens",
        minimum=1,
    )
    vpt_layers: int = setting(
        0,
        "Last layers that get prompt tokens of their own, for vpt-deep; 0 for all.",
        label="Layers with visual prompts",
        minimum=0,
        is_advanced=True,
    )
    rank: int = setting(8, "Rank of lora and dora, width of adapters.", minimum=1, is_advanced=True)
    n_processes: int = setting(
        1,
        "Processes that share each batch, one for each GPU, started by accelerate launch.",
        label="Processes",
        minimum=1,
        is_advanced=True,
    )
    precision: str = setting(
        "auto",
        "Number format of the computation; auto takes bf16 or fp16 on a GPU.",
        label="Number format",
        choices=("auto", "fp32", "bf16", "fp16"),
        is_advanced=True,
    )
    keeps_squares: bool = setting(
        True,
        "Keep the decoded images in the workspace's cache, if the disk has room, so that each is "
        "decoded only once.",
        label="Keep the decoded images",
        is_advanced=True,
    )

    @property
    def images_at_once(self) -> int:
        """How many images of a batch are worked through at once, if the memory holds them."""
        return self.part_size or self.batch_size

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size < self.n_processes:
            raise ConfigError(
                f"A batch of {self.batch_size} images cannot be shared by {self.n_processes} "
                "processes.",
                "Choose a larger batch_size or a smaller n_processes.",
            )


@dataclass(frozen=True, kw_only=True)
class Phase1Config(TrainingConfig):
    """Phase 1: what trains the dual prompts and the image side that detect wrong labels."""

    title = "Phase 1"
    presets = PHASE1

    recipe: str = setting(
        "synthetic",
        "The paper's recipe for synthetic or for real label noise: the latter warms up with "
        "symmetric cross-entropy and selects more strictly.",
        label="Recipe for this kind of noise",
        choices=("synthetic", "real-noise"),
    )
    warmup_epochs: int = setting(
        1, "First passes in which every given label is believed.", label="Warm-up passes", minimum=0
    )
    n_context: int = setting(
        16,
        "Learnable context vectors beside each class name.",
        label="Context vectors in each prompt",
        minimum=1,
    )
    context_start: str = setting(
        "",
        'Words that the contexts start from, as in "a photo of a"; random when empty.',
        label="First words of the prompts",
    )
    class_position: str = setting(
        "end",
        "Where the class name stands among the context vectors.",
        label="Place of the class name",
        choices=("end", "middle", "front"),
        is_advanced=True,
    )
    has_class_contexts: bool = setting(
        False,
        "Give every class context vectors of its own instead of sharing them.",
        label="Contexts for each class",
        is_advanced=True,
    )
    n_complementary: int = setting(
        1,
        "Wrong classes drawn for each image and step to train the negative prompt.",
        label="Wrong classes for each image",
        minimum=1,
        is_advanced=True,
    )
    is_compiled: bool = setting(
        False,
        "Compile the image encoder with torch.compile first; pays on long runs.",
        label="Compile the image encoder",
        is_advanced=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.is_compiled and self.image_side == "lora":
            raise ConfigError(
                'torch.compile cannot follow the image_side "lora", for it changes weights.',
                "Choose another image_side, or leave is_compiled out.",
            )


@dataclass(frozen=True, kw_only=True)
class Phase2Config(TrainingConfig):
    """Phase 2: what fine-tunes a classifier with a linear head on the curated set."""

    title = "Phase 2"
    presets = PHASE2

    model: str = setting(
        "ViT-B-16",
        "open_clip model name, hf-hub:NAME or local-dir:FOLDER for the image tower of a CLIP; "
        "timm:NAME for any image model of timm.",
    )
    pretrained: str = setting(
        "openai",
        "Weights tag or a weights file; leave empty for hf-hub: and local-dir: models. For a timm: "
        'model, "hub" takes the weights that timm prefers, and empty stands for random ones.',
        label="Weights",
    )
    image_size: int = setting(
        0,
        "Width and height of the images in pixels; 0 for what the model was trained with.",
        minimum=0,
        is_advanced=True,
    )
    learning_rate: float = setting(5e-4, "Step size at the start of the cosine.", minimum=0)
    image_side: str = setting(
        "all",
        "What learns in the image encoder: everything (full fine-tuning), nothing (linear probe; "
        "images are then encoded once: fast), or one of the parameter-efficient ways of phase 1.",
        label="What learns in the image encoder",
        choices=IMAGE_SIDES,
    )
    head: str = setting(
        "linear",
        "What tells the classes apart: a linear layer that learns, or the text encoder's features "
        'of "a photo of a ...", which stay as they are.',
        choices=("linear", "text"),
        is_advanced=True,
    )
    compares_with: str = setting(
        "given",
        "What else to train on in the same way, to show what the curated set is worth: all given "
        "labels, those that phase 1 selected without any decision, both, or none.",
        label="Also train on",
        choices=COMPARISONS,
    )
    balancing: str = setting(
        "none",
        "For classes of unequal size: weights make images of a small class count more, sampling "
        "shows them more often.",
        label="Classes of unequal size",
        choices=("none", "weights", "sampling"),
        is_advanced=True,
    )
    patience: int = setting(
        0,
        "Stop early: when this many epochs have not bettered the accuracy on the validation "
        "images, and keep the weights of the best epoch. 0 trains all epochs, as in the paper.",
        label="Epochs without improvement",
        minimum=0,
        is_advanced=True,
    )
    validation_share: float = setting(
        0.1,
        "Share of the training images set apart as validation images where patience needs some "
        "and the data set has no validation split.",
        minimum=0.01,
        maximum=0.5,
        is_advanced=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_side == "none" and self.head == "text":
            raise ConfigError(
                'With image_side "none" and head "text" nothing is left to learn.',
                "Choose another image_side, or the linear head.",
            )
        if not self.model.startswith(TIMM_PREFIX):
            return
        if self.image_side not in TIMM_IMAGE_SIDES:
            raise ConfigError(
                f'The image_side "{self.image_side}" is for the image tower of a CLIP.',
                f"Choose one of: {', '.join(TIMM_IMAGE_SIDES)}.",
            )
        if self.head == "text":
            raise ConfigError(
                f'"{self.model}" has no text encoder for the head "text".',
                "Choose the linear head, or a CLIP.",
            )
