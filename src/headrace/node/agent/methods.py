"""What commands ask the node for that concerns the control plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.node.service import Node, Progress


def join(node: Node, params: dict[str, Any], _: Progress) -> dict[str, Any]:
    """Joins a region of the control plane at `url` with a join `token`, under a `name` (the machine's by default) and with `labels`.

    `certificates`: path of a file of authorities to trust in place of the system's. Answers `url`, `region`, `node_id`, and whether the
    control plane is `heard`. From then on the node does what the control plane asks, also after a restart, and does not end by itself.
    """
    return node.membership.join(params["url"], params["token"], params.get("name"), dict(params.get("labels") or {}), params.get("certificates"))


def leave(node: Node, _params: dict[str, Any], _: Progress) -> dict[str, Any]:
    """Forgets the control plane; what is cached stays until its room is needed. Answers what the node was there."""
    return node.membership.leave()


CONTROL_METHODS = {"control.join": join, "control.leave": leave}
