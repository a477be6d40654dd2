"""Tables as files of this machine: parts written one by one, and put in place all at once."""

from __future__ import annotations

from dataloader.connectors.unloading.copying import Cut, copy_part, row_bytes
from dataloader.connectors.unloading.part import Csv, Part, Place
from dataloader.connectors.unloading.place import check_target

__all__ = ["Csv", "Cut", "Part", "Place", "check_target", "copy_part", "row_bytes"]
