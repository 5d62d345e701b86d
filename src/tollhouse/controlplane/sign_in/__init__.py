"""Signing in: passwords, sessions, invitations, OpenID Connect, and the few pages that work without a script."""
