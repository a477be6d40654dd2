"""Files as loads read them: where they lie, how they are packed, and blocks of their bytes from any offset on."""

from __future__ import annotations

from dataloader.connectors.files.access import FileAccess, open_files
from dataloader.connectors.files.content import Content, open_content
from dataloader.connectors.files.reach import Reach
from dataloader.connectors.files.source import FileVersion, SourceFile

__all__ = ["Content", "FileAccess", "FileVersion", "Reach", "SourceFile", "open_content", "open_files"]
