"""What every section of a configuration has in common."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A section of a configuration: unknown keys are errors, values never change.

    Numbers that come from outside the program (NaN, infinity) are refused.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
