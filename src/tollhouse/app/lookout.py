"""The lookout put together: what is unusual by the settings, who is told, and how a key is paused."""

import ipaddress
import logging
from typing import TYPE_CHECKING

from tollhouse.controlplane.pausing import pause
from tollhouse.controlplane.problems import Problem
from tollhouse.dataplane.head import FORWARDED_FOR, RequestHead
from tollhouse.dataplane.snapshot import Principal
from tollhouse.rules.anomalies import AnomalyRules, Watch
from tollhouse.rules.networks import client_address, network_of
from tollhouse.settings.notices import Anomalies
from tollhouse.terms.money import parse_usd
from tollhouse.workers import Lookout

if TYPE_CHECKING:
    from tollhouse.app.house import House

MAX_REASON_CHARS = 200

_log = logging.getLogger("tollhouse.anomalies")


def anomaly_rules(section: Anomalies) -> AnomalyRules:
    return AnomalyRules(
        spend_factor=section.spend_factor,
        spend_floor_nusd=parse_usd(section.spend_floor_usd),
        spend_hours=section.spend_hours,
        new_client_calls=section.new_client_calls,
        refusals=section.refusals,
        refusals_s=section.refusals_s,
        addresses=section.addresses,
        max_subjects=section.max_subjects,
    )


def start_lookout(house: "House") -> Lookout:
    """Watches the shipper and the connections of this house."""
    section = house.settings.anomalies
    trusted = [ipaddress.ip_network(proxy) for proxy in house.settings.listen.trusted_proxies]

    def called(key_id: str) -> str:
        """Seldom asked, so it may take a look at all keys."""
        keys = (secret.principal.key for secret in house.snapshot.by_digest.values())
        return next((key.name for key in keys if key.key_id == key_id and key.name), key_id)

    async def pause_key(key_id: str, reason: str) -> None:
        """As the management API does it; a key that is gone meanwhile needs no pause."""
        try:
            await pause(house.control, key_id, reason[:MAX_REASON_CHARS])
        except Problem as problem:
            _log.warning("the key %s was not paused: %s", key_id, problem.detail)

    lookout = Lookout(
        Watch(anomaly_rules(section), called),
        house.store.database,
        house.board.emit,
        pause_key,
        section.pause,
        history_days=section.history_days,
        history_rows=section.history_rows,
    )

    def seen(principal: Principal, head: RequestHead) -> None:
        forwarded_for = head.read.get(FORWARDED_FOR, b"").decode("latin-1")
        address = client_address(head.peer, forwarded_for, trusted) if forwarded_for else head.peer
        if address:
            lookout.seen(principal.key.key_id, principal.user.user_id, network_of(address))

    house.virtual_keys.seen = seen
    lookout.start()
    return lookout
