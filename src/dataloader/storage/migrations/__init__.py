"""The schema's history; `DDL.sql` at the root of the project is generated from it."""

from __future__ import annotations
