"""A suite made ready for the workflow: what each rule takes."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import typing
from pathlib import Path
from typing import Any

from ablations.entries import Device
from ablations.recipes import PROTOCOLS, chosen, suite, varied
from gigagan.config import parse_overrides, recipe_sha
from gigagan.errors import UserError, nearest
from gigagan.files import read_yaml

SCHEMA = Path(__file__).parent.parent / "config" / "config.schema.yaml"
DEVICES = typing.get_args(Device)
FILTERS = ("bicubic", "lanczos")  # the rivals of an upsampler that need no training
INCEPTION_FILE = "inception-2015-12-05.pt"
PHOTOGRAPHS = ("shards", "folder", "classes", "coco")


def code(*modules: str) -> str:
    """A hash of modules' (or packages') source: the workflow's cheap rules rerun when it changes."""
    digest = hashlib.sha256()
    for module in modules:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise UserError(f"no module {module}")
        origin = Path(spec.origin)
        files = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
        for path in files:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


class Plan:
    """A suite made ready for the workflow: what each rule takes, from the user's config and the wildcards alone."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.suite = suite(str(config["suite"]))
        self.name = self.suite.name
        mine = chosen(self.suite, str(config.get("variants", "")), str(config.get("seeds", "")))
        self.full = self.suite.variants[0] if self.suite.variants[0] in mine.variants else mine.variants[0]
        place = {name: i for i, name in enumerate(self.suite.variants)}
        self.variants = sorted(mine.variants, key=lambda name: place.get(name, len(place)))
        self.seeds = list(mine.seeds)
        folders = {key: str(config.get(key, "")) for key in ("shards", "images", "annotations", "weights")}
        self.overrides = tuple(self._fill(o, folders) for o in self.suite.overrides)
        self.base = parse_overrides(list(self.overrides))
        if self.base.data.name in PHOTOGRAPHS and not Path(self.base.data.path).is_dir():
            key = "shards" if self.base.data.name == "shards" else "images"
            raise UserError(f"suite {self.name}: {key}={self.base.data.path}: no such folder")
        self.device = str(config.get("device", "")) or self.suite.device
        if self.device not in DEVICES:
            raise UserError(f"device={self.device}: no such device{nearest(self.device, DEVICES)}")
        if self.device == "auto":
            self.device = _device()
        self.gpu = int(self.device != "cpu")  # 0, or jobs on the CPU would wait for each other
        self.inception = self._inception(folders["weights"])
        self.gate = [f"results/{self.name}/gate.json"] if self.suite.gate else []
        self.verdict = [f"results/{self.name}/verdict.txt"] if self.suite.gate else []

    def _inception(self, folder: str) -> list[str]:
        """clean-fid's Inception, if a protocol wants it. Raises UserError where it is not there."""
        known = read_yaml(PROTOCOLS)["images"]
        wanting = [name for name in self.suite.protocols if known[name]["extractor"] == "inception"]
        if not wanting:
            return []
        file = Path(folder, INCEPTION_FILE).expanduser()
        if not folder or not file.is_file():
            raise UserError(
                f"suite {self.name}: {wanting[0]} needs clean-fid's {INCEPTION_FILE}: put it into a folder and say "
                f"which, with --config suite={self.name} weights=FOLDER"
            )
        return [str(file)]

    @property
    def inception_option(self) -> list[str]:
        """The same as words for evaluation.features."""
        return [word for file in self.inception for word in ("--inception", file)]

    def _fill(self, override: str, folders: dict[str, str]) -> str:
        for key, folder in folders.items():
            if f"{{{key}}}" in override:
                if not folder:
                    raise UserError(
                        f"suite {self.name} needs {key}: say where it is with --config suite={self.name} {key}=FOLDER"
                    )
                override = override.replace(f"{{{key}}}", str(Path(folder).expanduser()))
        return override

    def recipe(self, wildcards: Any) -> list[str]:
        """Rule train's overrides."""
        return varied(self.overrides, wildcards.variant)

    def identity(self, wildcards: Any) -> str:
        """What else rule train reruns for: a default or a version of the code that changes what its overrides train."""
        return recipe_sha(parse_overrides(self.recipe(wildcards)), {"data": self.fingerprint})

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of the names and sizes of the files that are learned from, where there are any: other data, other runs."""
        folder = Path(self.base.data.path)
        if self.base.data.name not in PHOTOGRAPHS:
            return ""
        digest = hashlib.sha256()
        for above, folders, names in os.walk(folder, followlinks=True):
            folders.sort()
            for file in (Path(above, name) for name in sorted(names)):
                size = file.stat().st_size if file.exists() else -1
                digest.update(f"{file.relative_to(folder)}\0{size}\0".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:12]

    @property
    def data(self) -> list[str]:
        """The overrides that say what the data are."""
        return [o for o in self.overrides if o.startswith("data.")]

    @property
    def pretrain_data(self) -> list[str]:
        """The same as options of gigagan.pretrain_clip."""
        data = self.base.data
        files = [("--path", data.path), ("--annotations", data.annotations)]
        given = [word for option, value in files if value for word in (option, value)]
        return ["--data", data.name, *given, "--resolution", str(data.resolution)]

    def pretrain_images(self, wildcards: Any) -> int:
        return self.suite.pretrain[wildcards.arch]

    def pretrain_seed(self, wildcards: Any) -> int:
        """Another one for each: the judge shall not share the conditioner's blind spots."""
        return 1 + sorted(self.suite.pretrain).index(wildcards.arch)

    def clips(self, arch: str) -> list[str]:
        """The file of a CLIP: one that the suite trains for itself, or a shipped one; none where it is only named."""
        name = {"conditioner": self.base.text.clip, "judge": self.suite.judge}[arch]
        file = Path(name.removeprefix("local-dir:")) / "open_clip_model.safetensors"
        return [str(file)] if arch in self.suite.pretrain or file.is_file() else []

    def judge(self, wildcards: Any) -> str:
        """The CLIP that scores."""
        return self.suite.judge

    @property
    def threads(self) -> int:
        return self.base.train.threads

    @property
    def first(self) -> str:
        """The run whose first snapshot is the suite's untrained generator."""
        return f"runs/{self.name}/{self.full}/seed{self.seeds[0]}"

    @property
    def edited(self) -> str:
        """Where, below runs/ and results/, edits of ``first`` go: to the suite's own folder where it is the suite's own
        first run, else into one of its own."""
        own = (self.full, self.seeds[0]) == (self.suite.variants[0], self.suite.seeds[0])
        return self.name if own else self.first.removeprefix("runs/")

    def edited_weights(self, wildcards: Any) -> str:
        """The weights that are edited. Raises UserError for an upsampler's; called only where edits are asked for."""
        if self.enlarges:
            raise UserError(
                f"suite {self.name}: edits are of generators, and its models are upsamplers: name another suite"
            )
        return f"{self.first}/weights.safetensors"

    def of_runs(self, name: str, seeds: list[int] | None = None) -> list[str]:
        """A file of every run."""
        return [
            f"runs/{self.name}/{variant}/seed{seed}/{name}".rstrip("/")
            for variant in self.variants
            for seed in seeds or self.seeds
        ]

    @property
    def enlarges(self) -> bool:
        """Whether the suite's models are upsamplers."""
        return self.base.upsampler.input > 0

    @property
    def draw(self) -> str:
        """The module, and the option for its input, that makes a run's samples."""
        return "gigagan.upsample" if self.enlarges else "gigagan.sample --prompts"

    @property
    def prompts(self) -> str:
        """What a run's samples are made from: captions, or small pictures with theirs."""
        return f"runs/{self.name}/{'small' if self.enlarges else 'real'}.zip"

    @property
    def small(self) -> list[str]:
        """The small pictures as words for the commands that draw by themselves; none where nothing is enlarged."""
        return ["--small", self.prompts] if self.enlarges else []

    def truth(self, wildcards: Any) -> list[str]:
        """The ground truth of an image set, as words for evaluation.features; none where nothing was enlarged."""
        of_samples = self.enlarges and wildcards.images.endswith("samples")
        return ["--truth", f"runs/{self.name}/real.zip"] if of_samples else []

    @property
    def filtered(self) -> list[str]:
        """The rows of what plain filters make of the small pictures."""
        return [f"runs/{self.name}/{name}/metrics.jsonl" for name in FILTERS] if self.enlarges else []

    @property
    def scoring(self) -> str:
        """A digest of the code that scores."""
        modules = ("rows", "runs", "records", "declared", "metrics", "protocols", "feature_file")
        return code(*(f"evaluation.{module}" for module in modules))

    @property
    def protocols(self) -> str:
        """The protocols' text: scoring runs again when it changes."""
        return hashlib.sha256(PROTOCOLS.read_bytes()).hexdigest()[:12]


def check(config: dict[str, Any]) -> None:
    """Refuse unknown keys and values of another type in one line, where Snakemake's own check prints the schema."""
    known = read_yaml(SCHEMA)["properties"]
    for key, value in config.items():
        if key not in known:
            raise UserError(f"config: no key {key!r}{nearest(key, known)}")
        about = known[key]["description"]
        if value is None:  # what Snakemake reads into `key=`
            value = config[key] = ""
        if not isinstance(value, str) and not (type(value) is int and "integer" in known[key]["type"]):
            kind = type(value).__name__
            raise UserError(f"config: {key}={value}: is {kind}, not text: {about} For a name: \"{key}='{value}'\"")
        if value == "" and known[key].get("minLength"):
            raise UserError(f"config: {key} is empty: {about}")


def _device() -> str:
    """cuda where NVIDIA's driver shows a device; asking torch would cost every start of the workflow seconds."""
    return "cuda" if any(Path("/dev").glob("nvidia[0-9]*")) else "cpu"
