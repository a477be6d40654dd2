"""What `dlt.run` is asked to load."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class DltRunArgs(BaseModel):
    """A dlt source, what to take of it, and the schema its tables go into."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$",
            max_length=500,
            description="`package.module:function`; the module must be allowed by DL_DLT_SOURCES.",
        ),
    ]
    source_args: Annotated[dict[str, Any], Field(description="Arguments of the function.")] = {}
    dataset: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,47}$", description="Schema of the tables.")]
    connection: Annotated[
        str | None, Field(min_length=1, description="A database in DL_CONNECTIONS; by default the service's own.")
    ] = None
    write_disposition: Annotated[
        Literal["append", "replace", "merge"] | None, Field(description="By default what the source says.")
    ] = None
    resources: Annotated[tuple[str, ...], Field(description="The only resources to load; by default all.")] = ()
    full_refresh: Annotated[bool, Field(description="Drop tables and state of what is loaded, load anew.")] = False

    @property
    def module(self) -> str:
        """The module of the source."""
        return self.source.partition(":")[0]

    @property
    def function(self) -> str:
        """The function of the source."""
        return self.source.partition(":")[2]

    @property
    def pipeline_name(self) -> str:
        """The name under which dlt keeps its state: the same for the same source, database and schema."""
        what = "\0".join((self.source, self.connection or "", self.dataset))
        name = re.sub(r"[^a-z0-9]+", "_", self.function.lower()).strip("_")[:30]
        return f"dl_{name}_{hashlib.sha256(what.encode()).hexdigest()[:12]}"
