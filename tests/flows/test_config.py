from pathlib import Path

import pytest

from flows.config import CONFIGS, load_config

NAMES = sorted(path.stem for path in CONFIGS.glob("*.toml"))
PROFILES = sorted(path.stem for path in (CONFIGS / "profiles").glob("*.toml"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("profile", [None, *PROFILES])
def test_every_bundled_config_is_valid_under_every_profile(name: str, profile: str | None) -> None:
    load_config(name, profile=profile)


def test_a_value_on_the_command_line_wins_over_profile_and_file() -> None:
    config = load_config("pocket", profile="draft", overrides=["keyframes.num_inference_steps=3"])
    assert config.keyframes.num_inference_steps == 3
    assert (
        config.motion.num_inference_steps
        == load_config("pocket", profile="draft").motion.num_inference_steps
    )


def test_text_on_the_command_line_needs_no_quotes() -> None:
    config = load_config("pocket", overrides=["keyframes.consistency.coverage=star"])
    assert config.keyframes.consistency.coverage == "star"


def test_an_unknown_key_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"films\.fsp: unknown key; known are .*fps"):
        load_config("pocket", overrides=["films.fsp=12"])


def test_a_value_out_of_range_is_named_with_its_key() -> None:
    with pytest.raises(ValueError, match=r"films\.fps = 4: .*greater than or equal to 8"):
        load_config("pocket", overrides=["films.fps=4"])


def test_an_unknown_config_is_named_with_the_bundled_ones() -> None:
    with pytest.raises(ValueError, match=r"'pokcet'.*pocket, sd15, sd21, sdxl"):
        load_config("pokcet")


@pytest.mark.parametrize("override", ["films.fps", "=3", "films..fps=3", ""])
def test_an_override_that_is_no_assignment_is_refused(override: str) -> None:
    with pytest.raises(ValueError, match="must be key=value"):
        load_config("pocket", overrides=[override])


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[films\nfps = 8")
    with pytest.raises(ValueError, match=r"mine\.toml: "):
        load_config(str(path))


def test_actors_and_addresses_do_not_change_what_is_rendered() -> None:
    usual = load_config("pocket")
    other = load_config(
        "pocket", overrides=["pools.render.num_actors=7", "execution.open_shards=1"]
    )
    assert usual.rendering() == other.rendering()
    assert usual.rendering() != load_config("pocket", profile="draft").rendering()


@pytest.mark.parametrize(
    ("num_stories", "num_actors", "num_open"),
    [(9, 2, 4), (128, 64, 64), (1000, 16, 4), (1000, 64, 8), (10**5, 64, 4)],
)
def test_so_many_shards_are_open_that_no_actor_waits_for_a_story(
    num_stories: int, num_actors: int, num_open: int
) -> None:
    config = load_config("pocket", overrides=[f"pools.render.num_actors={num_actors}"])
    assert config.num_open_shards(num_stories) == num_open
    few = load_config("pocket", overrides=["execution.open_shards=3"])
    assert few.num_open_shards(num_stories) == 3


@pytest.mark.parametrize(
    ("num_stories", "shard_size"), [(0, 1), (1, 1), (64, 1), (65, 2), (10_000, 157), (10**5, 500)]
)
def test_a_shard_grows_with_the_job_so_that_the_ui_stays_readable(
    num_stories: int, shard_size: int
) -> None:
    assert load_config("pocket").execution.stories_per_shard(num_stories) == shard_size
