"""The database: directory of people and keys, ledger, request log, migrations."""
