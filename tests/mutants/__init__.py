"""Faults that are put into the code on purpose, to see that the tests find every one: `python -m tests.mutants`."""
