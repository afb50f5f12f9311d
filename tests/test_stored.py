"""What is committed under results/records and evaluation/expected is of the settings that stand in the repository."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ablations import recipes
from evaluation import records
from gigagan.clip import Clip
from gigagan.config import parse_overrides, recipe_sha

ROOT = Path(__file__).parents[1]


def recipe(suite: str, variant: str) -> str:
    config = parse_overrides(recipes.recipe(recipes.suite(suite), variant))
    return recipe_sha(config, {"clip": Clip.load(config.text.clip).sha})


@pytest.mark.parametrize("suite", ["demo", "demo_long"])  # photos' recipes hold what the workflow trains first
def test_rows_are_of_the_suites_recipes(suite: str) -> None:
    rows = records.read([ROOT / f"results/records/{suite}.jsonl"])
    trained = {(row["variant"], row["recipe_sha"]) for row in rows if row["variant"] not in records.REFERENCES}
    assert trained == {(variant, recipe(suite, variant)) for variant, _ in trained}


def test_stored_seeds_are_of_the_suites_recipe() -> None:
    stored = json.loads((ROOT / "evaluation/expected/smoke.json").read_text())["stored"]
    assert {entry["recipe_sha"] for entry in stored} == {recipe("smoke", "gigagan")}
