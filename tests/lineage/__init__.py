"""Loads through a real worker into a real PostgreSQL."""
