"""The part of MemoryMonitor that tells of alerts."""

from __future__ import annotations

from memguard import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from memguard.alerts import Alerts


class Alerting(_core.Monitor):
    """Has `alerts`, made when first asked for."""

    def _set_up_alerts(self) -> None:
        self._alert_center: Alerts | None = None
        self._alerts_seen = 0  # number of the newest change told to listeners

    @property
    def alerts(self) -> Alerts:
        """Its alerts and the channels that carry them out."""
        if self._alert_center is None:
            from memguard.alerts import Alerts

            self._alert_center = Alerts(self)
        return self._alert_center

    def _take_alerts(self) -> list[dict[str, Any]]:
        """The changes that listeners were not told of yet."""
        import json

        told = json.loads(self._alerts(self._alerts_seen))
        self._alerts_seen = told["stats"]["changes"]
        changes: list[dict[str, Any]] = told["changes"]
        return changes

    def _close_alerts(self) -> None:
        if self._alert_center is not None:
            self._alert_center.close()

    def _renew_alerts(self) -> None:
        """In a forked child: what there is is the parent's to tell."""
        self._alerts_seen = self._alert_number()
        if self._alert_center is not None:
            self._alert_center._after_fork_in_child()
