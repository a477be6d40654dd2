"""What no linter knows: documents, code and schema say the same."""

from __future__ import annotations
