"""Wire languages, sans-IO: bytes in, facts and bytes out."""
