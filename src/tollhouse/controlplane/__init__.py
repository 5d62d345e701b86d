"""The management API: FastAPI under `/api/v1`."""
