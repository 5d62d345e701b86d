"""The way to the providers: connection pool, provider rows, the embedded model."""
