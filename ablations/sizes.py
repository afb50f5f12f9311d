"""How large a configuration's networks are, what a forward pass costs, and widths that make two of them equally large.

Networks are built on the meta device: nothing is allocated, however large they are.
"""

from __future__ import annotations

import functools
import json
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gigagan.config import Config, channels, parse_overrides
from gigagan.errors import UserError

# Sustained training rate in GFLOP/s. The first was measured with this code, demo's gigagan on one core of a Xeon
# (Sapphire Rapids) in fp32: 70 images/s. The other is for planning: an A100 at a third of its TF32 peak.
RATES = {"cpu": 44.0, "gpu": 50_000.0}
# A process with torch and open_clip in GB, and what activations take for each GFLOP of a micro-batch (measured there).
PROCESS_GB, ACTIVATION_GB = 0.8, 0.02
# Images a second at which gigagan.pretrain_clip trains a CLIP on one such core; no GPU is taken to be faster, since
# much of that time goes into reading and drawing pictures.
CLIP_RATE = 500.0
# A width is taken as equal where parameters are within this share; the paper's own counts have three digits.
CLOSE = 0.01
PARTS = ("generator", "discriminator")


@dataclass(frozen=True)
class Sizes:
    """Parameters in millions: of G and D without T, as the paper counts them, of T in each, and of the vision-aided
    discriminator's heads, which the paper does not mention."""

    generator: float
    discriminator: float
    generator_t: float
    discriminator_t: float
    heads: float


@functools.cache
def clip_config(name: str) -> dict[str, Any]:
    """open_clip's configuration of a CLIP, without its weights.

    Raises UserError for a model that open_clip does not know, and for a folder that is neither there nor called as one
    that gigagan.pretrain_clip will make.
    """
    from gigagan.clip import CONFIG_FILE, LOCAL_DIR
    from gigagan.pretrain_clip import ARCHITECTURES

    if not name.startswith(LOCAL_DIR):
        import open_clip

        model = name.partition(":")[0]
        if (known := open_clip.get_model_config(model)) is None:
            raise UserError(f"CLIP {model}: open_clip has no such model")
        return known
    folder = Path(name.removeprefix(LOCAL_DIR))
    try:
        return json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))["model_cfg"]
    except FileNotFoundError:
        if folder.name in ARCHITECTURES:
            return ARCHITECTURES[folder.name]
        raise UserError(f"CLIP {name}: there is no {CONFIG_FILE}") from None
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise UserError(f"{folder / CONFIG_FILE}: not an open_clip configuration ({type(e).__name__}: {e})") from None


def text_size(config: Config) -> tuple[int, int]:
    """Channels of a CLIP's text features and tokens of a caption. Raises as ``clip_config``."""
    text = clip_config(config.text.clip)["text_cfg"]
    return text["width"], text.get("context_length", 77)


@functools.cache
def map_widths(name: str) -> list[int]:
    """Channels of a CLIP's feature maps, after each block of its image tower. Raises as ``clip_config``."""
    import torch

    from gigagan.clip import Clip

    with torch.device("meta"):
        return Clip(clip_config(name), {}).map_widths


def network(config: Config, part: str) -> Any:
    """The "generator" (or upsampler), the "discriminator" or the "vision_aided" one, on the meta device.

    Raises UserError where the configuration's channels cannot be shared among attention heads.
    """
    import torch

    from gigagan.networks.discriminator import Discriminator
    from gigagan.networks.upsampler import generator_of
    from gigagan.networks.vision_aided import VisionAided

    width, _ = text_size(config)
    with torch.device("meta"):
        if part != "vision_aided":
            return (generator_of if part == "generator" else Discriminator)(config, width)
        widths = map_widths(config.vision.clip or config.text.clip)
        return VisionAided(
            config.vision, widths, Discriminator(config, width).text.width, config.discriminator.predictor
        )


def count(config: Config, part: str) -> tuple[float, float]:
    """Millions of parameters of a network without T, as the paper counts them, and of its T. Raises as ``network``."""
    held = [(name.startswith("text.layers."), p.numel() / 1e6) for name, p in network(config, part).named_parameters()]
    return sum(n for of_t, n in held if not of_t), sum(n for of_t, n in held if of_t)


def sizes(config: Config) -> Sizes:
    """Raises as ``network``."""
    (generator, generator_t), (discriminator, discriminator_t) = (count(config, part) for part in PARTS)
    return Sizes(generator, discriminator, generator_t, discriminator_t, heads(config))


def heads(config: Config) -> float:
    """Millions of parameters of the vision-aided discriminator; 0 without one."""
    return count(config, "vision_aided")[0] if config.vision.weight else 0.0


def matched(overrides: list[str], full: list[str]) -> list[str]:
    """Widths for G and D that make ``overrides`` as large as ``full``, each within ``CLOSE``; nothing for a network
    that is as large already.

    Raises UserError where no width does.
    """
    found = []
    own, whole = parse_overrides(overrides), parse_overrides(full)
    # What the vision-aided discriminator loses, D gets.
    lost = {"generator": 0.0, "discriminator": heads(whole) - heads(own)}
    for part in PARTS:
        target = count(whole, part)[0] + lost[part]
        if abs(_off(overrides, part, target)) > 1e-6:
            found += _widened(overrides, part, target)
    if not found:
        raise UserError("there is nothing to match: it is as large as the full model already")
    return found


def _off(overrides: list[str], part: str, target: float) -> float:
    """How much larger than ``target`` million parameters a network is, as a share of it."""
    return count(parse_overrides(overrides), part)[0] / target - 1


def _widened(overrides: list[str], part: str, target: float) -> list[str]:
    """The overrides of one network's channels with which it has ``target`` million parameters."""
    config = parse_overrides(overrides)
    settings, side = getattr(config, part), config.data.resolution

    def width(base: int, most: int) -> list[str]:
        return [f"{part}.channel_base={base}", f"{part}.channel_max={most}"]

    # Heads do not change the count but refuse most widths, so they wait until the scale is known.
    low, high = 1.0, 4.0
    for _ in range(12):
        scale = (low + high) / 2
        wide = width(round(settings.channel_base * scale), round(settings.channel_max * scale))
        above = _off([*overrides, *wide, "attention.head_width=1"], part, target) > 0
        low, high = (low, scale) if above else (scale, high)

    def fits(base: int, most: int) -> bool:
        wide = [channels(base, most, resolution) for resolution in settings.attention_resolutions]
        heads = config.attention.head_width
        return config.attention.kinds in ("none", "mlp") or not any(n % max(1, n // heads) for n in wide)

    best, best_off = [], 1.0
    middle = round(settings.channel_max * scale)
    for most in sorted(range(round(middle * 0.9), round(middle * 1.1)), key=lambda n: abs(n - middle)):
        bases = range(0, 2 * round(settings.channel_base * scale), side)[1:]
        bases = [base for base in bases if fits(base, most)]
        # The count grows with the base: the first one that is large enough, or the one before it.
        i = bisect_left(bases, 0.0, key=lambda base: _off([*overrides, *width(base, most)], part, target))
        for base in bases[max(0, i - 1) : i + 1]:
            off = abs(_off([*overrides, *width(base, most)], part, target))
            if off < best_off:
                best, best_off = width(base, most), off
        if best_off < CLOSE / 4:
            break
    if best_off > CLOSE:
        raise UserError(f"no width gives the {part} {target:.4g}M parameters again: the nearest is {best_off:.1%} off")
    return best
