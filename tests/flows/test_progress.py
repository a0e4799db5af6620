import io

from rich.console import Console

from flows.progress import MAX_WARNINGS, StageProgress
from stages.records import Panel, Storyboard


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
    with StageProgress(len(storyboards), Console(file=terminal, width=200)) as progress:
        for board in storyboards:
            progress.ended("prompts", (board,))
    return terminal.getvalue()


def test_a_prompt_that_was_cut_is_told_once_with_its_story() -> None:
    assert shown(storyboard("fox", "cut: [the style]")).count("story fox: cut: [the style]") == 1


def test_many_notes_do_not_flood_the_terminal() -> None:
    boards = [storyboard(f"story-{i}", "cut: the style") for i in range(3 * MAX_WARNINGS)]
    output = shown(*boards)
    assert output.count("cut: the style") == MAX_WARNINGS
    assert output.count("manifests/panels") == 1
