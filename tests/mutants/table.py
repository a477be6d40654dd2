"""All mutants."""

from __future__ import annotations

from tests.mutants.functions import FUNCTION_MUTANTS
from tests.mutants.loads import LOADS
from tests.mutants.parts import PARTS
from tests.mutants.statements import STATEMENTS

MUTANTS = (*STATEMENTS, *FUNCTION_MUTANTS, *PARTS, *LOADS)
