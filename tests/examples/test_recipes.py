"""Every recipe among the examples is one that a run accepts."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.recipe import load_recipe
from tests.examples.conftest import EXAMPLES

RECIPES = sorted(EXAMPLES.rglob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_the_recipe_is_accepted(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert (path.parent / recipe.workload.partition(":")[0]).is_file()
    assert recipe.steps or recipe.quantize is not None
    assert len(recipe.targets) == 3
