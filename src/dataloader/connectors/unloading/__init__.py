"""Tables as files: parts written one by one, and a manifest that makes them one unload."""

from __future__ import annotations

from dataloader.connectors.unloading.copying import Cut, copy_part, row_bytes
from dataloader.connectors.unloading.form import Compression, Csv, Form, Parquet
from dataloader.connectors.unloading.part import Part, Place
from dataloader.connectors.unloading.target import AnyShelf, open_shelf

__all__ = [
    "AnyShelf",
    "Compression",
    "Csv",
    "Cut",
    "Form",
    "Parquet",
    "Part",
    "Place",
    "copy_part",
    "open_shelf",
    "row_bytes",
]
