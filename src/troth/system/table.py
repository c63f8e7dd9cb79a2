"""What all tables share: unknown keys and numbers that are not finite are errors, values never change after loading."""

from pydantic import BaseModel, ConfigDict


class Table(BaseModel):
    """Base of every table of a system file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
