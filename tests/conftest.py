"""For all tests: hypothesis measures no time here, since the machines are shared and noisy."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("shared", deadline=None)
settings.load_profile("shared")
