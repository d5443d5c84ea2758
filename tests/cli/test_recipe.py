import pytest

from worldstereo_cli.errors import RecipeError
from worldstereo_cli.recipe import load_recipe, override_recipe, recipe_names, recipe_to_toml


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_loads_and_survives_being_shown(name, tmp_path):
    recipe = load_recipe(name)
    shown = tmp_path / f"{name}.toml"
    shown.write_text(recipe_to_toml(recipe))
    assert load_recipe(str(shown)) == recipe


def test_an_override_replaces_one_value():
    recipe = load_recipe(
        "default", ["plan.scale=2", "seed=7", 'plan.trajectories=["orbit"]', "lift.depth=depth-pro"]
    )
    assert recipe.plan.scale == 2
    assert recipe.seed == 7
    assert recipe.plan.trajectories == ("orbit",)
    assert recipe.lift.depth == "depth-pro"


def test_overriding_a_resolved_recipe_keeps_the_rest():
    recipe = override_recipe(load_recipe("preview"), ["seed=3"])
    assert recipe.seed == 3
    assert recipe.lift == load_recipe("preview").lift


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("plan.sclae=2", "plan.sclae is not a recipe key"),
        ("plan.scale=-1", "plan.scale = -1"),
        ("plan.scale=big", "plan.scale = 'big'"),
        ("plan.scale", "is not section.key=value"),
        ("seed.x=1", "seed"),
        ("=3", "is not section.key=value"),
    ],
)
def test_a_wrong_override_is_refused_and_named(override, words):
    with pytest.raises(RecipeError) as caught:
        load_recipe("default", [override])
    assert words in caught.value.problem


def test_an_unknown_recipe_names_the_known_ones():
    with pytest.raises(RecipeError) as caught:
        load_recipe("defualt")
    assert "preview" in caught.value.remedy


def test_a_broken_file_is_refused(tmp_path):
    (tmp_path / "mine.toml").write_text("[plan\n")
    with pytest.raises(RecipeError, match="cannot be read as a recipe"):
        load_recipe(str(tmp_path / "mine.toml"))


def test_the_help_names_every_preset() -> None:
    from worldstereo_cli.cli.options import Trajectories
    from worldstereo_cli.geometry.paths import PRESETS

    help_text = Trajectories.__metadata__[0].help
    listed = help_text.partition("orbit:20: ")[2].partition(".")[0].split(", ")
    assert sorted(listed) == sorted(PRESETS)
    assert sorted(PRESETS) == sorted(
        name.strip(" \n.")
        for name in _doc_of("trajectories").partition("Presets: ")[2].replace("\n", " ").split(",")
    )


def _doc_of(field: str) -> str:
    """The text under a knob of the plan's recipe, as people read it in the source."""
    import inspect

    from worldstereo_cli.recipe import PlanRecipe

    after = inspect.getsource(PlanRecipe).partition(f"    {field}: ")[2]
    return after.partition('"""')[2].partition('"""')[0]
