"""A suite made ready for the workflow: what each rule takes."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import typing
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ablations.contents import fingerprint
from ablations.entries import Device, Suite
from ablations.photographs import Photographs
from ablations.pretrained import SEED, PretrainedRuns
from ablations.recipes import (
    PROTOCOLS,
    chosen,
    configured,
    drawable,
    drawer,
    family,
    model,
    models,
    on_gpu,
    on_photographs,
    protocols,
    recipe,
    steps,
    suite,
    trained_with,
    variants,
)
from ablations.rivals import Rivals
from gigagan.config import OWN, parse_overrides, recipe_sha
from gigagan.errors import UserError, nearest
from gigagan.files import read_yaml

ROOT = Path(__file__).parent.parent
SCHEMA = ROOT / "config" / "config.schema.yaml"
OURS = {"judge", "judge_crop", "pyramid", None}  # what scores without a file of others' weights
DEVICES = typing.get_args(Device)
FULL = "gigagan"  # the variant that others are compared with
FILTERS = ("bicubic", "lanczos")  # the rivals of an upsampler that need no training
KEYS = ("shards", "images", "annotations", "weights", "models")  # of the workflow's config: what the user brings
PLACEHOLDER = re.compile(r"\{([\w-]+)\}")
PICTURES = (".jpg", ".jpeg", ".png")
READERS = 8
ENOUGH_KIMG = 1000  # a longer run writes its log and its checkpoints by shares of its budget
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


def dry_run(words: Iterable[str]) -> bool:
    """Whether Snakemake's command line asks for a dry run, which it does not tell while it reads a Snakefile."""
    return any(re.fullmatch(r"--dry-?run|-[A-Za-z]*n[A-Za-z]*", word) for word in words)


class Plan:
    """A suite made ready for the workflow: what each rule takes, from the user's config and the wildcards alone.

    Args:
        config: the workflow's.
        dry: nothing will be run: what the user has not said is no error, but noted for the reader.

    Raises:
        UserError: an unknown suite, variant or device; a folder or a file of weights that is not there.
    """

    def __init__(self, config: dict[str, Any], dry: bool = False) -> None:
        self.dry, self.lacking = dry, list[str]()
        whole = suite(str(config["suite"]))
        self.name = whole.name
        mine = chosen(whole, str(config.get("variants", "")), str(config.get("seeds", "")))
        place = {name: i for i, name in enumerate(whole.runs)}
        self.variants = sorted(mine.runs, key=lambda name: place.get(name, len(place)))
        trained = [*(name for name in whole.variants[:1] if name in self.variants), *mine.trained]
        self.full = trained[0] if trained else ""
        self.seeds = list(mine.seeds)
        self.photographs = on_photographs(whole)
        self.given = {key: str(config.get(key, "")) for key in KEYS}
        self.device = str(config.get("device", "")) or whole.device
        if self.device not in DEVICES:
            raise UserError(f"device={self.device}: no such device{nearest(self.device, DEVICES)}")
        if self.device == "auto":
            self.device = _device()
        self.gpu = int(self.device != "cpu")  # 0, or jobs on the CPU would wait for each other
        whole = on_gpu(whole) if self.gpu else whole
        self.files = self._weights(mine)
        self.pretrained = PretrainedRuns(mine, self._place("models", Path.is_dir) if mine.pretrained else "")
        if self.given["models"] and self.pretrained.lacking:
            self._refuse(f"suite {self.name}: {self.pretrained.lacking}")
        self.suite = replace(
            whole,
            judge=self._fill(whole.judge),
            overrides=tuple(map(self._fill, whole.overrides)),
            own={run: tuple(map(self._fill, strings)) for run, strings in whole.own.items()},
        )
        of_model = model(whole.model) if whole.model else []
        self.base = parse_overrides([*of_model, *self.suite.overrides])
        if self.base.data.name in PHOTOGRAPHS:
            self._there("shards" if self.base.data.name == "shards" else "images", self.base.data.path, Path.is_dir)
        self.gpus = self.gpu and self._gpus(str(config.get("gpus", "")))
        self.images = self._place("images", Path.is_dir) if self.photographs else ""
        annotations = [self._place("annotations", Path.is_file)] if self.photographs else []
        self.annotations = annotations if self.given["annotations"] else []
        self._enough()
        self.rivals = Rivals(self.suite)
        untrained = self.first if self.full else ""
        self.photos = Photographs(self.suite, self.base.data.resolution, untrained, self.seeds, self.images)
        self.inception = [self.files["inception"]] if "inception" in self.files else []
        self.gate = [f"results/{self.name}/gate.json"] if self.suite.gate else []
        self.verdict = [f"results/{self.name}/verdict.txt"] if self.suite.gate else []

    # ------------------------------------------------------------------------------------------- what the user brings

    def _refuse(self, line: str) -> None:
        """Raises UserError, or in a dry run only notes what is lacking."""
        if not self.dry:
            raise UserError(line)
        if line not in self.lacking:
            self.lacking.append(line)
            print(f"dry run without all that a run wants: {line}", file=sys.stderr)

    def _fill(self, text: str) -> str:
        """A text of suites.yaml with the user's folders put in."""
        return PLACEHOLDER.sub(lambda found: self._folder(found[1]), text)

    def _folder(self, key: str) -> str:
        """A folder, or a file, of the user's. Raises UserError where it is not said which."""
        if key not in self.given:
            raise UserError(f"suites.yaml: {self.name}: {{{key}}}: nothing is called so{nearest(key, self.given)}")
        if not self.given[key]:
            what = "FILE" if key == "annotations" else "FOLDER"
            self._refuse(f"suite {self.name} needs {key}: say where it is with --config suite={self.name} {key}={what}")
            return key.upper()
        return str(Path(self.given[key]).expanduser())

    def _enough(self) -> None:
        """Raises UserError where folders hold what cannot be what is meant, before anything is trained on it."""
        data = self.base.data
        if data.name == "shards" and self.given["shards"] and not any(Path(data.path).glob("train-*.tar")):
            self._refuse(f"suite {self.name}: shards={data.path}: has no train-*.tar")
        if not (self.images and self.given["images"]):
            return
        there = sum(Path(name).suffix.lower() in PICTURES for name in os.listdir(self.images))
        for name in self.suite.protocols:
            about = protocols()[name]
            wanted = about["reference"] + (about["images"] if about.get("disjoint") else 0)
            if there < wanted or (there > wanted and not about.get("disjoint")):
                some = "at least " if about.get("disjoint") else ""
                self._refuse(
                    f"suite {self.name}: images={self.images}: has {there:,} pictures, {name} wants {some}{wanted:,} "
                    f"({about['dataset']})"
                )

    def _place(self, key: str, is_there: Callable[[Path], bool]) -> str:
        """The same, which must exist."""
        return self._there(key, self._folder(key), is_there)

    def _there(self, key: str, path: str, is_there: Callable[[Path], bool]) -> str:
        if self.given[key] and not is_there(Path(path)):
            what = "file" if key == "annotations" else "folder"
            raise UserError(f"suite {self.name}: {key}={path}: no such {what}")
        return path

    def _weights(self, of: Suite) -> dict[str, str]:
        """The files of pretrained weights that train or score a suite, by their names; found before any work starts.

        Which of them a protocol is scored with evaluation.weights alone knows. As nothing here may import it, it is
        asked as a user would ask it; by size, as reading gigabytes at every start would take minutes: whoever loads a
        file compares its checksum. Raises UserError for what is not there.
        """
        names = {name for run in (*of.trained, *filter(None, [of.upsampler])) for name in trained_with(of, run)}
        heavy = [name for name in of.protocols if not {protocols()[name][key] for key in ("extractor", "clip")} <= OURS]
        if not names and not heavy:
            return {}
        words = [*sorted(names), "--quick", "--protocols", ",".join(heavy)]
        if self.given["weights"]:
            words += ["--weights", self._place("weights", Path.is_dir)]
        command = [sys.executable, "-m", "evaluation.weights", *words]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines()[-1:] or [f"{' '.join(command)} failed"]
            self._refuse(f"suite {self.name}: {said[0].removeprefix('error: ')}")
            return {}
        return dict(line.split("=", 1) for line in done.stdout.splitlines())

    def _gpus(self, text: str) -> int:
        """How many GPUs train a run. Raises UserError for no number, or one that does not divide the batches."""
        if text and (not text.isdecimal() or not int(text)):
            raise UserError(f"gpus={text}: write how many GPUs of one machine train a run, as 8")
        n = int(text or 1)
        for run in self.trained:
            batch = configured(self.suite, run).train.batch
            if batch % n:
                raise UserError(f"gpus={n}: {run} trains batches of {batch}: take a number that divides them")
        return n

    @property
    def environment(self) -> str:
        """Where commands look for weights first: assignments of a shell."""
        return f"GIGAGAN_WEIGHTS={shlex.quote(self._folder('weights'))}" if self.given["weights"] else ""

    @property
    def inception_option(self) -> list[str]:
        """Inception as words for evaluation.features."""
        return [word for file in self.inception for word in ("--inception", file)]

    # -------------------------------------------------------------------------------------------------------- training

    def recipe(self, wildcards: Any) -> list[str]:
        """Rule train's overrides."""
        return recipe(self.suite, wildcards.variant)

    @property
    def launch(self) -> str:
        """What starts training: python, or one process a GPU."""
        return f"torchrun --standalone --nproc-per-node {self.gpus} -m" if self.gpus > 1 else "python -m"

    def rhythm(self, wildcards: Any) -> list[str]:
        """How often a long run writes its log, its checkpoints and its grid: gigagan.train's own rhythm is made for
        runs of minutes."""
        kimg = configured(self.suite, wildcards.variant).train.kimg
        every = ("--tick", "--checkpoint", "--picture")
        return [word for o in every for word in (o, f"{kimg / ENOUGH_KIMG:g}")] if kimg > ENOUGH_KIMG else []

    def identity(self, wildcards: Any) -> str:
        """What else rule train reruns for: a default or a version of the code that changes what its overrides train."""
        of = family(self.suite, wildcards.variant)
        contents = {"data": self.fingerprint} | ({} if of == OWN else {"family": of})
        return recipe_sha(configured(self.suite, wildcards.variant), contents)

    @property
    def own(self) -> str:
        """A pattern of the runs that gigagan.train trains."""
        return "|".join(sorted({*variants(), *models()} - {*self.rivals.all}))

    @property
    def named(self) -> str:
        """A pattern of all runs."""
        return "|".join([self.own, *self.rivals.all, self.pretrained.names])

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of the names and sizes of the files that are learned from, where there are any: other data, other runs."""
        folder = Path(self.base.data.path)
        if self.base.data.name not in PHOTOGRAPHS:
            return ""
        if self.base.data.name == "coco" and not (folder / "annotations").is_dir():
            folder = folder.parent  # the data set finds its split's images and annotations from there
        return fingerprint(folder)

    @property
    def data(self) -> list[str]:
        """The overrides that say what the data are."""
        return [o for o in self.suite.overrides if o.startswith("data.")]

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
        if not name:
            return []
        file = Path(name.removeprefix("local-dir:")) / "open_clip_model.safetensors"
        return [str(file)] if arch in self.suite.pretrain or file.is_file() else []

    def judge(self, wildcards: Any) -> str:
        """The CLIP that scores."""
        return self.suite.judge

    @property
    def threads(self) -> int:
        return self.base.train.threads

    @property
    def readers(self) -> int:
        """Threads that read photographs while a GPU looks at them; on a CPU the recipe's."""
        return READERS if self.gpu else self.threads

    @property
    def cpus(self) -> int:
        """What training takes: a process for each GPU, each with its loaders."""
        return (self.threads + self.base.data.workers) * max(1, self.gpus)

    @property
    def first(self) -> str:
        """The run whose first snapshot is the suite's untrained generator; where nothing is trained, nobody's."""
        return f"runs/{self.name}/{self.full or 'nothing'}/seed{self.seeds[0]}"

    @property
    def edited(self) -> str:
        """Where, below runs/ and results/, edits of ``first`` go: to the suite's own folder where it is the suite's own
        first run, else into one of its own."""
        own = ((self.full,), self.seeds[0]) == (self.suite.variants[:1], self.suite.seeds[0])
        return self.name if own else self.first.removeprefix("runs/")

    def edited_weights(self, wildcards: Any) -> str:
        """The weights that are edited. Raises UserError where there are none; called only where edits are asked for."""
        if not self.full:
            raise UserError(f"suite {self.name}: edits are of generators that are trained here: name another suite")
        if self.photographs:
            raise UserError(
                f"suite {self.name}: its prompts lie with its protocols: draw edits with python -m gigagan.edit --run "
                f"{self.first}, or name another suite"
            )
        if self.enlarges:
            raise UserError(
                f"suite {self.name}: edits are of generators, and its models are upsamplers: name another suite"
            )
        return f"{self.first}/weights.safetensors"

    def of_runs(self, name: str, seeds: list[int] | None = None) -> list[str]:
        """A file of every run; what is not trained here has one seed."""
        alone = {run: [SEED] for run in self.suite.pretrained}
        return [
            f"runs/{self.name}/{variant}/seed{seed}/{name}".rstrip("/")
            for variant in self.variants
            for seed in alone.get(variant, seeds or self.seeds)
        ]

    @property
    def trained(self) -> list[str]:
        """The runs that are trained here."""
        return [name for name in self.variants if name not in self.suite.pretrained]

    def drawn_by(self, wildcards: Any) -> str:
        """What a run's samples are drawn with."""
        return f"runs/{self.name}/{wildcards.variant}/seed{wildcards.seed}/{drawable(self.suite, wildcards.variant)}"

    @property
    def all_drawn_by(self) -> list[str]:
        """The same of every run."""
        return [f"{run}/{drawable(self.suite, run.split('/')[2])}" for run in self.of_runs("")]

    @property
    def enlarges(self) -> bool:
        """Whether the suite's models are upsamplers."""
        return self.base.upsampler.input > 0

    def draw(self, wildcards: Any) -> str:
        """The module, and the option for its input, that makes a run's samples."""
        if self.enlarges:
            return "gigagan.upsample"
        return f"{drawer(self.suite, getattr(wildcards, 'variant', ''))} --prompts"  # nobody's where it is untrained

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
    def rows(self) -> list[str]:
        """The rows of all scores."""
        if self.photographs:
            return self.photos.rows([run.removeprefix(f"runs/{self.name}/") for run in self.of_runs("")])
        untrained = [f"runs/{self.name}/untrained/metrics.jsonl"] if self.full else []
        return [f"runs/{self.name}/real.jsonl", *untrained, *self.filtered, *self.of_runs("metrics.jsonl")]

    @property
    def figures(self) -> list[str]:
        """The figures that there is something to draw from; those that compare runs want two of them."""
        curves = ["training_curves"] if self.trained else []
        own = [] if self.photographs else ["grid", *curves, "fd_vs_clip"]
        # Pretrained models draw larger pictures than those that are scored, beside which no latency may stand.
        several = ["quality_vs_latency"] if len(self.trained) > 1 else []
        taken = {steps(configured(self.suite, run)) for run in self.trained}
        several += ["quality_vs_steps"] if len(taken) > 1 else []
        return ["bars", *own, *several, *(["leave_one_out"] if several and FULL in self.variants else [])]

    @property
    def pictured(self) -> list[str]:
        """What figures are drawn from besides rows; what starts from another run has no learning curve of its own."""
        if self.photographs:
            return []
        learn = [name for name in self.trained if self.rivals.has_curve(name)]
        curves = [f"runs/{self.name}/{name}/seed{seed}/progress.jsonl" for name in learn for seed in self.seeds]
        return [f"runs/{self.name}/real.zip", *curves, *self.of_runs("samples.zip")]

    @property
    def upsampler(self) -> list[str]:
        """The run that enlarges every other's samples, where there is one."""
        return [f"runs/{self.name}/{self.suite.upsampler}/seed0"] if self.suite.upsampler else []

    @property
    def upsampler_weights(self) -> list[str]:
        return [f"{run}/weights.safetensors" for run in self.upsampler]

    @property
    def chained(self) -> list[str]:
        """The same as words for evaluation.speed."""
        return [word for run in self.upsampler for word in ("--upsampler", run)]

    @property
    def timed(self) -> str:
        """For whoever reads a dry run: whose speed is measured."""
        behind = f", alone and with {self.suite.upsampler} behind" if self.upsampler else ""
        return f"latency and throughput of {', '.join(self.variants)}{behind}"

    @property
    def scoring_weights(self) -> list[str]:
        """The files of weights that score, as far as the workflow knows them."""
        return [*self.files.values(), *self.clips("judge")]

    @property
    def scoring(self) -> str:
        """A digest of the code that scores."""
        modules = ("rows", "runs", "records", "declared", "metrics", "protocols", "feature_file")
        return code(*(f"evaluation.{module}" for module in modules))

    @property
    def timing(self) -> str:
        """A digest of the code that measures speed, and of what is timed."""
        modules = ("speed", "timed", "timing", "execution")
        return code(*(f"evaluation.{module}" for module in modules), "gigagan.networks") + self.drawing

    @property
    def drawing(self) -> str:
        """A digest of the code that draws samples."""
        own = "drawing sample upsample sampling inference prepared latents degenerate pixels"
        return code(*(f"gigagan.{module}" for module in own.split()), "evaluation.samplers", "evaluation.rivals")

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
