"""Who an issuer vouches for, as a user here.

An identity, issuer and subject together, is its user's for good. One that is new gets an account of its own, and takes
over one that is there only where

    the issuer says that the e-mail address is verified, and
    the operator trusts this issuer with that (`link_by_email`), and
    the account's own address is known to be its user's: an invitation or another issuer says so, or an admin wrote it.

Without the last, somebody could sign up with another's address and wait for them to move in. Where the issuer names
users, a name leads to an account that nobody signs in to yet and that is no admin's: names are given to others again.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection

from tollhouse.controlplane.problems import Problem
from tollhouse.controlplane.sign_in.book import Browser, SignedIn
from tollhouse.controlplane.sign_in.doorkeeper import Doorkeeper
from tollhouse.controlplane.sign_in.fetching import IssuerError
from tollhouse.controlplane.sign_in.issuers import MAX_SUBJECT_CHARS, IssuerOptions
from tollhouse.controlplane.sign_in.notes import note
from tollhouse.rules.claims import Claimed, read_claims
from tollhouse.storage import directory
from tollhouse.storage.passwords import (
    Identity,
    get_identity,
    holders_of_email,
    is_known_address,
    put_identity,
    signs_in,
)
from tollhouse.storage.provision import provision
from tollhouse.terms.people import Role


async def arrive(keeper: Doorkeeper, options: IssuerOptions, claims: Mapping[str, Any], browser: Browser) -> SignedIn:
    """Sign in somebody whose claims are believed. Raises IssuerError, and Problem for who is not let in."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT_CHARS:
        raise IssuerError("the claims do not say who it is (sub)")
    try:
        claimed = read_claims(claims, options.rules)
    except ValueError as error:
        raise Problem(403, "not_admitted", f"You cannot sign in here: {error}.") from None
    if not claimed.verified:
        claimed = msgspec.structs.replace(claimed, email="")  # it may be anybody's
    now_ns = keeper.now_ns()

    def write(connection: Connection) -> tuple[str, bool]:
        known = get_identity(connection, options.issuer, subject)
        user_id = known.user_id if known is not None else _whose(keeper, connection, options, claimed)
        try:
            user, changed = provision(connection, msgspec.structs.replace(claimed, user_id=user_id), now_ns)
        except ValueError as error:
            raise Problem(403, "not_admitted", f"You cannot sign in here: {error}.") from None
        put_identity(connection, Identity(options.issuer, subject, user_id, claimed.email, now_ns, now_ns))
        return user.user_id, changed

    user_id, changed = await keeper.database.run(write)
    if changed:
        note("provisioned", user_id=user_id, address=browser.address, by=options.name)
        await keeper.changed(user_id)
    return await keeper.begin(user_id, browser, options.name)


def _whose(keeper: Doorkeeper, connection: Connection, options: IssuerOptions, claimed: Claimed) -> str:
    """The user of an identity that is new. Raises Problem."""
    named = directory.get_user(connection, claimed.user_id) if claimed.user_id else None
    if named is not None:  # the operator lets this issuer name users (`user_claim`)
        if named.role in (Role.OWNER, Role.ADMIN) or signs_in(connection, named.user_id):
            raise _taken("name")
        return named.user_id
    holders = holders_of_email(connection, claimed.email) if claimed.email else ()
    if holders:
        return _linked(connection, options, claimed.email, holders)
    if not options.sign_up:
        raise Problem(403, "sign_up_closed", "Accounts are made by invitation here. Ask the operator for one.")
    return claimed.user_id or keeper.new_user_id()


def _linked(connection: Connection, options: IssuerOptions, email: str, holders: tuple[str, ...]) -> str:
    user = directory.get_user(connection, holders[0])
    if (
        options.link_by_email
        and len(holders) == 1
        and user is not None
        and user.role is not Role.SERVICE
        and is_known_address(connection, user.user_id, email)
    ):
        return user.user_id
    raise _taken("e-mail address")


def _taken(what: str) -> Problem:
    detail = f"There is an account of your {what} here, and it signs in another way. Use that, or ask the operator."
    return Problem(409, "account_taken", detail)
