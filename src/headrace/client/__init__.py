"""The Python client of the control plane: its public API, and nothing else."""

from headrace.client.api import ControlClient, ControlFailure
from headrace.client.login import Login, remember, remembered

__all__ = ["ControlClient", "ControlFailure", "Login", "remember", "remembered"]
