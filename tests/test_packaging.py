"""What a stranger's first `make` rests on: the lock, the Makefile, the check, the profiles and the config."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import gigagan

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PROFILES = sorted((ROOT / "profiles").glob("*/profile.yaml"))


# The lock ------------------------------------------------------------------------------------------------------------

LOCK_LINE = re.compile(
    r"""(?P<name>[a-z0-9]+(?:-[a-z0-9]+)*)==(?P<version>[0-9][0-9a-z.]*)(?P<marker>\ ;\ [^:/@]+)?\ \\
    |\ {4}--hash=(?P<hash>sha256:[0-9a-f]{64})(?:\ \\)?
    |\ *\#[^:/@]*:?""",
    re.VERBOSE,
)


@pytest.fixture(scope="module")
def locked() -> dict[str, Version]:
    """Every line is a pinned package, one of its hashes or a comment: no index, host or path has a place in it."""
    versions: dict[str, Version] = {}
    hashes: dict[str, int] = {}
    name = ""
    for number, line in enumerate((ROOT / "requirements.lock").read_text().splitlines(), 1):
        match = LOCK_LINE.fullmatch(line)
        assert match, f"requirements.lock:{number}: {line}"
        if match["name"]:
            name = match["name"]
            assert name not in versions, f"{name} is locked twice: numbers would depend on Python's version"
            versions[name] = Version(match["version"])
        if match["hash"]:
            hashes[name] = hashes.get(name, 0) + 1
    assert versions.keys() == hashes.keys()
    return versions


def requirements() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"].values()
    return [Requirement(line) for group in (PROJECT["dependencies"], *extras) for line in group]


@pytest.mark.parametrize("requirement", requirements(), ids=lambda r: r.name)
def test_every_dependency_is_locked_within_its_bounds(requirement: Requirement, locked: dict[str, Version]) -> None:
    assert locked[canonicalize_name(requirement.name)] in requirement.specifier


def test_locked_packages_satisfy_each_other_as_installed(locked: dict[str, Version]) -> None:
    """In particular torch and torchvision, which are a pair."""
    environment = default_environment() | {"extra": ""}
    for name in ("torch", "torchvision", "open-clip-torch", "clean-fid", "torchmetrics", "lpips", "snakemake", "timm"):
        if Version(importlib.metadata.version(name)).public != str(locked[name]):
            pytest.fail(f"{name} is not the locked {locked[name]}: make setup")
        for line in importlib.metadata.requires(name) or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate(environment):
                assert locked[canonicalize_name(needed.name)] in needed.specifier, f"{name} needs {line}"


# The Makefile --------------------------------------------------------------------------------------------------------

# A python that can be asked what the Makefile asks, and logs it. `broken` makes its pip stop half-way.
FAKE_PYTHON = """#!/bin/sh
echo "$*" >> "{log}"
case "$*" in
  *_base_executable*) echo "{base}" ;;
  *ensurepip*) exit {ensurepip} ;;
  "-m venv --clear "*) rm -rf "$4" && mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
  *requirements.lock) test ! -e broken ;;
esac
"""


class Checkout:
    """A folder with the Makefile and a fake Python, in which ``make`` can be tried without installing anything."""

    def __init__(self, folder: Path, *, base: str | None = None, ensurepip: int = 0) -> None:
        self.folder, self.log, self.python = folder, folder / "log", folder / "bin" / "python3.12"
        for name in ("Makefile", "requirements.lock", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        self.python.parent.mkdir()
        base = str(self.python) if base is None else base
        self.python.write_text(FAKE_PYTHON.format(log=self.log, base=base, ensurepip=ensurepip))
        self.python.chmod(0o755)

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["make", f"PYTHON=no-such-python {self.python}", *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True)

    def calls(self) -> list[str]:
        """What the fake Python was asked since the last time: ``venv``, ``pip`` (the lock) or ``project``."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        kinds = {"-m venv": "venv", "-r requirements.lock": "pip", "--editable .": "project"}
        return [kind for line in lines for sign, kind in kinds.items() if sign in line]


def test_setup_is_done_once(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    assert checkout.make("setup").returncode == 0
    assert checkout.calls() == ["venv", "pip", "project"]
    assert checkout.make("setup").returncode == 0
    assert checkout.calls() == []


def make_newer(path: Path) -> None:
    later = time.time() + 10
    os.utime(path, (later, later))


def test_a_changed_pyproject_installs_the_project_alone(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    checkout.make("setup")
    checkout.calls()
    make_newer(tmp_path / "pyproject.toml")
    assert checkout.make("setup").returncode == 0
    assert checkout.calls() == ["project"]


def test_a_half_finished_setup_is_made_anew(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    (tmp_path / "broken").touch()
    assert checkout.make("setup").returncode != 0
    assert checkout.calls() == ["venv", "pip"]
    (tmp_path / "broken").unlink()
    assert checkout.make("setup").returncode == 0
    assert checkout.calls() == ["venv", "pip", "project"]


def test_a_new_lock_is_installed_in_place_and_after_a_failure_anew(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    checkout.make("setup")
    checkout.calls()
    make_newer(tmp_path / "requirements.lock")
    (tmp_path / "broken").touch()
    assert checkout.make("setup").returncode != 0
    assert checkout.calls() == ["pip"]
    (tmp_path / "broken").unlink()
    assert checkout.make("setup").returncode == 0
    assert checkout.calls() == ["venv", "pip", "project"]


def test_an_environment_whose_python_has_gone_is_made_anew(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    checkout.make("setup")
    (tmp_path / ".venv" / "bin" / "python").unlink()
    checkout.calls()
    assert checkout.make("setup").returncode == 0
    assert checkout.calls() == ["venv", "pip", "project"]


@pytest.mark.parametrize(
    ("fake", "message"),
    [
        pytest.param({"base": ""}, "no Python 3.11 to 3.13", id="only-another-version"),
        pytest.param({"ensurepip": 1}, "lacks venv", id="no-venv"),
    ],
)
def test_no_suitable_python_is_one_clear_line(fake: dict[str, object], message: str, tmp_path: Path) -> None:
    result = Checkout(tmp_path, **fake).make("setup")
    said = [line for line in result.stderr.splitlines() if not line.startswith("make")]
    assert result.returncode != 0
    assert len(said) == 1
    assert said[0].startswith("error: ")
    assert message in said[0]
    assert not (tmp_path / ".venv").exists()


def test_the_main_job_is_the_first_target_and_all_targets_exist() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets[0] == "run"
    assert {"setup", "test", "lint", "smoke", "format", "lock", "clean"} <= set(targets)


# The check -----------------------------------------------------------------------------------------------------------


def test_the_check_is_an_executable_bash_script_whose_stages_are_make_targets() -> None:
    check = ROOT / ".ci" / "run"
    assert os.access(check, os.X_OK)
    assert subprocess.run(["bash", "-n", check]).returncode == 0
    stages = re.findall(r"^stage (\w+)$", check.read_text(), re.MULTILINE)
    assert stages == ["setup", "lint", "test", "smoke"]


def test_the_check_stops_at_the_first_failure_from_any_folder(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci")
    (tmp_path / "Makefile").write_text("setup:\n\t@echo $$CI\nlint:\n\t@false\ntest:\n\t@echo never\n")
    # Under `make test` a make inside is one level down, and would announce the folders that it enters and leaves.
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    result = subprocess.run([tmp_path / ".ci" / "run"], cwd="/", env=env, capture_output=True, text=True)
    assert result.returncode == 1
    assert "true\n== setup passed" in result.stdout
    assert "== lint failed" in result.stderr
    assert "never" not in result.stdout


# The package ---------------------------------------------------------------------------------------------------------


def test_one_version_everywhere() -> None:
    assert PROJECT["dynamic"] == ["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == gigagan.__version__


def test_python_is_one_that_the_project_runs_on() -> None:
    assert PROJECT["requires-python"] == ">=3.11,<3.14"
    assert (3, 11) <= sys.version_info < (3, 14)


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("runs/demo/gigagan/seed0/weights.safetensors", True),
        ("results/demo/report.html", True),
        (".venv/bin/python", True),
        ("results/README.md", False),
        ("results/records/demo.jsonl", False),
        ("results/gallery/demo.png", False),
        ("gigagan/weights/scenes-conditioner/open_clip_model.safetensors", False),
    ],
)
def test_git_keeps_records_and_ignores_what_commands_make(path: str, ignored: bool, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    assert (subprocess.run(["git", "check-ignore", "-q", path], cwd=tmp_path).returncode == 0) == ignored


# The workflow's profiles and config ----------------------------------------------------------------------------------


def test_the_default_profile_is_found_next_to_the_snakefile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from snakemake.cli import parse_args

    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    (tmp_path / "Snakefile").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    _, arguments = parse_args([])
    assert arguments.cores >= 1
    assert arguments.resources == {"gpu": 1}
    assert arguments.rerun_incomplete
    assert arguments.keep_going
    assert arguments.show_failed_logs


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.parent.name)
def test_profiles_hold_only_options_that_snakemake_knows(profile: Path) -> None:
    from snakemake.cli import get_argument_parser

    known = {name.removeprefix("--") for action in get_argument_parser()._actions for name in action.option_strings}
    options = yaml.safe_load(profile.read_text())
    plugin = options.get("executor", "local")
    assert [key for key in options if key not in known and not key.startswith(f"{plugin}-")] == []


def test_there_is_a_profile_for_one_machine_and_for_each_kind_of_cluster() -> None:
    assert [path.parent.name for path in PROFILES] == ["default", "kubernetes", "slurm"]


def test_config_is_valid_and_a_misspelt_key_is_refused() -> None:
    from jsonschema import Draft202012Validator, ValidationError

    schema = yaml.safe_load((ROOT / "config" / "config.schema.yaml").read_text())
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    validator.validate(config)
    defaults = {key: value["default"] for key, value in schema["properties"].items()}
    assert config == defaults, "config.yaml shows every key with its default"
    for wrong in ({"siute": "demo"}, {"suite": ""}, {"shards": 1}):
        with pytest.raises(ValidationError):
            validator.validate(wrong)
