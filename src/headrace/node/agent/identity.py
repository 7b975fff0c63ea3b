"""Who this node is to the control plane: told once, when it joined, and kept in a file that only its user can read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from headrace.errors import UsageError
from headrace.node.agent.disk import write_private

_NAME = "identity.json"


@dataclass(frozen=True)
class Identity:
    """A node's place in a region; `certificates` is a file of authorities to trust in place of the system's."""

    url: str
    node_id: str
    region: str
    token: str = field(repr=False)
    certificates: str | None = None


def kept(directory: Path) -> Identity | None:
    """The identity that is kept in a directory; None where the node has not joined. Raises UsageError for a file that can't be read."""
    path = directory / _NAME
    try:
        said = json.loads(path.read_bytes())
        certificates = said["certificates"]
        url, node_id, region, token = (str(said[name]) for name in ("url", "node_id", "region", "token"))
        return Identity(url, node_id, region, token, None if certificates is None else str(certificates))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            "bad-identity", f"identity: {path} can't be read ({type(error).__name__}); run `headrace node leave`, then join again with a new token"
        ) from None


def keep(directory: Path, identity: Identity) -> None:
    write_private(directory / _NAME, json.dumps(asdict(identity)).encode())


def forget(directory: Path) -> None:
    (directory / _NAME).unlink(missing_ok=True)
