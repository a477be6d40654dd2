"""Arguments that the commands on jobs share."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from typer import Argument

JobId = Annotated[UUID, Argument(metavar="JOB_ID", help="Id of the job.", show_default=False)]
JobIds = Annotated[list[UUID], Argument(metavar="JOB_ID...", help="Ids of jobs.", show_default=False)]
