"""The configuration: what overrides mean, which ones are refused, and what a recipe's hash covers."""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from typing import Any

import pytest

from gigagan import config as configuration
from gigagan.config import BOUNDS, Config, from_dict, parse_overrides, recipe_sha, to_dict, to_overrides
from gigagan.errors import UserError

# What a section's fields are changed from, where they mean nothing by default.
CLASSES = ["condition.kind=class", "condition.classes=2", "attention.kinds=self", "loss.clip_weight=0"]
BASES = {
    "condition": parse_overrides(CLASSES),
    "upsampler": parse_overrides(["upsampler.input=16", "generator.attention_resolutions=16,32,32"]),
}
FIELDS = [(section, name) for section, names in to_dict(Config()).items() for name in names]


def other(value: Any) -> Any:
    """Another value of the same type, within the bounds of any field."""
    return value / 2 or 0.5 if isinstance(value, float) else value + value or type(value)(1)


def base(section: str) -> Config:
    return BASES.get(section, Config())


def changed(section: str, name: str) -> Config:
    """The base with one field changed, whatever its type."""
    part = getattr(base(section), section)
    kind, value = typing.get_type_hints(type(part))[name], getattr(part, name)
    if typing.get_origin(kind) is typing.Literal:
        new: Any = next(choice for choice in typing.get_args(kind) if choice != value)
    elif isinstance(value, tuple):
        new = tuple(other(entry) for entry in value)
    elif isinstance(value, bool):
        new = not value
    else:
        new = other(value)
    return dataclasses.replace(base(section), **{section: dataclasses.replace(part, **{name: new})})


@pytest.mark.parametrize(("section", "name"), FIELDS)
def test_every_field_survives_overrides_and_json(section, name):
    config = changed(section, name)
    overrides = to_overrides(config, base(section))
    assert [override.partition("=")[0] for override in overrides] == [f"{section}.{name}"]
    assert parse_overrides(overrides, base(section)) == config
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


def test_overrides_are_typed_and_the_last_one_counts():
    config = parse_overrides(
        [
            "data.flip=false",
            "train.kimg=0.5",
            "generator.kernels=1,2,4",
            "data.path=a=b",
            "train.batch=8",
            "train.batch=6",
        ]
    )
    assert config.data.flip is False
    assert config.train.kimg == 0.5
    assert config.generator.kernels == (1, 2, 4)
    assert config.data.path == "a=b"
    assert config.train.batch == 6
    assert parse_overrides(["train.kimg=2"], base=config) == dataclasses.replace(
        config, train=dataclasses.replace(config.train, kimg=2.0)
    )
    assert to_overrides(Config()) == []


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("generator.kernel=1", "did you mean 'generator.kernels'?"),
        ("discriminator.multiscale=none", "did you mean 'discriminator.multi_scale'?"),
        ("generator=1", "unknown override 'generator'"),
        ("kimg", "'kimg' is no override: write path=value"),
        ("train.batch=many", "'many' is not a"),
        ("train.batch=1.5", "'1.5' is not a"),
        ("train.kimg=", "'' is not a"),
        ("data.flip=perhaps", "'perhaps' is not a"),
        ("generator.kernels=1,two", "'two' is not a"),
        ("attention.kinds=self+corss", "did you mean 'self+cross'?"),
        ("data.resolution=24", "power of two"),
        ("data.resolution=4", "at least 8"),
        ("train.batch=1", "at least 2"),
        ("train.kimg=0", "at least 0.001"),
        ("train.kimg=nan", "at least 0.001"),
        ("train.micro_batch=-1", "at least 0"),
        ("generator.kernels=1,0", "generator.kernels=1,0: must be at least 1"),
        ("generator.blocks=", "must be at least 1"),
        ("generator.attention_resolutions=8,12", "generator.attention_resolutions=8,12: 12 px is no level"),
        ("discriminator.attention_resolutions=2", "attention_resolutions=2: 2 px is no level"),
        ("discriminator.attention_resolutions=128", "none up to data.resolution=64"),
        ("text.head_width=0", "must be at least 1"),
        ("loss.clip_captions=-1", "must be at least 0"),
        ("generator.attention_depth=", "0 entries for 3 attention resolutions"),
        ("loss.scale_ratio=", "no level that D looks at has any weight"),
        ("loss.scale_ratio=0,0", "loss.scale_ratio=0.0,0.0: no level that D looks at has any weight"),
        ("generator.channel_base=32", "generator.channel_base=32: leaves no channel at 64 px: at least 64"),
        ("discriminator.channel_base=-5", "leaves no channel"),
        ("train.beta2=1.5", "train.beta2=1.5: must be at least 0 and below 1"),
        ("train.kimg=inf", "train.kimg=inf: must be finite and at least 0.001"),
        ("loss.clip_temperature=0", "loss.clip_temperature=0.0: must be above 0"),
        ("data.objects=0.5,0.5,1.5", "must be at least 0 and at most 1"),
        ("generator.attention_depth=1,1", "2 entries for 3 attention resolutions"),
        ("condition.kind=class", "condition.kind=class: say how many there are: condition.classes=N"),
        ("condition.kind=none", "attention.kinds=self+cross: reads captions, and condition.kind=none"),
        ("upsampler.input=64", "upsampler.input=64: must lie between upsampler.lowest=8 and data.resolution=64"),
        ("upsampler.input=24", "upsampler.input=24: must be a power of two"),
        (
            "upsampler.input=16 generator.attention_resolutions=16,32,32 sampling.truncation=0.5",
            "sampling: an upsampler",
        ),
        ("discriminator.minibatch_std=3", "train.batch=512: no multiple of discriminator.minibatch_std=3"),
        ("discriminator.entries=6", "discriminator.entries=6: data.resolution=64 has 5 levels"),
        ("generator.first_convs=3", "generator.first_convs=3: must be at least 1 and at most 2"),
    ],
)
def test_bad_overrides_are_refused_in_one_line(override, words):
    with pytest.raises(UserError) as error:
        parse_overrides(override.split())
    assert words in error.value.message
    assert "\n" not in error.value.message


NUMBERS = [
    f"{section}.{f.name}"
    for section, part in typing.get_type_hints(Config).items()
    for f in dataclasses.fields(part)
    if {int, float} & {(kind := typing.get_type_hints(part)[f.name]), *typing.get_args(kind)}
]


def test_every_number_has_bounds():
    assert list(BOUNDS) == NUMBERS


@pytest.mark.parametrize("path", NUMBERS)
def test_a_number_beyond_its_bounds_is_refused_in_one_line(path):
    low, high = (float(end) for end in BOUNDS[path][1:-1].split(","))
    beyond = [math.nan, math.inf, -math.inf, low - 1, low if BOUNDS[path][0] == "(" else math.nextafter(low, -math.inf)]
    if math.isfinite(high):
        beyond += [high + 1, high if BOUNDS[path][-1] == ")" else math.nextafter(high, math.inf)]
    for value in beyond:
        with pytest.raises(UserError) as error:
            parse_overrides([f"{path}={value:.17g}"])
        assert error.value.message.startswith(f"{path}=")
        assert "\n" not in error.value.message


@pytest.mark.parametrize("path", NUMBERS)
def test_a_model_can_be_made_at_the_least_value_of_every_number(path, tiny, clip, clips):
    import torch

    from gigagan.networks.text import TextFeatures
    from gigagan.training.phases import GigaGAN

    least = {
        "generator.channel_base": 16,
        "discriminator.channel_base": 16,
        "loss.scale_ratio": "0,0,1",
        "data.objects": "1,0,0",
    }
    low = BOUNDS[path][1:].partition(",")[0]
    value = least.get(path, "0.001" if BOUNDS[path][0] == "(" else low)
    config = tiny(f"{path}={value}")
    model = GigaGAN(config, clips, 0, torch.device("cpu"))
    assert model.phases()
    text = TextFeatures(torch.zeros(2, 3, clip.text_width), torch.tensor([2, 2]))
    g = model.generator
    pyramid = g(torch.zeros(2, g.z_dim), text, torch.zeros(2, g.noise_dim))
    (predictions,) = model.discriminator(pyramid, [text])
    assert all(logits.isfinite().all() for logits in predictions.values())


def test_the_full_resolution_alone_needs_a_weight_of_its_own():
    assert parse_overrides(["loss.scale_ratio=0,1"]).loss.scale_ratio == (0, 1)
    with pytest.raises(UserError, match="no level that D looks at"):
        parse_overrides(["loss.scale_ratio=0,1", "discriminator.multi_scale=output"])


def test_without_attention_there_need_be_no_resolutions_of_it():
    config = parse_overrides(["attention.kinds=none", "generator.attention_resolutions=", "generator.attention_depth="])
    assert config.generator.attention_resolutions == config.generator.attention_depth == ()


def test_a_saved_config_with_an_unknown_name_is_refused():
    values = to_dict(Config())
    values["loss"]["matchng"] = values["loss"].pop("matching")
    with pytest.raises(UserError, match=r"loss\.matchng.*did you mean 'loss\.matching'"):
        from_dict(values)


def test_a_config_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().train.kimg = 1.0


def test_per_level_entries_repeat_from_the_last_one():
    assert [configuration.per_level((3,), level) for level in range(3)] == [3, 3, 3]
    assert [configuration.per_level((1, 2), level) for level in range(4)] == [1, 2, 2, 2]
    assert [configuration.channels(512, 64, r) for r in (4, 8, 16, 32)] == [64, 64, 32, 16]


@pytest.mark.parametrize(("section", "name"), FIELDS)
def test_the_recipe_covers_everything_but_budget_paths_and_how_work_is_shared_out(section, name):
    same = recipe_sha(changed(section, name), {}) == recipe_sha(base(section), {})
    beside = {"train.kimg", "train.micro_batch", "train.gradient_checkpointing", "data.path", "data.annotations"}
    beside |= {"data.workers", "text.clip", "vision.clip", "loss.clip_model", "loss.lpips_backbone"}
    assert same == (f"{section}.{name}" in beside)


def test_the_recipe_covers_contents_and_the_code_s_version(monkeypatch):
    shas = {recipe_sha(Config(), {"clip": "a"})}
    shas |= {recipe_sha(Config(), {"clip": "b"}), recipe_sha(Config(), {})}
    monkeypatch.setattr(configuration, "RECIPE_VERSION", configuration.RECIPE_VERSION + 1)
    shas.add(recipe_sha(Config(), {"clip": "a"}))
    assert len(shas) == 4
    assert all(len(sha) == 12 for sha in shas)
