"""The workflow as a user runs it: on a copy of the project, with a suite of seconds."""

import json
import re
import shutil
from pathlib import Path

import pytest

from evaluation import published
from tests.projects import ROOT, copy_project, counts, snakemake

SUITE = """
tiny:
  about: two variants for two steps
  variants: [gigagan, no_attention]
  seeds: [0]
  protocols: [tiny@1]
  judge: evaluation/weights/scenes-judge
  samples: 40
  reference: 60
  snapshots: 1
  overrides: [*model, *scenes16, train.kimg=0.032]

tiny_upsampler:
  about: two steps of an upsampler
  variants: [gigagan]
  seeds: [0]
  protocols: [tiny-upsampled@1]
  judge: evaluation/weights/scenes-judge
  samples: 40
  reference: 60
  snapshots: 1
  overrides: [*model, *scenes16, *upsampler, upsampler.input=8, train.kimg=0.032]
"""
PROTOCOL = """
  tiny@1:
    <<: *scenes
    title: Scenes, too few
    images: 40
    reference: 60

  tiny-upsampled@1:
    <<: *scenes
    title: Enlarged scenes, too few
    images: 40
    reference: 60
    metrics: [fd, judge_distance, psnr, clip_score]
"""


def jobs(folder: Path, *words: str) -> dict[str, int]:
    """Rule -> number of jobs that a dry run of the suite ``tiny`` announces."""
    return counts(snakemake(folder, "--dry-run", "--config", "suite=tiny", *words))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of what git tracks, with the suite ``tiny``, run to its end."""
    folder = tmp_path_factory.mktemp("project")
    copy_project(folder)
    with (folder / "ablations/suites.yaml").open("a") as f:
        f.write(SUITE)
    edit(folder / "evaluation/protocols.yaml", "\n  scenes-blind@1:", f"{PROTOCOL}\n  scenes-blind@1:")
    done = snakemake(folder, "--cores", "2", "--config", "suite=tiny")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("suite", ["smoke", "demo", "demo_long", "upsample"])
def test_every_suite_of_drawn_scenes_plans(suite):
    done = snakemake(ROOT, "--dry-run", "--forceall", "--quiet", "all", "--config", f"suite={suite}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_photos_plan_with_their_clips(tmp_path):
    done = snakemake(ROOT, "--dry-run", "--forceall", "--config", "suite=photos", f"shards={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^clip +2$", done.stdout + done.stderr, re.M)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["suite=dmeo"], "unknown suite 'dmeo' (did you mean 'demo'?)"),
        (["suite=demo", "device=cude"], "device=cude: no such device (did you mean 'cuda'?)"),
        (["suite=demo", "variants=no_atention"], "unknown variant 'no_atention' (did you mean 'no_attention'?)"),
        (["siute=demo"], "no key 'siute' (did you mean 'suite'?)"),
        (["suite=demo", "seeds=7-0"], "seeds=7-0: no seeds from 7 to 0"),
        (["suite=photos", "shards=no/such/folder"], "no/such/folder: no such folder"),
    ],
)
def test_a_mistake_is_one_line_before_any_work(words, said):
    done = snakemake(ROOT, "--dry-run", "--config", *words)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert len((done.stdout + done.stderr).splitlines()) <= 4  # and what Snakemake says first


def test_a_run_without_its_data_is_one_line_before_any_work():
    done = snakemake(ROOT, "--config", "suite=photos")
    assert done.returncode != 0
    assert "needs shards: say where it is with --config suite=photos shards=FOLDER" in done.stdout + done.stderr
    assert len((done.stdout + done.stderr).splitlines()) <= 4


def test_edits_of_upsamplers_are_refused_in_one_line():
    done = snakemake(ROOT, "--dry-run", "edits", "--config", "suite=upsample")
    assert done.returncode != 0
    said = "error: suite upsample: edits are of generators, and its models are upsamplers: name another suite"
    assert done.stderr.splitlines()[-1] == said
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        (["variants=no_attention,gigagan"], "smoke"),
        (["variants=no_attention"], "smoke/no_attention/seed0"),
        (["seeds=3,0"], "smoke/gigagan/seed3"),
    ],
)
def test_edits_of_another_run_than_the_suite_s_first_stand_apart(words, folder):
    done = snakemake(ROOT, "--dry-run", "edits", "--config", "suite=smoke", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert f"output: results/{folder}/edits/truncation.png, " in said
    assert f"output: runs/{folder}/truncation.jsonl, results/{folder}/edits/truncation_curve.png" in said


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("variants", "mine:\n", "variants.yaml: mine: must have fields"),
        ("variants", "gigagan: {label: x, overrides: []}\n", "'gigagan' stands twice"),
        ("suites", "mine: {seeds: 3}\n", "suites.yaml: mine: seeds: must be a list of whole numbers, not 3"),
        ("suites", "mine: [\n", "suites.yaml: not valid YAML"),
    ],
)
def test_a_malformed_entry_is_one_line_before_any_work(tmp_path, name, text, said):
    for part in ("Snakefile", "ablations", "config", "evaluation", "gigagan", "profiles"):
        (shutil.copytree if (ROOT / part).is_dir() else shutil.copy2)(ROOT / part, tmp_path / part)
    with (tmp_path / f"ablations/{name}.yaml").open("a") as f:
        f.write(text)
    done = snakemake(tmp_path, "--dry-run", "--config", "suite=demo")
    assert done.returncode != 0
    assert said in done.stdout + done.stderr
    assert len((done.stdout + done.stderr).splitlines()) <= 4


def test_the_papers_tables_come_from_committed_rows_alone():
    names = published.printable()
    done = snakemake(ROOT, *names, "--dry-run", "--forceall")
    table = re.search(r"^job +count\n-+ +-+\n(.*?)\n\n", done.stdout + done.stderr, re.M | re.S)
    assert table is not None, done.stdout + done.stderr
    planned = dict(re.findall(r"^(\S+) +(\d+)$", table[1], re.M))
    assert planned == {"paper_table": "6", "total": "12"} | dict.fromkeys(names, "1")


@pytest.mark.parametrize("target", ["ladder", "quality_vs_latency", "quality_vs_steps"])
def test_the_papers_figures_come_from_committed_rows_alone(target):
    done = snakemake(ROOT, target, "--dry-run", "--forceall")
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert f"output: results/paper/figures/{target}.png, results/paper/figures/{target}.svg" in said
    assert re.search(r"^total +2$", said, re.M)


def test_the_page_is_one_command_that_declares_nothing_that_is_committed():
    done = snakemake(ROOT, "page", "--dry-run", "--printshellcmds")
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert "python -m evaluation.readme" in said
    assert "output: " not in said


def test_lint_is_clean():
    done = snakemake(ROOT, "--lint")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_run_makes_tables_pictures_and_report(project):
    for name in ("tables/ablation.md", "tables/ablation.tex", "figures/grid.png", "figures/bars.svg", "report.html"):
        assert (project / "results/tiny" / name).stat().st_size > 500
    table = (project / "results/tiny/tables/ablation.md").read_text()
    assert all(label in table for label in ("GigaGAN", "no attention", "Real images", "Untrained"))


def test_a_second_run_does_nothing(project):
    assert jobs(project) == {}


def test_what_a_killed_snakemake_left_locks_nothing(project):
    """As after SIGKILL: its lock lists the files that it was to make."""
    locks = project / ".snakemake/locks"
    locks.mkdir(exist_ok=True)
    (locks / "0.output.lock").write_text("results/tiny/report.html\n")
    (project / "results/tiny/report.html").unlink()
    done = snakemake(project, "--cores", "1", "--config", "suite=tiny")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project / "results/tiny/report.html").exists()


def test_editing_a_metric_scores_again_without_training(project):
    path = project / "evaluation/metrics/frechet.py"
    text = path.read_text()
    try:
        path.write_text(text + "\n# another line\n")
        found = jobs(project)
    finally:
        path.write_text(text)
    assert found["score"] == 2
    assert not {"train", "sample", "features"} & found.keys()


def test_editing_a_variant_reruns_it_alone(project):
    path = project / "ablations/variants.yaml"
    text = path.read_text()
    try:
        edit(path, "overrides: [attention.kinds=none]", "overrides: [attention.kinds=mlp]")
        found = jobs(project)
        run = "runs/tiny/no_attention/seed0"
        done = snakemake(project, f"{run}/run.json", "--cores", "2", "--config", "suite=tiny")
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    finally:
        path.write_text(text)
    assert found["train"] == found["sample"] == found["score"] == 1
    assert '"kinds": "mlp"' in (project / run / "config.json").read_text()


@pytest.mark.parametrize("passed", [True, False])
def test_a_regression_fails_the_workflow(project, passed):
    gate = project / "results/tiny/gate.json"
    gate.write_text(json.dumps({"passed": passed, "verdict": "what was found"}))
    words = ["results/tiny/verdict.txt", "--cores", "1", "--force", "--allowed-rules", "verdict"]
    done = snakemake(project, *words, "--config", "suite=tiny")
    assert (done.returncode == 0) == passed
    assert "what was found" in done.stdout + done.stderr


def test_upsamplers_stand_beside_filters_in_tables_and_pictures(project):
    """Run alone: a suite of another kind leaves the other suite's results as they are."""
    done = snakemake(project, "--cores", "2", "--config", "suite=tiny_upsampler")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    results = project / "results/tiny_upsampler"
    rows = [json.loads(line) for line in (results / "metrics.jsonl").read_text().splitlines()]
    assert {row["variant"] for row in rows} == {"real", "untrained", "bicubic", "lanczos", "gigagan"}
    distances = {row["variant"]: row["value"] for row in rows if row["metric"] == "judge_distance"}
    assert distances.keys() == {"untrained", "bicubic", "lanczos", "gigagan"}  # the truth has none to itself
    assert 0 < distances["lanczos"] < distances["untrained"]
    table = (results / "tables/ablation.md").read_text()
    assert "Lanczos" in table
    assert (results / "figures/grid.png").stat().st_size > 1000


def test_edits_are_a_target_of_their_own(project):
    assert not (project / "results/tiny/edits").exists()  # nothing that `all` makes
    done = snakemake(project, "--cores", "2", "edits", "--config", "suite=tiny")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    made = {path.name for path in (project / "results/tiny/edits").iterdir()}
    kinds = {
        "truncation",
        "truncation_overall",
        "truncation_curve",
        "interpolate",
        "prompts",
        "styles",
        "mix",
        "arithmetic",
    }
    assert made == {f"{kind}.{suffix}" for kind in kinds for suffix in ("png", "svg")}
