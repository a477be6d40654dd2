"""Two sessions at the same jobs: every order of their statements that matters, driven with real locks."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(f"{__name__}.orders", f"{__name__}.rules")
