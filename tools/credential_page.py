"""Writes docs/reference/credential-kinds.md: which credentials are known, and what is done with each, from the tables
that the gateway reads.

PYTHONPATH=src .venv/bin/python tools/credential_page.py
"""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from tollhouse.rules import consumer_sites
from tollhouse.rules.consumer_sites import SITES, Site
from tollhouse.rules.credential_rows import CredentialRow, Use
from tollhouse.rules.credential_table import REVIEWED, TABLE

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "credential-kinds.md"

HEAD = """\
# Kinds of credentials

Written by `tools/credential_page.py` from `rules/credential_table.py` and `rules/consumer_sites.py`; a test holds this
page to them. Reviewed {reviewed}.

A credential is known by its form alone; nobody is asked. What is not known is never refused: providers such as Mistral
give their keys no form. The table is read when settings are loaded, when a credential is stored, on every call whose
caller is not known, by `tollhouse doctor`, and by what masks secrets in the log.

* **upstream**: providers are called with it.
* **refused**: the login of a person. From a client it is answered 401 `subscription_token`; as a provider's credential
  it is not taken. OpenAI permits what Anthropic forbids; we relay neither.
* **unfit**: no model can be called with it, so it is not taken as a provider's credential.
"""

SITES_HEAD = """
## Sites for people

As the base URL of a provider they are refused like the logins they take. Reviewed {reviewed}.
"""


def page() -> str:
    lines = [HEAD.format(reviewed=REVIEWED)]
    for provider, rows in groupby(sorted(TABLE, key=_place), key=lambda row: row.provider):
        lines += [f"## {provider}", "", *_table(_rows(rows)), ""]
    sites_head = SITES_HEAD.format(reviewed=consumer_sites.REVIEWED).lstrip("\n")
    return "\n".join([*lines, sites_head, *_table(_sites()), ""])


def _place(row: CredentialRow) -> int:
    """Providers in the order of the table, a provider's rows together."""
    return next(place for place, other in enumerate(TABLE) if other.provider == row.provider)


def _rows(rows: Iterator[CredentialRow]) -> Iterator[tuple[str, ...]]:
    yield ("kind", "form", "what it is", "use", "way out", "seen in")
    for row in rows:
        use = f"**{row.use}**" if row.use is not Use.UPSTREAM else str(row.use)
        sure = " (a guess: named and masked only)" if row.guess else ""
        yield (f"`{row.kind}`", row.form, f"{row.what}{row.reason}{sure}", use, row.way_out, row.source)


def _sites() -> Iterator[tuple[str, ...]]:
    yield ("site", "hosts", "use instead", "seen in")
    for site in SITES:
        yield (site.name, _hosts(site), site.instead, site.source)


def _hosts(site: Site) -> str:
    some = [*(f"`{host}`" for host in site.hosts), *(f"`{name}` and below" for name in site.domains)]
    but = f"; not {', '.join(f'`{api}`' for api in site.apis)}" if site.apis else ""
    return ", ".join(some) + but


def _table(rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    head = next(rows)
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
