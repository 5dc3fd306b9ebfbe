"""StageBase: a pipeline stage that owns a ResourceManager."""

from __future__ import annotations

from memguard import _life, _log
from memguard._core import ConfigTypeError
from memguard.manager import ResourceManager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Self


class StageBase(_life.Closing):
    """Base of a stage. Subclasses override initialize() and
    _cleanup_stage_specific().

    `config`: the stage's own mapping; its entry "resource_manager", if there is
    one, configures the manager and nothing else of it is looked at. Raises as
    ResourceManager does.
    """

    config: Mapping[str, Any]
    """The mapping the stage was given."""

    resource_manager: ResourceManager
    """The stage's own manager."""

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        self.config = {} if config is None else config
        if not hasattr(self.config, "get"):
            raise ConfigTypeError(f"config is {config!r}, allowed: a mapping")
        self.resource_manager = ResourceManager(self.config.get("resource_manager"))
        self._initialized = False

    def initialize(self) -> bool:
        """Makes the stage ready, also again after cleanup(). Returns True."""
        self.resource_manager._reopen()
        self._initialized = True
        return True

    def cleanup(self) -> None:
        """_cleanup_stage_specific(), then the manager's clean-up, then the stage
        is no longer initialized. What fails is logged and stops none of it."""
        try:
            self._cleanup_stage_specific()
        except Exception:
            _log.failure("clean-up of %s failed", type(self).__name__)
        finally:
            try:
                self.resource_manager.cleanup()
            finally:
                self._initialized = False

    def close(self) -> None:
        """cleanup(), and the end of the manager. Idempotent."""
        if not self.resource_manager.closed:
            try:
                self.cleanup()
            finally:
                self.resource_manager.close()

    def _cleanup_stage_specific(self) -> None:
        """For subclasses: gives back what the stage itself holds."""

    def __enter__(self) -> Self:
        self.initialize()
        return self
