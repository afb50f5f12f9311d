"""The configurations of what is trained here, by family. Light to import: it loads no network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evaluation.rivals.diffusion.config import Config as Diffusion
from evaluation.rivals.stylegan_t.config import Config as StyleGANT
from gigagan.config import OWN
from gigagan.config import Config as GigaGAN
from gigagan.errors import UserError, nearest
from gigagan.overrides import parse

FAMILIES: dict[str, type] = {
    OWN: GigaGAN,
    "stylegan2": GigaGAN,  # the paper's first row is what is left when every part is switched off
    "stylegan_t": StyleGANT,
    "diffusion": Diffusion,
}


def kind(family: str) -> type:
    """A family's configuration. Raises UserError, with the nearest known family."""
    if family not in FAMILIES:
        raise UserError(f"unknown family {family!r}{nearest(family, FAMILIES)}")
    return FAMILIES[family]


def parse_overrides(family: str, overrides: Sequence[str]) -> Any:
    """A family's configuration from ``path=value`` strings. Raises as ``kind`` and ``gigagan.overrides.parse``."""
    return parse(overrides, kind(family)())
