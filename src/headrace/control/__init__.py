"""The control plane: what should be (volumes, accelerations, tasks), for any number of nodes. It carries no byte of a model.

One folder a noun, each with the same few files: `models` (its tables, which nobody else touches), `service` (what can be done,
inside a transaction of the caller), `routes` (HTTP). What they share lies here.
"""
