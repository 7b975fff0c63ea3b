"""What commands can ask of learned orders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.errors import NotFound
from headrace.node.finding import find_mount, inside
from headrace.node.orders import OrderStore, parse

if TYPE_CHECKING:
    from headrace.node.service import Node, Progress

Params = dict[str, Any]


def _place(node: Node, path: str) -> tuple[str, OrderStore, str]:
    """For a directory in a mount: the mount's id, the orders of its bucket, and the directory as a key without its last slash."""
    mount_id, entry = find_mount(node, path)
    node.learning.keep(node.engine, mount_id)
    root = entry["prefix"].rstrip("/")
    return mount_id, node.learning.store(entry), "/".join(part for part in (root, *inside(entry, [path])) if part)


def list_orders(node: Node, params: Params, _: Progress) -> list[dict[str, Any]]:
    """What was learned of `directory` and below: for each directory (by key) its files, steps and bytes."""
    _mount, store, key = _place(node, params["directory"])
    found = store.newest(f"{key}/" if key else "")
    return [{"directory": name, "files": len(order.files), "steps": len(order.steps), "bytes": order.bytes} for name, order in found]


def get_order(node: Node, params: Params, _: Progress) -> dict[str, Any]:
    """The order learned of `directory`, as a document for `order.put` of any node."""
    _mount, store, key = _place(node, params["directory"])
    order = store.get(key)
    if order is None:
        known = ", ".join(name or "/" for name, _ in store.newest(f"{key}/" if key else "", 5)) or "none"
        raise NotFound("unknown", f"directory: nothing was learned of {params['directory']} (below it: {known}); load a model from it first")
    return order.document(key)


def put_order(node: Node, params: Params, _: Progress) -> dict[str, Any]:
    """Has the next load of `directory` go by `order`, a document of `order.get`. Answers its steps and bytes."""
    order = parse(params["order"])
    mount_id, store, key = _place(node, params["directory"])
    store.put(key, order)
    node.engine.follow(mount_id, key, order.files, order.steps)
    return {"steps": len(order.steps), "bytes": order.bytes}


def drop_order(node: Node, params: Params, _: Progress) -> dict[str, Any]:
    """Forgets what was learned of `directory` and below; answers how many orders."""
    mount_id, store, key = _place(node, params["directory"])
    names = [name for name, _ in store.newest(f"{key}/" if key else "")]
    for name in names:
        store.drop(name)
        node.engine.follow(mount_id, name, [], [])
    return {"orders": len(names)}


ORDER_METHODS = {"order.list": list_orders, "order.get": get_order, "order.put": put_order, "order.drop": drop_order}
