"""Secrets at rest: sealed with AES-GCM under data keys, which are sealed under a master key that the database never sees."""

from headrace.control.vault.master import MasterKey, open_master
from headrace.control.vault.service import Vault

__all__ = ["MasterKey", "Vault", "open_master"]
