"""All tables: they are of one `metadata`, once every module that makes some has been imported, which happens here."""

from tollhouse.storage import (
    audit_tables,
    capture_tables,
    credential_tables,
    erasure_tables,
    notice_tables,
    sign_in_tables,
    tables,
)

ALL = (tables, sign_in_tables, credential_tables, capture_tables, erasure_tables, notice_tables, audit_tables)
"""Whoever makes tables."""

metadata = tables.metadata
