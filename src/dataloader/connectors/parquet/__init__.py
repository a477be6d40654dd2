"""Parquet: its columns as PostgreSQL has them, and its rows as the text that COPY takes."""
