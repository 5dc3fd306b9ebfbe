"""FastAPI: see memguard.integrations.starlette, which this is another name of."""

from __future__ import annotations

from memguard.integrations.starlette import init_app

__all__ = ["init_app"]
