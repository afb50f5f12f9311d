"""What the rules that train and draw rivals take, from a suite and the wildcards alone."""

from __future__ import annotations

from typing import Any

from ablations.entries import NOBODY, Suite
from ablations.recipes import family, rivals, started


class Rivals:
    """The runs of a suite that are rivals, those among them that are trained only because others start from them."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.all = (*suite.rivals, *started(suite))

    @property
    def names(self) -> str:
        """A pattern of them."""
        return "|".join(self.all) or NOBODY

    def family(self, wildcards: Any) -> str:
        return family(self.suite, wildcards.variant)

    def start(self, wildcards: Any) -> list[str]:
        """The weights that one begins with, where it does not begin with first ones."""
        return [f"{run}/weights.safetensors" for run in self._start(wildcards)]

    def start_option(self, wildcards: Any) -> list[str]:
        """The same as words for evaluation.rivals.train."""
        return [word for run in self._start(wildcards) for word in ("--start", run)]

    def _start(self, wildcards: Any) -> list[str]:
        start = rivals()[wildcards.variant].start
        return [f"runs/{self.suite.name}/{start}/seed{wildcards.seed}"] if start else []

    def has_curve(self, name: str) -> bool:
        """Whether a run has a learning curve: only one that begins with first weights has its own."""
        return name not in self.all or (rivals()[name].curve and not rivals()[name].start)
