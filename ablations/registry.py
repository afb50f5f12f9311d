"""Variants, suites and the paper's models, resolved: parents, overrides, plans for the workflow.

python -m ablations.registry list
python -m ablations.registry show demo no_attention
python -m ablations.registry cost photos
python -m ablations.registry params
python -m ablations.registry memory
python -m ablations.registry overrides laion_64 no_attention
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib.util
import os
import sys
import typing
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ablations.entries import Device, Model, Suite, Variant, read
from gigagan.config import Config, parse_overrides, recipe_sha, to_dict
from gigagan.errors import UserError, command, nearest
from gigagan.files import read_yaml, write_text

HERE = Path(__file__).parent
PROTOCOLS = HERE.parent / "evaluation" / "protocols.yaml"
SCHEMA = HERE.parent / "config" / "config.schema.yaml"
DEVICES = typing.get_args(Device)
FILTERS = ("bicubic", "lanczos")  # the rivals of an upsampler that need no training
INCEPTION_FILE = "inception-2015-12-05.pt"
PHOTOGRAPHS = ("shards", "folder", "classes", "coco")


Entry = TypeVar("Entry", Variant, Model)


@functools.cache
def variants() -> dict[str, Variant]:
    """Every variant by name. Raises UserError for an unknown parent or a circle of parents."""
    return _related("variants.yaml", Variant)


@functools.cache
def models() -> dict[str, Model]:
    """Every model of the paper by name. Raises UserError for an unknown parent or a circle of parents."""
    return _related("models.yaml", Model)


def _related(file: str, kind: type[Entry]) -> dict[str, Entry]:
    found = read(HERE / file, kind)
    for name in found:
        _line(name, found)
    return found


def _line(name: str, among: dict[str, Entry]) -> list[Entry]:
    """An entry and its parents, eldest first."""
    line: list[Entry] = []
    step: str | None = name
    while step is not None:
        kind = type(next(iter(among.values()))).__name__.lower()
        if step not in among:
            whose = f"{kind}s.yaml: {line[-1].name}: unknown parent" if line else f"unknown {kind}"
            raise UserError(f"{whose} {step!r}{nearest(step, among)}")
        if any(entry.name == step for entry in line):
            raise UserError(f"{kind}s.yaml: {name}: its parents form a circle")
        line.append(among[step])
        step = among[step].parent
    return line[::-1]


def ancestry(name: str) -> list[Variant]:
    """A variant and its parents, eldest first. Raises UserError, with the nearest known name."""
    return _line(name, variants())


def model(name: str) -> list[str]:
    """The ``path=value`` strings that make one of the paper's models. Raises UserError, with the nearest known name."""
    return [o for entry in _line(name, models()) for o in entry.overrides]


@functools.cache
def suites() -> dict[str, Suite]:
    """Every suite by name."""
    return read(HERE / "suites.yaml", Suite)


def suite(name: str) -> Suite:
    """One suite, checked to the last override before anything runs. Raises UserError, with the nearest known name."""
    if name not in suites():
        raise UserError(f"unknown suite {name!r}{nearest(name, suites())}")
    found = suites()[name]
    known = read_yaml(PROTOCOLS)["images"]
    for protocol in found.protocols:
        if protocol not in known:
            raise UserError(f"suites.yaml: {name}: unknown protocol {protocol!r}{nearest(protocol, known)}")
        wanted = known[protocol]["images"], known[protocol]["reference"]
        if (found.samples, found.reference) != wanted:
            raise UserError(
                f"suites.yaml: {name}: {protocol} scores {wanted[0]} samples against a reference of {wanted[1]}, not "
                f"{found.samples} against {found.reference}: set samples and reference so, or name another protocol"
            )
    _check(found, found.variants)
    return found


def _check(of: Suite, names: Iterable[str]) -> None:
    """Raises UserError where a variant is unknown or has overrides that the configuration refuses."""
    for name in names:
        overrides = recipe(of, name)
        try:
            parse_overrides(overrides)
        except UserError as e:
            raise UserError(f"suite {of.name}: {name}: {e.message}") from None


def chosen(of: Suite, variants: str, seeds: str) -> Suite:
    """The suite with other variants and seeds, as a person lists them; nothing listed: its own.

    Raises UserError for an unknown variant, one that the suite's model has not got, or what is no list of seeds.
    """
    names = tuple(dict.fromkeys(_listed("variants", variants) or of.variants))
    _check(of, names)
    return replace(of, variants=names, seeds=tuple(_seeds(seeds) or dict.fromkeys(of.seeds)))


def recipe(of: Suite, variant: str) -> list[str]:
    """The ``path=value`` strings that make a variant in a suite."""
    return varied(of.overrides, variant)


def varied(base: Iterable[str], name: str) -> list[str]:
    """The ``path=value`` strings of a variant: those of what it is a variant of, its ancestors', its own, and widths
    where it is to be as large as the eldest of them."""
    line, strings = ancestry(name), list(base)
    for variant in line:
        before = parse_overrides(strings)
        own = [_without(override, before, variant.name) for override in variant.overrides]
        if own and parse_overrides([*strings, *own]) == before:
            raise UserError(_nothing_to_take(variant.name, ", ".join(own)))
        strings += own
    if line[-1].match:
        from ablations.sizes import matched

        strings += matched(strings, [*base, *line[0].overrides])
    return strings


def _without(override: str, config: Config, variant: str) -> str:
    """An override as ``path=value``: ``path=-part`` takes a part out of what ``config`` has there, as self out of
    self+cross.

    Raises UserError where that part is not there, or where an ablation would add what the model has none of.
    """
    path, _, value = override.partition("=")
    if path not in settings(config):
        return override  # parse_overrides says what is wrong with it
    there = settings(config)[path]
    if value.startswith("-") and isinstance(there, str):
        parts = there.split("+")
        if value[1:] not in parts:
            raise UserError(_nothing_to_take(variant, f"{path}={there}"))
        return f"{path}={'+'.join(part for part in parts if part != value[1:]) or 'none'}"
    if there == "none":
        raise UserError(_nothing_to_take(variant, f"{path}={there}"))
    return override


def _nothing_to_take(variant: str, there: str) -> str:
    return f"{variant}: this model has nothing of what that variant takes out ({there}): choose another"


def difference(a: Config, b: Config) -> list[str]:
    """The settings in which two configs differ, as ``path: old -> new``."""
    left = settings(a)
    return [f"{path}: {left[path]} -> {value}" for path, value in settings(b).items() if left[path] != value]


def settings(config: Config) -> dict[str, Any]:
    """Every value by its path."""
    return {f"{section}.{name}": value for section, values in to_dict(config).items() for name, value in values.items()}


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


def _listed(key: str, text: str) -> list[str]:
    """``a, b`` -> [a, b]; nothing for an empty text. Raises UserError for commas alone."""
    parts = [part for part in map(str.strip, text.split(",")) if part]
    if text.strip() and not parts:
        raise UserError(f"{key}={text}: nothing between the commas: name some, or leave it empty for the suite's own")
    return parts


def _seeds(text: str) -> list[int]:
    """``0-3,8,0`` -> [0, 1, 2, 3, 8]; nothing for an empty text. Raises UserError for anything else."""
    seeds: list[int] = []
    for part in _listed("seeds", text):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UserError(f"seeds={text}: write numbers or ranges separated by commas, as 0-7 or 0,3")
        more = range(int(first), int(last if dash else first) + 1)
        if not more:
            raise UserError(f"seeds={text}: no seeds from {first} to {last}: write the smaller number first")
        seeds += more
    return list(dict.fromkeys(seeds))


def _device() -> str:
    """cuda where NVIDIA's driver shows a device; asking torch would cost every start of the workflow seconds."""
    return "cuda" if any(Path("/dev").glob("nvidia[0-9]*")) else "cpu"


def main() -> None:
    from ablations import audit, sizes

    parser = argparse.ArgumentParser(prog="python -m ablations.registry", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every variant, suite and model")
    show = commands.add_parser("show", help="what a variant changes, and its overrides in a suite")
    show.add_argument("suite")
    show.add_argument("variant")
    costs = commands.add_parser("cost", help="time, memory and disk of a suite, before anything starts")
    costs.add_argument("suite")
    costs.add_argument("--device", choices=list(sizes.RATES), default="cpu")
    costs.add_argument("--variants", default="", help="others than the suite's, separated by commas")
    costs.add_argument("--seeds", default="", help="others than the suite's, as 0-7")
    params = commands.add_parser("params", help="parameters of every model of the paper, ours beside the paper's")
    params.add_argument("--out", type=Path, help="write them there instead of printing them")
    memory = commands.add_parser("memory", help="GPU memory that a training step of the paper's models takes, counted")
    memory.add_argument("--out", type=Path, help="write it there instead of printing it")
    words = commands.add_parser("overrides", help="a model's, or its variant's, for python -m gigagan.train")
    words.add_argument("model")
    words.add_argument("variant", nargs="?", default="gigagan")
    args = parser.parse_args()

    printers: dict[str, Callable[[], str]] = {
        "list": _list,
        "show": lambda: _show(args.suite, args.variant),
        "cost": lambda: sizes.cost(args.suite, args.device, args.variants, args.seeds),
        "params": audit.table,
        "memory": audit.memory_table,
        "overrides": lambda: " ".join(varied(model(args.model), args.variant)),
    }
    text = printers[args.command]()
    if getattr(args, "out", None):
        write_text(args.out, text)
    else:
        print(text)


def _list() -> str:
    lines = ["variants"]
    lines += [
        f"  {v.name:30} {' '.join(v.overrides) or ('(matched)' if v.match else '(the full model)')}"
        for v in variants().values()
    ]
    lines += ["suites"] + [f"  {s.name:30} {s.about}" for s in suites().values()]
    lines += ["models of the paper"] + [f"  {m.name:30} {m.label} ({m.source})" for m in models().values()]
    return "\n".join(lines)


def _show(suite_name: str, name: str) -> str:
    of = suite(suite_name)
    strings = recipe(of, name)
    parent = ancestry(name)[-1].parent
    lines = [" ".join(strings)]
    if parent:
        lines += [f"differs from {parent} in:"]
        lines += [f"  {d}" for d in difference(parse_overrides(recipe(of, parent)), parse_overrides(strings))]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(command(main))
