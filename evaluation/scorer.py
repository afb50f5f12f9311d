"""Any set of pictures against any reference, under a protocol: pictures to features, features to scores.

Pictures are decoded, cropped and resized by threads, shown to the networks batch by batch, and their features kept in
files, so that memory does not grow with their number. Where a protocol asks for Fréchet distances alone, only mean and
covariance of the reference are kept.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch

from evaluation import preprocess, protocols, statistics_file
from evaluation.declared import GROUPS, METRICS, PAIRED, Metric, needs
from evaluation.extractors import Extractor, Pairs, networks
from evaluation.feature_store import Features, Store
from evaluation.image_sets import ImageSet
from evaluation.metrics import MEASURES, Inputs, Score, measure
from evaluation.metrics.checks import Doubt
from evaluation.metrics.frechet import Statistics
from evaluation.protocols import ANY, Protocol
from evaluation.reading import Read, Reader
from evaluation.siblings import Siblings
from gigagan.clip import Clip
from gigagan.data import captions as words
from gigagan.data import scenes
from gigagan.errors import UserError
from gigagan.files import sha256
from gigagan.perceptual import ClipDistance, Lpips, Perceptual
from gigagan.pretrained import find
from gigagan.progress import Progress

BY_STATISTICS = {"inception": "fid@1", "pyramid": "blind-fd@1", "dinov2": "fd-dinov2@1"}
"""The protocol of any number of images that makes do with statistics of its reference."""
FRECHET = tuple(name for name, measure_ in MEASURES.items() if measure_.by_statistics)


@dataclass(frozen=True)
class Result:
    """What a scoring found, and of what.

    Attributes:
        protocol, sha: how, and the hash of everything that changes a score.
        side: of the pictures that were scored, in pixels.
        images: as they were read.
        reference: how many pictures it has, if that is known, and the hash of their files.
        captions_sha, truth_sha: of the list of captions, and of the ground truths; empty where none take part.
        dataset: what the reference is.
        weights: hashes of the networks that took part.
        scores: by metric.
        warnings: lines for the reader.
    """

    protocol: Protocol
    sha: str
    side: int
    images: Read
    reference: dict[str, Any]
    captions_sha: str
    truth_sha: str
    dataset: str
    weights: dict[str, str]
    scores: dict[str, Score]
    warnings: list[str]

    def gate(self, metric: str) -> bool | None:
        """Whether a score lies in its gate; None where it has none."""
        if metric not in self.protocol.gates:
            return None
        low, high = self.protocol.gates[metric]
        return low <= self.scores[metric].value <= high


class Scorer:
    """One protocol with its networks.

    Args:
        protocol: how to score.
        weights: the user's folder of pretrained weights, as ``gigagan.pretrained.find`` takes it.
        judge: the CLIP that judges, where the protocol wants one.
        device: where the networks run.
        batch: pictures at a time.
        threads: that decode and resize.
        cache: a folder that keeps features for the next time.
        progress: whether to say how far it is.
        photographs: whether the images may be of several sizes, as photographs are and generated images are not.

    Raises:
        UserError: a network's file is not there or another one; the protocol wants a judge, and none is named.
    """

    def __init__(
        self,
        protocol: Protocol,
        weights: str | Path | None = None,
        judge: str = "",
        device: torch.device | str = "cpu",
        batch: int = 32,
        threads: int = 0,
        cache: Path | None = None,
        progress: bool = True,
        photographs: bool = False,
    ) -> None:
        self.protocol, self.folder, self.device = protocol, weights, torch.device(device)
        self.batch, self.threads = batch, threads or len(os.sched_getaffinity(0))
        self.cache, self.progress, self.photographs = cache, progress, photographs
        self.wanted = [need for name in protocol.metrics for need in needs(name, protocol.extractor, protocol.clip)]
        self.of_reference = [
            need
            for name in protocol.metrics
            if _declared(name).reference
            for need in needs(name, protocol.extractor, protocol.clip)
        ]
        self.judge_name = judge
        if not judge and any(need.startswith("judge") for need in self.wanted):
            raise UserError(
                f"{protocol.name} is scored by a judge: name it with --judge (evaluation/weights/scenes-judge for "
                "scenes, or the one that a suite has trained on its photographs)"
            )

    # Networks are loaded when all else has been found to fit.

    @cached_property
    def judge(self) -> Clip | None:
        return Clip.load(self.judge_name).to(self.device) if self.judge_name else None

    @cached_property
    def lpips(self) -> Lpips | None:
        wanted = {"lpips", "lpips_diversity"} & {*self.wanted}
        return Lpips(find("vgg16", self.folder)).to(self.device) if wanted else None

    @cached_property
    def networks(self) -> list[Extractor]:
        return networks(self.protocol, self.wanted, self.folder, self.judge, self.device)

    @property
    def paired(self) -> list[str]:
        """Metrics that compare each picture with its ground truth."""
        return [name for name in self.protocol.metrics if name in PAIRED]

    @property
    def wants_captions(self) -> bool:
        return any(need.endswith("_text") for need in self.wanted) or bool(
            {"attributes", "lpips_diversity"} & {*self.protocol.metrics}
        )

    @property
    def by_statistics(self) -> bool:
        """Whether mean and covariance of the reference are enough."""
        return all(name in FRECHET or not _declared(name).reference for name in self.protocol.metrics)

    @property
    def _pictures(self) -> str:
        """What ``base`` does, in words."""
        protocol = self.protocol
        return f"crop {protocol.crop}, " + (f"{protocol.resize} to {protocol.side} px" if protocol.side else "as it is")

    def base(self, image: np.ndarray) -> np.ndarray:
        """What the protocol does to every picture: crop and resize, uint8 [H, W, 3] -> [S, S, 3]."""
        if self.protocol.crop == "centre":
            image = preprocess.centre_crop(image)
        if self.protocol.side:
            image = preprocess.resize(image, self.protocol.side, self.protocol.resize)
        return image

    def __call__(
        self,
        images: ImageSet,
        reference: ImageSet | Path | None,
        truth: ImageSet | None = None,
        save_reference: Path | None = None,
    ) -> Result:
        """Score ``images`` against ``reference``, a set or a file of statistics.

        Args:
            truth: the ground truth of each picture, in their order, for metrics that compare the two.
            save_reference: where to write the reference's statistics, for the next time.

        Raises:
            UserError: another number of pictures or captions than the protocol scores, other captions, mixed sizes,
                broken pictures, NaN, or a reference that was made in another way.
        """
        self._check(images, reference, truth, save_reference)
        with Store(self.cache) as store, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", Doubt)
            extractors = [*self.networks, *self._of_set(images, truth)]
            theirs: Read | None = None
            there, about, lines = ({}, {"n": 0, "sha": ""}, [])
            how = (self.base, self._pictures, store, self.batch, self.threads, self.progress)
            if isinstance(reference, ImageSet):
                theirs = self._read_reference(reference, how)
                there, about = theirs.features, _noted(reference, theirs)
                if save_reference:
                    self._save(save_reference, there, about)
            elif reference:
                there, about, lines = self._statistics(reference)
            texts = images.captions if self.wants_captions else None
            ours = Reader(*how, "the images", one_size=not self.photographs)(images, extractors, texts, sums=False)
            lines += self._remarks(images, ours, theirs, truth)
            scores = self._scores(images, ours.features, there)
            lines += [str(w.message) for w in caught if issubclass(w.category, Doubt)]
        captions, truths = protocols.captions_sha(texts) if texts else "", truth.sha256() if truth else ""
        # What of the pictures changes a score and is not the scored images' own.
        data: dict[str, Any] = {"reference": about["sha"], "captions": captions, "images": len(images)}
        data |= {"truth": truths} if truth else {}
        if about.get("data") and not self.protocol.dataset:
            data = about["data"]  # a suite's: the hash is that of its own rows
        own = {name: sha for extractor in extractors for name, sha in extractor.weights.items()}
        return Result(
            protocol=self.protocol,
            sha=protocols.sha(self.protocol, data, own),
            side=self.protocol.side or max(ours.size),
            images=ours,
            reference=about,
            captions_sha=captions,
            truth_sha=truths,
            dataset=self.protocol.dataset or str(data.get("dataset", "")),
            weights=own,
            scores=scores,
            warnings=list(dict.fromkeys(lines)),
        )

    def keep(self, reference: ImageSet, path: Path) -> int:
        """Write a reference's statistics without scoring anything, for all that will be; how many pictures it has.

        Raises UserError for another number of pictures than the protocol's, broken ones, or a protocol that wants more
        of its reference.
        """
        self._check_kept()
        self._check_reference(reference)
        with Store(self.cache) as store:
            how = (self.base, self._pictures, store, self.batch, self.threads, self.progress)
            read = self._read_reference(reference, how)
            self._save(path, read.features, _noted(reference, read))
        return len(reference)

    def _read_reference(self, reference: ImageSet, how: tuple[Any, ...]) -> Read:
        network = [e for e in self.networks if {*e.gives} & {*self.of_reference}]
        reader = Reader(*how, "images of the reference", one_size=False)
        return reader(reference, network, None, sums=self.by_statistics)

    # --------------------------------------------------------------------------------------------------------- checks

    def _check(
        self, images: ImageSet, reference: ImageSet | Path, truth: ImageSet | None, save_reference: Path | None
    ) -> None:
        protocol = self.protocol
        self._number(images, protocol.images, "scores", "images")
        for name in protocol.metrics:
            if len(images) < MEASURES[name].least:
                raise UserError(
                    f"{images.path}: {name} wants {MEASURES[name].least:,} images or more, here are {len(images):,}: "
                    "bring more, or take a protocol without it"
                )
        if bool(reference) != bool(self.of_reference):
            has = "compares with a reference: give --reference" if self.of_reference else "has no reference"
            raise UserError(f"{protocol.name} {has}")
        if isinstance(reference, ImageSet):
            self._check_reference(reference)
            if protocol.extractor == "pyramid" and not protocol.side:  # as many features as the size makes
                (h, w, _), (h0, w0, _) = images.decode(0).shape, reference.decode(0).shape
                if (h, w) != (h0, w0):
                    raise UserError(
                        f"{images.path} is of {w}x{h} px, {reference.path} of {w0}x{h0} px: {protocol.name} compares "
                        "pictures of one size: make them alike"
                    )
        elif not self.by_statistics:
            wanting = next(name for name in protocol.metrics if _declared(name).reference and name not in FRECHET)
            other = BY_STATISTICS.get(protocol.extractor)
            enough = f": {other} makes do with those" if other else ""
            raise UserError(
                f"{reference}: {wanting} wants the reference's images: statistics hold no more than a mean and a "
                "covariance"
                f"{enough}"
            )
        elif reference and len(set(self.of_reference)) > 1:
            raise UserError(f"{reference}: {protocol.name} wants several features of the reference: give its images")
        elif save_reference:
            raise UserError("--save-reference: the reference is a file of statistics already")
        if save_reference:
            self._check_kept()
        if self.wants_captions:
            if images.captions is None:
                raise UserError(
                    f"{images.path}: {protocol.name} wants captions, and there are none: put a captions.txt with a "
                    "line for each image beside them, or name a file with --captions"
                )
            if protocol.list and protocols.captions_sha(images.captions) != protocols.load_list(protocol.list).sha256:
                wanted = protocols.load_list(protocol.list)
                raise UserError(
                    f"{images.path}: the captions are not {wanted.title}, in its order (sha256 {wanted.sha256[:12]}, "
                    f"these have {protocols.captions_sha(images.captions)[:12]}): {protocol.name} scores no others"
                )
        if self.paired and truth is None:
            raise UserError(
                f"{protocol.name}: {self.paired[0]} wants each image's ground truth: name them with --truth"
            )
        if truth is not None and not self.paired:
            raise UserError(f"--truth: {protocol.name} compares no image with its ground truth")
        if truth is not None and len(truth) != len(images):
            raise UserError(f"--truth {truth.path}: {len(truth):,} images for the {len(images):,} of {images.path}")

    def _check_reference(self, reference: ImageSet) -> None:
        protocol = self.protocol
        if protocol.reference_pin:
            raise UserError(
                f"{protocol.name} is against {protocol.dataset} and nothing else: give that file as --reference"
            )
        self._number(reference, protocol.reference, "is against", f"images ({protocol.dataset})")

    def _check_kept(self) -> None:
        if not self.by_statistics or len(set(self.of_reference)) > 1:
            raise UserError(
                f"--save-reference: {self.protocol.name} wants more of its reference than one mean and covariance"
            )

    def _number(self, images: ImageSet, wanted: int | str, does: str, what: str) -> None:
        if wanted == ANY:
            if len(images) < 2:
                raise UserError(f"{images.path}: one image has no spread: two are the least that can be scored")
        elif len(images) != wanted:
            raise UserError(
                f"{images.path}: {self.protocol.name} {does} {wanted:,} {what}, here are {len(images):,}: figures at "
                "other numbers do not compare: bring as many, or take a protocol of any number, as clean-fid@1"
            )

    def _statistics(self, path: Path) -> tuple[Features, dict[str, Any], list[str]]:
        """The reference as statistics, what is known of it, and what is to be said."""
        found, about = statistics_file.read(path)
        name, protocol, lines = self.of_reference[0], self.protocol, []
        if protocol.reference_pin and protocol.reference_pin not in (sha256(path), git_blob(path)):
            raise UserError(
                f"{path}: wrong checksum: {protocol.name} is against {protocol.dataset} ({protocol.reference_pin})"
            )
        network = next(n for n in self.networks if name in n.gives)
        if network.width not in (None, len(found.mean)):
            raise UserError(f"{path}: statistics of {len(found.mean):,} features, {name} has {network.width:,}")
        if about:
            for key, wanted in self._made(name).items():
                if about.get(key) != wanted:
                    raise UserError(
                        f"{path}: was made in another way than {protocol.name} does it: {key} is {about.get(key)!r} "
                        f"there and {wanted!r} here"
                    )
            if protocol.reference not in (ANY, about.get("n")):
                raise UserError(
                    f"{path}: {protocol.name} is against {protocol.reference:,} images ({protocol.dataset}), these "
                    f"statistics are of {about.get('n')}"
                )
        elif not protocol.reference_pin:
            lines.append(
                f"{path} does not say how it was made: that it is of {protocol.dataset}, prepared as {protocol.name} "
                "does it, cannot be checked"
            )
        kept = {"n": about.get("n"), "sha": about.get("sha") or sha256(path), "data": about.get("data") or {}}
        return {name: found}, kept, lines

    def _made(self, name: str) -> dict[str, Any]:
        """What of a protocol changes the statistics of a reference."""
        network = next(n for n in self.networks if name in n.gives)
        return {
            "pictures": self._pictures,
            "features": name,
            "weights": network.weights[name],
            "how": network.how,
        }

    def _save(self, path: Path, features: Features, about: dict[str, Any]) -> None:
        name = self.of_reference[0]
        found = features[name]
        assert isinstance(found, Statistics)
        of = {"protocol": self.protocol.name, "dataset": self.protocol.dataset}
        statistics_file.write(path, found, self._made(name) | about | of)

    def _of_set(self, images: ImageSet, truth: ImageSet | None) -> list[Extractor]:
        """Those that are of one set's pictures alone."""
        found: list[Extractor] = []
        if truth is not None:
            distances: dict[str, Perceptual] = {}
            if "judge_distance" in self.wanted and self.judge:
                distances["judge_distance"] = ClipDistance(self.judge)
            if "lpips" in self.wanted and self.lpips:
                distances["lpips"] = self.lpips
            pairs = Pairs(truth, distances, self.device, self.base)
            if self.wants_captions and images.captions:
                pairs.match(images.captions)
            found.append(pairs)
        if "lpips_diversity" in self.wanted:
            pictures = ((self.base(images.decode(i)), caption) for i, caption in enumerate(images.captions or []))
            found.append(Siblings(pictures, self.lpips, self.device))
        return found

    # -------------------------------------------------------------------------------------------------------- scoring

    def _scores(self, images: ImageSet, features: Features, reference: Features) -> dict[str, Score]:
        captions = (self.wants_captions and images.captions) or []
        meaning = scenes.meaning if "attributes" in self.protocol.metrics else words.meaning
        inputs = Inputs(
            lambda: (np.stack([self.base(images.decode(i)) for i in range(len(images))]), captions),
            [meaning(caption) for caption in captions],
            features,
            reference,
            self.protocol.extractor,
            self.protocol.clip or "judge",
            self.protocol.settings,
        )
        found: dict[str, Score] = {}
        bar = Progress(len(self.protocol.metrics), unit="metrics") if self.progress else None
        for done, name in enumerate(self.protocol.metrics, 1):
            found |= measure(name, inputs)
            if bar:
                bar.update(done)
        return {metric: found[metric] for metric in METRICS if metric in found}

    @staticmethod
    def _remarks(images: ImageSet, read: Read, theirs: Read | None, truth: ImageSet | None) -> list[str]:
        """What a reader of the scores should know of the pictures."""
        lines = []
        counts = Counter(read.files)
        if copies := len(read.files) - len(counts):
            first = next(i for i, digest in enumerate(read.files) if counts[digest] > 1)
            again = read.files.index(read.files[first], first + 1)
            lines.append(
                f"{images.path}: {copies:,} of {len(images):,} images are copies of others, as {images.names[again]} "
                f"is of {images.names[first]}: they are scored as they are"
            )
        if read.constant:
            lines.append(
                f"{images.path}: {len(read.constant):,} of {len(images):,} images are of one colour throughout, the "
                f"first is {images.names[read.constant[0]]}: they are scored as they are"
            )
        if theirs and (shared := counts.keys() & set(theirs.files)):
            there = sum(counts[digest] for digest in shared)
            lines.append(
                f"{images.path}: {there:,} of its images are in the reference, too, which makes distances small"
            )
        if truth is not None:
            pairs = zip(images.names, truth.names, strict=False)
            if other := next((pair for pair in pairs if PurePath(pair[0]).stem != PurePath(pair[1]).stem), None):
                lines.append(
                    f"images and truths are paired in order, as {other[0]} with {other[1]}: their names differ"
                )
        return lines


def _noted(reference: ImageSet, read: Read) -> dict[str, Any]:
    """What is known of a reference: how many pictures, the hash of their files, and what a suite says of its data."""
    return {"n": len(reference), "sha": read.sha, "data": reference.about}


def git_blob(path: Path) -> str:
    """``git`` and the id that git gives a file's contents: checksums of files whose SHA-256 nobody has published."""
    data = path.read_bytes()
    head = f"blob {len(data)}\0".encode()
    return f"git {hashlib.sha1(head + data).hexdigest()}"


def _declared(name: str) -> Metric:
    """What a metric declares, or a group of metrics as a protocol lists it."""
    return METRICS[GROUPS.get(name, (name,))[0]]
