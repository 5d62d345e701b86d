"""Alembic's environment: always a connection handed in by `migrate`, always in its transaction."""

from alembic import context

from tollhouse.storage.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
