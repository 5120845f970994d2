"""What learns in a frozen image tower: one small function for each kind.

Visual prompts (Jia et al., ECCV 2022) and bottleneck adapters (Houlsby et al., ICML 2019) are put
in by hooks on the blocks; LoRA, DoRA and layer-norm tuning are the peft library's; for biases and
for full fine-tuning the tower's own parameters learn.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from peft import LNTuningConfig, LoraConfig, PeftModel, inject_adapter_in_model
from torch import Tensor, nn

from deft_core.clip import Clip
from deft_core.config import TrainingConfig
from deft_core.errors import ConfigError

Arguments = tuple[Any, ...]
Keywords = dict[str, Any]
Call = tuple[Arguments, Keywords]

MLP_LAYERS = ["c_fc", "c_proj"]
LAYER_NORMS = ["ln_pre", "ln_1", "ln_2", "ln_post"]


def adapt_image_side(clip: Clip, settings: TrainingConfig) -> nn.Module:
    """A module that holds what is new in the image tower of `clip`, which is changed in place.

    The parameters of the tower that learn from now on are those with `requires_grad`.
    """
    return _KINDS[settings.image_side](clip, settings)


def adapt_tower(tower: nn.Module, settings: TrainingConfig, *, image_size: int) -> None:
    """Let that of any frozen tower learn which the image side of the settings names.

    Raises ConfigError if nothing of it can learn so.
    """
    match settings.image_side:
        case "lora" | "dora":
            _add_low_rank(tower, settings)
        case "norms":
            for module in tower.modules():
                if "Norm" in type(module).__name__:
                    module.requires_grad_(True)
        case "biases":
            _let_biases_learn(tower)
        case "all":
            tower.requires_grad_(True)
    _check_learns(tower, settings, image_size=image_size)


def _add_low_rank(tower: nn.Module, settings: TrainingConfig) -> None:
    """LoRA or DoRA in every linear layer, or in the ungrouped convolutions if there is none."""
    layers = dict(tower.named_modules())
    linear = [name for name, one in layers.items() if isinstance(one, nn.Linear)]
    convolutions = [
        name for name, one in layers.items() if isinstance(one, nn.Conv2d) and one.groups == 1
    ]
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.rank,
        target_modules=linear or convolutions,
        use_dora=settings.image_side == "dora",
    )
    inject_adapter_in_model(config, tower)


def _let_biases_learn(tower: nn.Module) -> None:
    for name, one in tower.named_parameters():
        one.requires_grad_(name.endswith("bias"))


def _check_learns(tower: nn.Module, settings: TrainingConfig, *, image_size: int) -> None:
    """ConfigError unless something learns, and a gradient comes to all that was added.

    Some models read the weights of their layers past the layers, and so past LoRA.
    """
    learning = [one for one in tower.parameters() if one.requires_grad]
    is_reached = True
    if settings.image_side in ("lora", "dora"):
        tower.eval()(torch.zeros(1, 3, image_size, image_size)).sum().backward()
        is_reached = all(one.grad is not None for one in learning)
        tower.zero_grad(set_to_none=True)
    if settings.image_side != "none" and not (learning and is_reached):
        raise ConfigError(
            f'The image_side "{settings.image_side}" does not work with "{settings.model}".',
            'Choose another one; "all" and "none" work with every model.',
        )


def merge_adapter(adapted: Any, tower: nn.Module, *, folder: Path, name: str) -> None:
    """Add what peft has put into `adapted` and trained there to the weights of `tower`, which is
    of the same kind; alone, it goes to `folder` in peft's own format. `name` is the base model."""
    with _norms_allowed():
        model = PeftModel(tower, adapted.peft_config["default"])
    model.get_base_model().load_state_dict(adapted.state_dict())
    model.peft_config["default"].base_model_name_or_path = name
    # Left to itself, peft asks the model hub whether the base model has other embeddings there.
    model.save_pretrained(str(folder), save_embedding_layers=False)
    # A card of nothing but gaps: what is to be said stands in the one of the whole model.
    (folder / "README.md").unlink()
    model.merge_and_unload()


class VisualPrompts(nn.Module):
    """Prompt tokens behind the patch tokens of a CLIP's image tower, from construction on.

    Deep: each of the last `n_layers` blocks first cuts the tokens of the block before off and gets
    its own. Shallow: the first block gets tokens, which go through all blocks.
    """

    def __init__(self, clip: Clip, *, n_tokens: int, n_layers: int = 0, is_deep: bool) -> None:
        super().__init__()
        visual = clip.visual
        blocks = list(visual.transformer.resblocks)
        chosen = blocks[-n_layers:] if is_deep else blocks[:1]
        self.n_kept, width = visual.positional_embedding.shape
        self.tokens = nn.Parameter(torch.empty(len(chosen), n_tokens, width))
        bound = math.sqrt(6 / (3 * math.prod(visual.conv1.kernel_size) + width))
        nn.init.uniform_(self.tokens, -bound, bound)
        for number, block in enumerate(chosen):
            block.register_forward_pre_hook(self._put_in(number), with_kwargs=True)

    def _put_in(self, number: int) -> Callable[[nn.Module, Arguments, Keywords], Call]:
        def append(_block: nn.Module, args: Arguments, kwargs: Keywords) -> Call:
            hidden: Float[Tensor, "batch length width"] = args[0]
            # len() would fix the size of the batch in an exported program.
            prompt = self.tokens[number].to(hidden.dtype).expand(hidden.shape[0], -1, -1)
            return (torch.cat([hidden[:, : self.n_kept], prompt], dim=1), *args[1:]), kwargs

        return append


class BottleneckAdapter(nn.Module):
    """What is added to the output of a block's MLP; nothing at first.

    # Differs from DeFT: the reference puts the adapter in the place of the MLP's output, so that
    the pre-trained MLP is lost at the start.
    """

    def __init__(self, width: int, *, rank: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.down = nn.Linear(width, rank)
        self.up = nn.Linear(rank, width)
        nn.init.kaiming_normal_(self.down.weight, a=math.sqrt(5))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(
        self, hidden: Float[Tensor, "batch length width"]
    ) -> Float[Tensor, "batch length width"]:
        return self.up(torch.relu(self.down(self.norm(hidden))))


def _vpt(clip: Clip, settings: TrainingConfig) -> nn.Module:
    return VisualPrompts(
        clip,
        n_tokens=settings.vpt_tokens,
        n_layers=settings.vpt_layers,
        is_deep=settings.image_side == "vpt-deep",
    )


def _lora(clip: Clip, settings: TrainingConfig) -> nn.Module:
    # The peft library has no DoRA for attention.
    is_dora = settings.image_side == "dora"
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.rank,
        target_modules=MLP_LAYERS if is_dora else ["attn", *MLP_LAYERS],
        use_dora=is_dora,
    )
    inject_adapter_in_model(config, clip.visual)
    if not is_dora:
        for block in list(clip.visual.transformer.resblocks):
            _keep_exact(block.attn)
    return nn.Module()


def _keep_exact(attention: Any) -> None:
    """Give the frozen weights of a LoRA attention back as they were after each forward pass.

    peft adds to them and subtracts again, and what is rounded away adds up over a training.
    """
    base = attention.get_base_layer()

    def note(_attention: nn.Module, _args: Arguments) -> None:
        attention.exact = (base.in_proj_weight.data, base.out_proj.base_layer.weight.data)

    def restore(_attention: nn.Module, _args: Arguments, _output: Any) -> None:
        base.in_proj_weight.data, base.out_proj.base_layer.weight.data = attention.exact

    attention.register_forward_pre_hook(note)
    attention.register_forward_hook(restore, always_call=True)


def _norms(clip: Clip, _settings: TrainingConfig) -> nn.Module:
    with _norms_allowed():
        inject_adapter_in_model(LNTuningConfig(target_modules=LAYER_NORMS), clip.visual)
    return nn.Module()


@contextmanager
def _norms_allowed() -> Iterator[None]:
    """No warning that layer norms lack the sizes of linear layers, for which peft asks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unsupported layer type", UserWarning)
        yield


def _biases(clip: Clip, _settings: TrainingConfig) -> nn.Module:
    _let_biases_learn(clip.visual)
    return nn.Module()


def _adapters(clip: Clip, settings: TrainingConfig) -> nn.Module:
    added = nn.ModuleList()
    for block in clip.visual.transformer.resblocks:
        adapter = BottleneckAdapter(clip.visual.ln_post.normalized_shape[0], rank=settings.rank)
        block.mlp.register_forward_hook(_adding(adapter))
        added.append(adapter)
    return added


def _adding(adapter: BottleneckAdapter) -> Callable[[nn.Module, Arguments, Tensor], Tensor]:
    return lambda _mlp, _args, output: output + adapter(output)


def _all(clip: Clip, _settings: TrainingConfig) -> nn.Module:
    # Differs from DeFT: the reference leaves the patch embedding and the outer norms as they are.
    clip.visual.requires_grad_(True)
    return nn.Module()


def _none(_clip: Clip, _settings: TrainingConfig) -> nn.Module:
    return nn.Module()


_KINDS: dict[str, Callable[[Clip, TrainingConfig], nn.Module]] = {
    "vpt-deep": _vpt,
    "vpt-shallow": _vpt,
    "lora": _lora,
    "dora": _lora,
    "norms": _norms,
    "biases": _biases,
    "adapters": _adapters,
    "all": _all,
    "none": _none,
}
