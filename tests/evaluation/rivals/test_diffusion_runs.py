"""Runs of diffusion models: each from another's folder, resumed exactly, refused where it does not fit, and sampled."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from evaluation.rivals import families, train
from evaluation.rivals.config import parse_overrides
from evaluation.rivals.diffusion import consistency
from evaluation.rivals.diffusion.captions import conditioning
from evaluation.rivals.diffusion.network import first_weights
from evaluation.rivals.diffusion.phases import Diffusion
from evaluation.rivals.diffusion.sampler import DiffusionSampler
from gigagan.clip import Clips
from gigagan.errors import UserError
from tests.evaluation.rivals.tiny_diffusion import CAPTIONS, CPU, SIDE, TINY, config, denoiser

STUDENT = ["diffusion.objective=guidance"]
HALVED = ["diffusion.objective=halving", "sampling.steps=2"]
CONSISTENT = ["diffusion.objective=consistency", "distillation.solver_steps=8", "sampling.steps=2"]
NONE = ["diffusion.objective=none", "train.kimg=0"]


@pytest.fixture(scope="module")
def run(clip_folder) -> Callable[..., Path]:
    """``run(folder, start, *overrides)``: trains, as the command does; returns the folder."""

    def trained(folder: Path, start: Path | None, *overrides: str) -> Path:
        typed = [
            "--family",
            "diffusion",
            "--out",
            str(folder),
            "--device",
            "cpu",
            "--picture",
            "0",
            "--checkpoint",
            "1",
        ]
        typed += ["--start", str(start)] if start else []
        with pytest.MonkeyPatch.context() as patch:
            given = ["train.batch=4", "train.kimg=0.016", f"text.clip=local-dir:{clip_folder}", *overrides]
            patch.setattr("sys.argv", ["train", *typed, *TINY, *given])
            train.main()
        return folder

    return trained


@pytest.fixture(scope="module")
def chain(run, tmp_path_factory) -> dict[str, Path]:
    """A teacher and what is made of it, by objective; "halved" is of one step, of "halving"'s two."""
    folder = tmp_path_factory.mktemp("chain")
    teacher = run(folder / "data", None)
    student = run(folder / "guidance", teacher, *STUDENT)
    two = run(folder / "halving", student, *HALVED)
    one = run(folder / "halved", two, "diffusion.objective=halving", "sampling.steps=1")
    consistent = run(folder / "consistency", teacher, *CONSISTENT)
    return {"data": teacher, "guidance": student, "halving": two, "halved": one, "consistency": consistent}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "weights.safetensors")


def differ(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    assert a.keys() == b.keys()
    return any(not value.equal(b[name]) for name, value in a.items())


def about(folder: Path, file: str = "run.json") -> dict:
    return json.loads((folder / file).read_text())


def test_every_student_is_trained_from_its_start_and_adds_to_what_that_took(chain):
    for student, start in (
        ("guidance", "data"),
        ("halving", "guidance"),
        ("halved", "halving"),
        ("consistency", "data"),
    ):
        assert differ(weights(chain[student]), weights(chain[start]))
        ours, theirs = about(chain[student]), about(chain[start])
        assert ours["kimg"] == pytest.approx(theirs["kimg"] + 0.016)
        assert ours["train_tflop"] >= theirs["train_tflop"]
        assert ours["params_m"] == theirs["params_m"]
        # Who made a student's targets has trained it; the chain is in the recipe.
        assert len(about(chain[student], "config.json")["trained_by"]) == 2


def test_a_first_stage_without_training_is_its_teacher(chain, clip):
    """Whatever the strength of guidance: its input is heard nowhere yet."""
    overrides = [*TINY, *STUDENT, "train.batch=4"]
    model = Diffusion(parse_overrides("diffusion", overrides), Clips(clip, None, None), 7, CPU, chain["data"])
    assert not differ(model.generator.state_dict(), weights(chain["data"]))
    z, t, text = torch.randn(2, 3, SIDE, SIDE), torch.tensor([1.0, 0.5]), conditioning(clip, CPU)(CAPTIONS[:2])
    said = [model.generator(z, t, text, g) for g in (None, torch.tensor([1.0, 4.0]))]
    assert said[0].equal(said[1])


@pytest.mark.parametrize("start", ["data", "halving", "consistency"])
def test_objective_none_draws_as_its_start_does_and_with_other_steps_otherwise(chain, run, tmp_path, start):
    of = families.load(chain[start], "cpu")
    method = [f"sampling.method={of.config.method}"]
    same = run(tmp_path / "same", chain[start], *NONE, *method, f"sampling.steps={of.config.sampling.steps}")
    other = run(tmp_path / "other", chain[start], *NONE, *method, "sampling.steps=8")
    pictures = [families.load(folder, "cpu")(CAPTIONS, [0, 1, 2, 3]) for folder in (same, other)]
    assert not differ(weights(same), weights(chain[start]))
    assert (pictures[0] == of(CAPTIONS, [0, 1, 2, 3])).all()
    assert (pictures[1] != pictures[0]).any()
    spent = ("kimg", "seconds", "train_tflop")
    assert [about(same)[name] for name in spent] == [about(chain[start])[name] for name in spent]


@pytest.mark.parametrize("objective", ["data", "halving", "consistency"])
def test_a_run_that_goes_on_equals_one_that_was_not_interrupted(chain, run, tmp_path, objective):
    start = {"data": None, "halving": chain["guidance"], "consistency": chain["data"]}[objective]
    overrides = {"data": ["diffusion.dropout=0.5"], "halving": HALVED, "consistency": CONSISTENT}[objective]
    run(tmp_path / "halves", start, *overrides, "train.kimg=0.012")
    halves = run(tmp_path / "halves", start, *overrides, "train.kimg=0.024")
    whole = run(tmp_path / "whole", start, *overrides, "train.kimg=0.024")
    assert differ(weights(whole), weights(start)) if start else True
    for name in ("weights.safetensors", "checkpoints/000000000024.safetensors"):
        assert not differ(load_file(halves / name), load_file(whole / name))


def test_first_weights_follow_from_the_seed(clip):
    before = torch.random.get_rng_state()
    first = [first_weights(config(), clip, seed).state_dict() for seed in (0, 0, 1)]
    assert torch.random.get_rng_state().equal(before)
    assert not differ(first[0], first[1])
    assert differ(first[0], first[2])


WRONG_STARTS = {
    "none at all": (None, STUDENT, r"guidance: starts from a run of objective data: give its folder with --start"),
    "one too many": ("data", [], r"diffusion\.objective=data starts from nothing"),
    "no folder": ("missing", STUDENT, r"missing: no run folder \(it has no config\.json\)"),
    "of a student": ("guidance", CONSISTENT, r"diffusion\.objective=guidance: consistency starts from one of data"),
    "of the teacher": ("data", HALVED, r"diffusion\.objective=data: halving starts from one of guidance or halving"),
    "of other steps": ("halving", HALVED, r"sampling\.steps=2: .*halving has 2, and is to have twice as many"),
    "of another size": ("data", [*STUDENT, "unet.channels=4,4"], r"unet\.channels=4,4: .* has 4,8: give the same"),
    "of other pixels": ("data", [*STUDENT, "data.resolution=16"], r"data\.resolution=16: .* has 8: give the same"),
    "of other guidance": ("guidance", [*HALVED, "distillation.guidance_max=5"], r"guidance_max=5\.0: .* has 2\.5"),
    "of other boundaries": (
        "consistency",
        [*NONE, "sampling.method=consistency", "distillation.sigma_data=1"],
        r"distillation\.sigma_data=1\.0: .* has 0\.5: give the same",
    ),
    "drawn otherwise": (
        "data",
        [*NONE, "sampling.method=distilled"],
        r"sampling\.method=distilled: what .* trained draws by guided",
    ),
}


@pytest.mark.parametrize("wrong", WRONG_STARTS)
def test_what_cannot_be_started_from_is_refused_in_one_line(chain, run, tmp_path, wrong):
    start, overrides, message = WRONG_STARTS[wrong]
    folder = chain.get(start, tmp_path / "missing") if start else None
    with pytest.raises(UserError, match=message) as error:
        run(tmp_path / "run", folder, *overrides)
    assert "\n" not in error.value.message
    assert not (tmp_path / "run" / "config.json").exists()


def copied(folder: Path, to: Path, **changes: object) -> Path:
    """A run's folder with other values in its config.json."""
    to.mkdir()
    for name in ("run.json", "weights.safetensors"):
        (to / name).write_bytes((folder / name).read_bytes())
    (to / "config.json").write_text(json.dumps({**about(folder, "config.json"), **changes}))
    return to


def test_a_start_of_another_family_or_clip_or_an_unfinished_one_is_refused_in_one_line(chain, run, tmp_path):
    other = copied(chain["data"], tmp_path / "other", family="gigagan", config={})
    with pytest.raises(UserError, match=r"other: a run of family gigagan: a diffusion model starts from one of its"):
        run(tmp_path / "run", other, *STUDENT)
    foreign = copied(chain["data"], tmp_path / "foreign", clip_sha="0" * 64)
    with pytest.raises(UserError, match=r"foreign: trained with another CLIP than text\.clip=local-dir:"):
        run(tmp_path / "run", foreign, *STUDENT)
    unfinished = copied(chain["data"], tmp_path / "unfinished")
    (unfinished / "run.json").unlink()
    with pytest.raises(UserError, match=r"unfinished/run\.json: missing or damaged .* train that run to its end first"):
        run(tmp_path / "run", unfinished, *STUDENT)
    (unfinished / "weights.safetensors").unlink()
    with pytest.raises(UserError, match=r"no weights\.safetensors there; train this run to its end first"):
        run(tmp_path / "run", unfinished, *STUDENT)
    diverged = copied(chain["data"], tmp_path / "diverged")
    broken = weights(chain["data"])
    broken["unet.conv_in.bias"][0] = float("nan")
    save_file(broken, diverged / "weights.safetensors")
    with pytest.raises(UserError, match=r"unet\.conv_in\.bias holds NaN"):
        run(tmp_path / "run", diverged, *STUDENT)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sampling.steps=3"], r"sampling\.steps=3: must divide diffusion\.train_steps=1024"),
        ([*HALVED, "sampling.steps=1024"], r"sampling\.steps=1024: twice as many, the teacher's, must divide"),
        (["unet.channels=30,48"], r"unet\.channels=30: no multiple of unet\.groups=8"),
        (["unet.attention=4"], r"unet\.attention=4: no level of that side \(there are: 16, 8\)"),
        (["unet.channels=8,8,8,8,8"], r"5 levels are too many at 16 px"),
        (["unet.guidance_width=31"], r"guidance_width=31: .*must be even"),
        (["data.resolution=24"], r"data\.resolution=24: must be a power of two"),
        (["diffusion.dropout=1.5"], r"diffusion\.dropout=1\.5: must be at least 0 and at most 1"),
        (["distillation.guidance_min=5"], r"guidance_min: is above distillation\.guidance_max"),
        (
            [*STUDENT, "sampling.guidance=7"],
            r"sampling\.guidance=7: the student is trained for .*=1.5 to",
        ),
        (["diffusion.objective=none", "train.kimg=0"], r"objective=none: say how .* sampling\.method=guided"),
        (
            ["diffusion.objective=none", "sampling.method=guided"],
            r"train\.kimg=100: .*none trains nothing: set it",
        ),
        (["sampling.method=distilled"], r"objective=data draws by guided: leave it auto"),
        (["diffusion.objectiv=none"], r"unknown override 'diffusion\.objectiv' \(did you mean"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(overrides, message):
    with pytest.raises(UserError, match=message):
        parse_overrides("diffusion", overrides)


METHODS = {
    "guided": {"sampling": {"steps": 4, "guidance": 2.0}},
    "distilled": {"diffusion": {"objective": "halving"}, "sampling": {"steps": 4}},
    "consistency": {"diffusion": {"objective": "consistency"}, "sampling": {"steps": 4}},
}


@pytest.mark.parametrize("method", METHODS)
def test_a_picture_depends_on_its_own_caption_and_seed_alone(clip, method):
    sampler = DiffusionSampler(denoiser(clip), config(**METHODS[method]), clip, CPU)
    together = sampler.generate(sampler.encode(CAPTIONS), [5, 6, 7, 8])
    alone = [sampler.generate(sampler.encode([CAPTIONS[k]]), [5 + k]) for k in (3, 1)]
    torch.testing.assert_close(torch.cat(alone), together[[3, 1]])
    assert (sampler.generate(sampler.encode(CAPTIONS), [5, 6, 7, 9])[3] - together[3]).abs().max() > 0.01
    assert (sampler.generate(sampler.encode(CAPTIONS[::-1]), [5, 6, 7, 8]) - together).abs().max() > 0.01
    assert sampler(CAPTIONS, [5, 6, 7, 8]).shape == (4, SIDE, SIDE, 3)


def asked(sampler: DiffusionSampler, captions: list[str], seeds: list[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """z and t of every evaluation that these pictures take."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    handle = sampler.network.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[:2]))
    sampler(captions, seeds)
    handle.remove()
    return seen


def test_a_picture_takes_two_evaluations_a_step_of_a_guided_teacher_and_one_of_a_student(clip):
    def evaluations(**sections) -> tuple[int, int]:
        sampler = DiffusionSampler(denoiser(clip), config(**sections), clip, CPU)
        return sum(len(z) for z, _ in asked(sampler, CAPTIONS[:2], [0, 1])) // 2, sampler.nfe

    assert evaluations(**METHODS["guided"]) == (8, 8)
    assert evaluations(sampling={"steps": 4, "guidance": 1.0}) == (4, 4)
    assert evaluations(**METHODS["distilled"]) == (4, 4)
    assert evaluations(**METHODS["consistency"]) == (4, 4)


def test_one_step_of_any_method_asks_for_the_picture_in_pure_noise(clip):
    """The same noise of a seed, at time 1: what v says is the picture, its sign turned."""
    network = denoiser(clip)
    for method, sections in METHODS.items():
        sampler = DiffusionSampler(network, config(**{**sections, "sampling": {"steps": 1}}), clip, CPU)
        text = sampler.encode(CAPTIONS[:1])
        ((z, t),) = asked(sampler, CAPTIONS[:1], [3])
        found = sampler.generate(text, [3])
        assert t.tolist() == [1.0] * len(z)
        expected = torch.randn(3 * SIDE * SIDE, generator=torch.Generator().manual_seed(3)).view(1, 3, SIDE, SIDE)
        assert z[:1].equal(expected)
        if method != "guided":
            torch.testing.assert_close(found, -network(z, t, text, torch.tensor([2.0])))


def test_consistency_goes_on_from_its_picture_under_new_noise_of_the_seed(clip):
    network, sections = denoiser(clip), METHODS["consistency"]
    four = config(**sections)
    sampler = DiffusionSampler(network, four, clip, CPU)
    seen = asked(sampler, CAPTIONS[:1], [3])
    assert [t.item() for _, t in seen] == [1.0, 0.75, 0.5, 0.25]
    drawn = torch.randn(3 * SIDE * SIDE * 4, generator=torch.Generator().manual_seed(3))
    first = torch.randn(3 * SIDE * SIDE, generator=torch.Generator().manual_seed(3))
    assert first.equal(drawn[: len(first)])
    noises = []
    guidance, text = torch.tensor([2.0]), sampler.encode(CAPTIONS[:1])
    for (z, t), (after, s) in pairwise(seen):
        x = consistency.picture(network, z, t, text, guidance, four)
        angle = s * torch.pi / 2
        noises.append((after - angle.cos() * x) / angle.sin())
    spread = torch.cat(noises)
    assert spread.std().item() == pytest.approx(1, abs=0.1)
    assert (spread[0] - spread[1]).abs().max() > 1  # new each time
