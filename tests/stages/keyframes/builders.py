"""Panels of a story, for tests of what renders them."""

from storyreel.stages.output.records import Panel


def panel_of(index: int, *characters: str, control_image: str | None = None) -> Panel:
    """A panel of the story `the-kite`; each has its own prompt and seed."""
    return Panel(
        story_id="the-kite",
        keyframe_index=index,
        panel_index=index,
        beat=0,
        prompt=f"a girl with a kite, scene {index}",
        negative_prompt="blurry",
        caption="",
        characters=characters,
        seed=100 + index,
        splitter="panels",
        warnings=(),
        control_image=control_image,
    )
