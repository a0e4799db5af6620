"""Fingerprints of what units are made from: of two equal ones, one rendering serves.

A commit record has the fingerprint of its unit's inputs. After stories or settings were edited, the
units whose fingerprint is another one now are rendered again, and no others: if a keyframe comes
out with the bytes that it had, the clips beside it stay.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from storyreel.flows.job.config import RenderConfig, digest
from storyreel.flows.job.stage_table import StageSpec, Unit


def inputs_of(unit: Unit, settings: str) -> str:
    """Return the fingerprint of what a unit is made from, and of its stage's settings."""
    made_from = unit.argument if unit.made_from is None else unit.made_from
    return digest([settings, _plain(made_from)])


def settings_of(spec: StageSpec, config: RenderConfig) -> str:
    """Return the fingerprint of the settings that a stage's output depends on."""
    return digest(_plain(spec.settings(config)))


def _plain(value: Any) -> Any:
    """Return plain values without those that equal their default.

    So a field or a setting that a later version adds leaves earlier fingerprints as they are.
    """
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    if dataclasses.is_dataclass(value):
        own = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {field.name: _plain(found) for field, found in own if found != field.default}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
