"""Grants, API keys and audit events as operators see them."""

from __future__ import annotations

from dataclasses import fields

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from aries.broker.admin.v1 import audit_pb2, grants_pb2, keys_pb2
from broker.core.audit import AuditEvent
from broker.core.models import ApiKey, Grant
from broker.flows.read_config import ShownGrant
from broker.ports import AttemptRecord, StoredAccessToken, Suspect


def shown_grant(shown: ShownGrant) -> grants_pb2.GrantStatus:
    """Return what operators see of a grant, and why its provider is frozen."""
    status = grant_status(shown.grant)
    status.provider_frozen = shown.provider_frozen
    return status


def grant_status(grant: Grant) -> grants_pb2.GrantStatus:
    """Return what operators see of a grant by itself."""
    state = grant.state
    return grants_pb2.GrantStatus(
        name=grant.name,
        client=grant.client,
        type=grant.type.value,
        scopes=sorted(grant.scopes),
        phase=state.phase.value,
        health=state.health.value,
        hold=state.hold.value,
        generation=state.generation,
        epoch=state.epoch,
        consented=state.current is not None,
        origin=grant.origin.value,
        failures=state.failures,
        in_doubt=state.first_sent_at is not None,
        subject=grant.subject or "",
        person=grant.person or "",
    )


def live_token(token: StoredAccessToken) -> grants_pb2.LiveToken:
    """Return what is told of an access token that lives."""
    remaining = Duration()
    remaining.FromMilliseconds(token.remaining_ms)
    return grants_pb2.LiveToken(fingerprint=token.fingerprint, provider_scopes=token.granted, remaining=remaining)


def suspect_message(suspect: Suspect) -> grants_pb2.Suspect:
    """Return a suspect, and why it is one."""
    found_at = Timestamp()
    found_at.FromDatetime(suspect.found_at)
    return grants_pb2.Suspect(
        name=suspect.grant,
        attempt=suspect.known.attempt,
        evidence_attempt=suspect.evidence.attempt,
        generation=suspect.known.generation,
        evidence_generation=suspect.evidence.generation,
        found_at=found_at,
    )


def attempt_message(record: AttemptRecord) -> grants_pb2.Attempt:
    """Return one line of a grant's history."""
    recorded_at = Timestamp()
    recorded_at.FromDatetime(record.recorded_at)
    return grants_pb2.Attempt(
        attempt=record.attempt,
        owner=record.owner,
        secret_version=record.secret_version,
        outcome=record.outcome,
        cause=record.cause,
        recorded_at=recorded_at,
    )


def api_key_message(key: ApiKey) -> keys_pb2.ApiKey:
    """Return an API key's public part."""
    return keys_pb2.ApiKey(id=key.id, name=key.name, disabled=key.disabled)


def event_message(event: AuditEvent) -> audit_pb2.Event:
    """Return an audit event; empty fields and a count of one are left out."""
    time = Timestamp()
    time.FromDatetime(event.time)
    rest = {item.name: str(getattr(event, item.name)) for item in fields(event)}
    shown = {
        name: text
        for name, text in rest.items()
        if name not in {"time", "action", "actor"} and text and (name, text) != ("count", "1")
    }
    return audit_pb2.Event(time=time, action=event.action.value, actor=event.actor, fields=shown)
