"""Every change: what happened to which object, when, who did it and why."""

from headrace.control.events.service import record

__all__ = ["record"]
