"""A suite that is scored on folders of photographs, under the papers' protocols: what its rules take."""

from __future__ import annotations

from typing import Any

from ablations.entries import NOBODY, Suite
from ablations.recipes import drawable, drawer, protocols

WORDS = {"fid": "FID", "fd": "FD", "clip_score": "CLIP score"}


class Photographs:
    """Image sets, prompts and references, by the wildcards ``protocol`` and ``who``: a run as ``VARIANT/seedN``,
    ``untrained``, or ``real`` for the photographs of the prompts."""

    def __init__(self, suite: Suite, resolution: int, first: str, seeds: list[int], images: str) -> None:
        """``resolution`` of the runs, px; ``first``: the folder of the run whose first snapshot is the untrained one,
        empty where nothing is trained; ``images``: the user's folder, empty for a suite that is scored on its own
        data."""
        self.suite, self.resolution, self.first, self.seeds = suite, resolution, first, seeds
        self.images = images

    @property
    def names(self) -> str:
        """A pattern of those that a suite on photographs is scored by; one that fits nothing for other suites."""
        return "|".join(self.suite.protocols) if self.images else NOBODY

    def _protocol(self, wildcards: Any) -> dict[str, Any]:
        return protocols()[wildcards.protocol]

    def rows(self, runs: list[str]) -> list[str]:
        """The rows of all scores: of runs, as ``who``, of the untrained generator and of photographs."""
        untrained = ["untrained"] if self.first else []
        shown = [(who, name) for name in self.suite.protocols for who in (*untrained, *runs)]
        # Where all photographs are the reference, those of the prompts are among it: theirs would be no score.
        real = [("real", name) for name in self.suite.protocols if protocols()[name].get("disjoint")]
        return [f"runs/{self.suite.name}/{who}/{name}.jsonl" for who, name in [*real, *shown]]

    def n_prompts(self, wildcards: Any) -> int:
        return self._protocol(wildcards)["images"]

    def n_reference(self, wildcards: Any) -> int:
        return self._protocol(wildcards)["reference"]

    def of_protocol(self, name: str, wildcards: Any) -> str:
        """A file that all runs share under a protocol."""
        return f"runs/{self.suite.name}/photographs/{wildcards.protocol}/{name}"

    def reference(self, wildcards: Any) -> str:
        """The photographs that samples are compared with: others than those of the prompts, or all there are."""
        disjoint = self._protocol(wildcards).get("disjoint")
        return self.of_protocol("reference.zip", wildcards) if disjoint else self.images

    def collected(self, wildcards: Any) -> list[str]:
        """The same where the workflow makes it."""
        return [self.reference(wildcards)] if self._protocol(wildcards).get("disjoint") else []

    def _folder_of(self, wildcards: Any) -> str:
        return self.first if wildcards.who == "untrained" else f"runs/{self.suite.name}/{wildcards.who}"

    def drawn_by(self, wildcards: Any) -> str:
        """What an image set is drawn with."""
        return f"{self._folder_of(wildcards)}/{drawable(self.suite, _run(wildcards))}"

    def drawer(self, wildcards: Any) -> str:
        """The module that draws an image set."""
        return drawer(self.suite, _run(wildcards))

    def snapshot(self, wildcards: Any) -> str:
        """Which weights, as words for gigagan.sample."""
        return "--snapshot 0" if wildcards.who == "untrained" else ""

    def shown(self, wildcards: Any) -> str:
        """The image set that is scored: photographs, or samples, enlarged where the protocol's pictures are larger."""
        if wildcards.who == "real":
            return self.of_protocol("real.zip", wildcards)
        small = self._protocol(wildcards)["side"] > self.resolution and _run(wildcards) not in self.suite.pretrained
        enlarged = ".enlarged" if small else ""
        return f"runs/{self.suite.name}/{wildcards.who}/{wildcards.protocol}{enlarged}.zip"

    def whose(self, wildcards: Any) -> str:
        """Whose rows they are, as words for evaluation.score."""
        if wildcards.who == "real":
            return "--photographs --variant real"
        if wildcards.who == "untrained":
            return f"--variant untrained --seed {self.seeds[0]} --run {self.first} --kimg 0"
        seed = wildcards.who.partition("/seed")[2]
        return f"--variant {_run(wildcards)} --seed {seed} --run {self._folder_of(wildcards)}"

    def scored_as(self, wildcards: Any) -> str:
        """For whoever reads a dry run: whose score it is, and which."""
        protocol, who = self._protocol(wildcards), wildcards.who.replace("/seed", ", seed ")
        metrics = " and ".join(WORDS.get(name, name.replace("_", " ")) for name in protocol["metrics"])
        return f"{who}: {metrics} by {wildcards.protocol} ({protocol['title']})"

    @property
    def options(self) -> list[str]:
        """The judge, where a protocol may want one, as words for evaluation.score."""
        return ["--judge", self.suite.judge] if self.suite.judge else []


def _run(wildcards: Any) -> str:
    """``VARIANT/seedN`` -> VARIANT"""
    return wildcards.who.partition("/seed")[0]
