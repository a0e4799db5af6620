"""Scripts that other programs write: scenes with shots (ViMax and its kin), and ViStoryBench.

A shot becomes a panel: how its first frame looks and what moves are the words of the picture, what
is spoken or told is the caption. Characters that a shot lists are in its picture.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from storyreel.stages.input.names.markup import escape
from storyreel.stages.input.readers.screenplays import is_screenplay, read_screenplay

_PICTURE = (
    "first_frame", "ff_desc", "first_frame_description", "visual_description", "visual_desc",
    "Static Shot Description", "image_prompt", "prompt", "description",
)  # fmt: skip
_MOTION = ("motion", "motion_desc", "motion_description", "action", "video_prompt")
_END = ("last_frame", "lf_desc", "last_frame_description")
_PLACE = ("Setting Description", "setting", "environment", "location")
_CAMERA = ("Shot Perspective Design", "camera", "camera_movement", "shot_type")
_WORDS = (
    "dialogue", "dialog", "narration", "caption", "subtitle", "audio", "audio_desc",
    "Plot Correspondence",
)  # fmt: skip
_CAST = ("characters", "visible_characters", "Characters Appearing")
_NAMES = ("name_en", "name", "identifier", "identifier_in_scene", "id")
_LOOKS = ("description", "static_features", "dynamic_features", "appearance", "prompt_en", "prompt")


def as_story(row: Any, story_id: str) -> Any:
    """A script as the fields of a story; any other row as it is.

    Args:
        row: an object of a JSON or YAML file.
        story_id: for a script that states none.
    """
    if not isinstance(row, Mapping) or "text" in row or "panels" in row:
        return row
    kept = {"story_id": row.get("story_id", story_id)}
    kept |= {name: row[name] for name in ("title", "seed", "duration_s") if name in row}
    kept |= {"style": row["style"]} if isinstance(row.get("style"), str) else {}
    if isinstance(script := row.get("script"), str):
        fields = read_screenplay(script) if is_screenplay(script) else {"text": script}
        return {**kept, **fields}
    shots = list(_shots(row))
    if not shots:
        return row
    characters = _characters(row, shots)
    return {**kept, "panels": [_panel(shot, characters) for shot in shots], "characters": [
        {"name": name, "description": looks} for name, looks in characters.items()
    ]}  # fmt: skip


def _shots(row: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The shots of all scenes, in order; each with the place of its scene."""
    for scene in _mappings(row.get("scenes")):
        place = {"setting": _first(scene, _PLACE)} if _first(scene, _PLACE) else {}
        for shot in _mappings(scene.get("shots")):
            yield {**place, **shot}
    for name in ("shots", "Shots"):
        yield from _mappings(row.get(name))


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    items = value if isinstance(value, list) else []
    return [item for item in items if isinstance(item, Mapping)]


def _panel(shot: Mapping[str, Any], characters: Mapping[str, str]) -> dict[str, str]:
    parts = [_first(shot, names) for names in (_PICTURE, _MOTION, _END, _PLACE, _CAMERA)]
    words = escape(". ".join(part.rstrip(". ") for part in parts if part))
    listed = [name for name in _listed(shot) if name in characters and name not in words]
    tags = " and ".join(f"[{name}]" for name in listed)
    text = ", ".join(filter(None, (tags, words)))
    return {"text": text, "caption": _first(shot, _WORDS)}


def _listed(shot: Mapping[str, Any]) -> list[str]:
    """The names of the characters that a shot, or its first frame, lists."""
    frame = shot.get("first_frame")
    places = [shot, frame] if isinstance(frame, Mapping) else [shot]
    values = [place[name] for place in places for name in _CAST if name in place]
    names: list[str] = []
    for value in values:
        listed = value.get("en") if isinstance(value, Mapping) else value
        for one in listed if isinstance(listed, list) else []:
            names.append(_first(one, _NAMES) if isinstance(one, Mapping) else str(one).strip())
    return list(dict.fromkeys(filter(None, names)))


def _characters(row: Mapping[str, Any], shots: list[Mapping[str, Any]]) -> dict[str, str]:
    """The looks of all characters by name; those that only shots list have none."""
    found: dict[str, str] = {}
    told = row.get("characters", row.get("Characters"))
    for key, one in told.items() if isinstance(told, Mapping) else enumerate(_items(told)):
        name = _first(one, _NAMES) if isinstance(one, Mapping) else ""
        looks = (
            [_text(one.get(look)) for look in _LOOKS] if isinstance(one, Mapping) else [_text(one)]
        )
        name = name or (str(key) if isinstance(key, str) else "")
        if name:
            found[name.strip()] = ", ".join(look.rstrip(". ") for look in looks if look)
    for shot in shots:
        for name in _listed(shot):
            found.setdefault(name, "")
    return {name: looks for name, looks in found.items() if not set(name) & set("[]\\\n")}


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _first(item: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """The text of the first of these fields that has one."""
    return next(filter(None, (_text(item.get(name)) for name in names)), "")


def _text(value: Any) -> str:
    """The words of a field: a text, one of several languages, or the lines of a list."""
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, Mapping):
        return _first(value, ("en", "description", "text", "content", "line"))
    if isinstance(value, list):
        lines = (
            ": ".join(filter(None, (_first(one, ("speaker", *_NAMES)), _text(one))))
            if isinstance(one, Mapping)
            else _text(one)
            for one in value
        )
        return " ".join(filter(None, lines))
    return ""
