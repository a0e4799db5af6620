import io
from dataclasses import replace

from rich.console import Console

from storyreel.flows.job.stages import STAGES
from storyreel.flows.job.status import StageStatus
from storyreel.flows.views.figures import format_duration
from storyreel.flows.views.progress import MAX_WARNINGS, StageProgress, describe
from storyreel.stages.output.records import Clip, Panel, ShotKind, Storyboard


def storyboard(story_id: str, *warnings: str) -> Storyboard:
    panel = Panel(
        story_id=story_id,
        keyframe_index=0,
        panel_index=0,
        beat=0,
        prompt="a fox",
        negative_prompt="",
        caption="",
        characters=(),
        seed=0,
        splitter="rules",
        warnings=warnings,
    )
    return Storyboard(story_id=story_id, panels=(panel, panel), shots=())


def shown(*storyboards: Storyboard) -> str:
    terminal = io.StringIO()
    with StageProgress(STAGES.names, Console(file=terminal, width=200)) as progress:
        for board in storyboards:
            progress.warn((board,))
    return terminal.getvalue()


def test_a_prompt_that_was_cut_is_told_once_with_its_story() -> None:
    assert shown(storyboard("fox", "cut: [the style]")).count("story fox: cut: [the style]") == 1


def test_a_clip_that_stayed_flawed_is_told_with_its_shot_and_a_whole_one_is_not() -> None:
    whole = Clip(
        story_id="fox",
        shot_index=3,
        kind=ShotKind.MOTION,
        path="clips/fox/0003.mkv",
        size=1,
        sha256="",
        num_frames=6,
        width=8,
        height=8,
        seed=0,
        endpoint_closeness=0.0,
        endpoint_jump=0.0,
    )
    terminal = io.StringIO()
    with StageProgress(STAGES.names, Console(file=terminal, width=200)) as progress:
        progress.warn((whole,))
        progress.warn((replace(whole, flaw="4 of 6 frames are black"),))
    assert terminal.getvalue().count("story fox: shot 3") == 1
    assert "story fox: shot 3: 4 of 6 frames are black" in terminal.getvalue()


def test_many_notes_do_not_flood_the_terminal() -> None:
    boards = [storyboard(f"story-{i}", "cut: the style") for i in range(3 * MAX_WARNINGS)]
    output = shown(*boards)
    assert output.count("cut: the style") == MAX_WARNINGS
    assert output.count("manifests/panels") == 1


def test_a_bar_says_how_far_its_stage_is_how_fast_and_what_failed() -> None:
    status = StageStatus(
        stage="motion", done=30, failed=2, total=80, estimated=True, rate=0.25, eta_s=192.0
    )
    terminal = io.StringIO()
    with StageProgress(STAGES.names, Console(file=terminal, width=200)) as progress:
        progress.show([status])
    assert "32/80" in terminal.getvalue()
    assert "15.0/min, 3 min 12 s left, 2 failed" in terminal.getvalue()
    assert describe(status) in terminal.getvalue()


def test_durations_read_like_a_clock() -> None:
    told = [format_duration(seconds) for seconds in (0.4, 59.6, 61, 3600, 100_000)]
    assert told == ["0 s", "1 min 0 s", "1 min 1 s", "1 h 0 min", "27 h 46 min"]
