"""Proof by killing: real worker processes, real signals, a real server, and checks that read what is left."""

from __future__ import annotations
