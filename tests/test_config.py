"""The configuration: what overrides mean, which ones are refused, and what a recipe's hash covers."""

from __future__ import annotations

import dataclasses
import json
import typing
from typing import Any

import pytest

from gigagan import config as configuration
from gigagan.config import Config, from_dict, parse_overrides, recipe_sha, to_dict, to_overrides
from gigagan.errors import UserError

FIELDS = [(section, name) for section, names in to_dict(Config()).items() for name in names]


def changed(section: str, name: str) -> Config:
    """The defaults with one field changed, whatever its type."""
    part = getattr(Config(), section)
    kind, value = typing.get_type_hints(type(part))[name], getattr(part, name)
    if typing.get_origin(kind) is typing.Literal:
        new: Any = next(choice for choice in typing.get_args(kind) if choice != value)
    elif isinstance(value, tuple):
        new = tuple(entry * 2 for entry in value)
    elif isinstance(value, bool):
        new = not value
    else:
        new = value + value if value else type(value)(1)
    return dataclasses.replace(Config(), **{section: dataclasses.replace(part, **{name: new})})


@pytest.mark.parametrize(("section", "name"), FIELDS)
def test_every_field_survives_overrides_and_json(section, name):
    config = changed(section, name)
    overrides = to_overrides(config)
    assert [override.partition("=")[0] for override in overrides] == [f"{section}.{name}"]
    assert parse_overrides(overrides) == config
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
        ("generator.attention_depth=1,1", "2 entries for 3 attention resolutions"),
    ],
)
def test_bad_overrides_are_refused_in_one_line(override, words):
    with pytest.raises(UserError) as error:
        parse_overrides([override])
    assert words in error.value.message
    assert "\n" not in error.value.message


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
    same = recipe_sha(changed(section, name), {}) == recipe_sha(Config(), {})
    beside = {"train.kimg", "train.micro_batch", "data.path", "data.annotations", "data.workers", "text.clip"}
    assert same == (f"{section}.{name}" in beside)


def test_the_recipe_covers_contents_and_the_code_s_version(monkeypatch):
    shas = {recipe_sha(Config(), {"clip": "a"})}
    shas |= {recipe_sha(Config(), {"clip": "b"}), recipe_sha(Config(), {})}
    monkeypatch.setattr(configuration, "RECIPE_VERSION", configuration.RECIPE_VERSION + 1)
    shas.add(recipe_sha(Config(), {"clip": "a"}))
    assert len(shas) == 4
    assert all(len(sha) == 12 for sha in shas)
