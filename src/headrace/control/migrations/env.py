"""Run by Alembic; the connection, and the transaction around it, are the caller's."""

from alembic import context

from headrace.control import tables

context.configure(connection=context.config.attributes["connection"], target_metadata=tables.metadata, render_as_batch=True)
context.run_migrations()
