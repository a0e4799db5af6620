"""Base class of all sections of a configuration."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A section of a configuration: immutable; unknown keys, NaN and infinity are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
