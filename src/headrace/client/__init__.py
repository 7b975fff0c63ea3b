"""The Python client of the control plane: its public API, and nothing else."""

from headrace.client.api import ControlClient, ControlFailure
from headrace.client.login import Keeping, Login, remember, remembered

__all__ = ["ControlClient", "ControlFailure", "Keeping", "Login", "remember", "remembered"]
