"""What commands can ask of learned orders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace._engine import Engine
from headrace.errors import NotFound, UsageError
from headrace.node.finding import find_mount, inside
from headrace.node.order_store import OrderStore
from headrace.node.orders import Order, merged, parse

if TYPE_CHECKING:
    from headrace.node.service import Node, Progress

Params = dict[str, Any]
# Names in an error.
_SHOWN = 3


def _place(node: Node, path: str) -> tuple[OrderStore, str]:
    """For a directory in a mount: the orders of its bucket, and the directory as a key without its last slash."""
    mount_id, entry = find_mount(node, path)
    node.learning.keep(node.engine, mount_id)
    root = entry["prefix"].rstrip("/")
    return node.learning.store(entry), "/".join(part for part in (root, *inside(entry, [path])) if part)


def _files_here(node: Node, path: str, order: Order) -> int:
    """How many files of an order a directory in a mount has, with the sizes that they had. Raises NotFound when it is none."""
    mount_id, entry = find_mount(node, path)
    snapshot = entry["slots"][str(node.engine.mount_current_slot(mount_id))]
    within = "".join(inside(entry, [path]))
    found = Engine.snapshot_stat(snapshot, within)
    if found is None or found["kind"] != "dir":
        raise NotFound(
            "unknown",
            f"directory: {path} is no directory in {entry['directory']} (snapshot {entry['snapshot']}); "
            f"check the spelling, or list the bucket again: `headrace refresh {entry['directory']}`",
        )
    sizes = Engine.snapshot_sizes(snapshot, [f"{within}/{name}" for name, _ in order.files])
    return sum(size == here for (_, size), here in zip(order.files, sizes, strict=True))


def list_orders(node: Node, params: Params, _: Progress) -> list[dict[str, Any]]:
    """What was learned of `directory` and below: for each directory (by key) its files, steps and bytes."""
    store, key = _place(node, params["directory"])
    found = store.newest(f"{key}/" if key else "")
    return [{"directory": name, "files": len(order.files), "steps": len(order.steps), "bytes": order.bytes} for name, order in found]


def get_order(node: Node, params: Params, _: Progress) -> dict[str, Any]:
    """The order learned of `directory`, as a document for `order.put` of any node."""
    store, key = _place(node, params["directory"])
    order = store.get(key)
    if order is None:
        known = ", ".join(name or "/" for name, _ in store.newest(f"{key}/" if key else "", 5)) or "none"
        raise NotFound("unknown", f"directory: nothing was learned of {params['directory']} (below it: {known}); load a model from it first")
    return order.document(key)


def put_order(node: Node, params: Params, _: Progress) -> dict[str, Any]:
    """Has the next load of `directory` go by `order`, a document of `order.get`, through every mount of the bucket, in place of what was learned.

    Answers its steps, bytes and files, and how many of the files are here. Refuses an order of which no file is.
    """
    order = merged(parse(params["order"]), None)
    store, key = _place(node, params["directory"])
    here = _files_here(node, params["directory"], order)
    if not here:
        names = ", ".join(name for name, _ in order.files[:_SHOWN])
        raise UsageError(
            "bad-order",
            f"order: none of its files ({names}{', …' if len(order.files) > _SHOWN else ''}) is in {params['directory']} with the size that it had; "
            "import it into the directory of the same model",
        )
    node.learning.put(node.engine, store, key, order)
    return {"steps": len(order.steps), "bytes": order.bytes, "files": len(order.files), "files_here": here}


def drop_order(node: Node, params: Params, _: Progress) -> dict[str, Any]:
    """Forgets what was learned of `directory` and below, through every mount of the bucket; answers how many orders."""
    store, key = _place(node, params["directory"])
    return {"orders": node.learning.drop(node.engine, store, key)}


ORDER_METHODS = {"order.list": list_orders, "order.get": get_order, "order.put": put_order, "order.drop": drop_order}
