from pathlib import Path

import pytest

from storyreel.flows.job.config import CONFIGS, RenderConfig, load_config
from storyreel.stages.models.config import weights

NAMES = sorted(path.stem for path in CONFIGS.glob("*.toml"))
PROFILES = sorted(path.stem for path in (CONFIGS / "profiles").glob("*.toml"))
PUBLIC = ["sd15", "sd21", "sdxl"]
"""The configurations of public weights, for which `fast` and `paper` are meant."""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("profile", [None, *PROFILES])
def test_every_bundled_config_is_valid_under_every_profile(name: str, profile: str | None) -> None:
    load_config(name, profile=profile)


@pytest.mark.parametrize(
    ("name", "profile"),
    [*((name, "draft") for name in NAMES), *((name, "fast") for name in PUBLIC)],
)
def test_a_quicker_profile_takes_less_than_half_of_the_calls(name: str, profile: str) -> None:
    usual, quick = (calls(load_config(name, profile=laid)) for laid in (None, profile))
    assert all(2 * fewer < many for fewer, many in zip(quick, usual, strict=True))


def calls(config: RenderConfig) -> tuple[int, int]:
    """Calls of the UNet for a keyframe, and of the video UNet for a clip."""
    keyframes, motion = config.keyframes, config.motion
    branches = 2 if keyframes.guidance_scale > 1 else 1
    return (
        branches * keyframes.num_inference_steps,
        motion.num_branches * motion.num_inference_steps,
    )


@pytest.mark.parametrize("name", PUBLIC)
def test_configurations_of_public_weights_have_the_settings_of_the_paper(name: str) -> None:
    assert load_config(name).rendering() == load_config(name, profile="paper").rendering()


@pytest.mark.parametrize("profile", [None, "wan"])
@pytest.mark.parametrize("name", PUBLIC)
def test_the_cluster_guide_names_every_repository_to_fetch(name: str, profile: str | None) -> None:
    guide = Path("docs/cluster.md").read_text(encoding="utf-8")
    config = load_config(name, profile=profile)
    places = {part.path for part in (*weights(config.keyframes), *weights(config.motion))}
    for place in places:
        assert any(
            f"`{place}`" in line and (f"`{name}`" in line or f"`{profile}`" in line)
            for line in guide.splitlines()
        )


def test_another_kind_of_renderer_takes_no_keys_of_the_one_before() -> None:
    plain = load_config("sd15")
    assert plain.motion.renderer.kind == "image_prompt"
    other = load_config("sd15", overrides=["motion.renderer.kind=dissolve"])
    assert other.motion.renderer.kind == "dissolve"
    wan = load_config("sd15", profile="wan", overrides=["motion.renderer.flow_shift=3.0"])
    assert wan.motion.renderer.model_dump()["flow_shift"] == pytest.approx(3.0)


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
    with pytest.raises(ValueError, match=r"films\.fps: 4: must be greater than or equal to 8$"):
        load_config("pocket", overrides=["films.fps=4"])


def test_clips_in_other_proportions_than_the_keyframes_are_refused() -> None:
    wide = ["keyframes.width=1024", "keyframes.height=576"]
    message = (
        r"^config sdxl: .*motion\.width x motion\.height: 512 x 512, allowed are the proportions of"
        r" the keyframes, 1024 x 576$"
    )
    with pytest.raises(ValueError, match=message):
        load_config("sdxl", overrides=wide)
    smaller = load_config("sdxl", overrides=[*wide, "motion.width=512", "motion.height=288"])
    assert (smaller.motion.width, smaller.motion.height) == (512, 288)
    load_config("sd15", overrides=wide)  # clips of the keyframes' size


def test_one_size_of_clips_alone_is_refused() -> None:
    with pytest.raises(ValueError, match=r"motion: .*width: 64, height: None; allowed are both"):
        load_config("pocket", overrides=["motion.width=64"])


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
