"""What can be asked of the database, one module per topic; each takes the connection to ask on."""

from __future__ import annotations
