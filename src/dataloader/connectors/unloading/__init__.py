"""Tables as files: parts written one by one, and a manifest that makes them one unload."""

from __future__ import annotations

from dataloader.connectors.unloading.copying import Cut, copy_part, row_bytes
from dataloader.connectors.unloading.form import Csv
from dataloader.connectors.unloading.part import Part, Place
from dataloader.connectors.unloading.target import AnyShelf, open_shelf

__all__ = ["AnyShelf", "Csv", "Cut", "Part", "Place", "copy_part", "open_shelf", "row_bytes"]
