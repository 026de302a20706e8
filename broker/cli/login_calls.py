"""AuthorizationService as a person's command calls it: one login from its start to its end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf.duration_pb2 import Duration

from aries.broker.v1 import authorization_pb2, authorization_pb2_grpc
from aries_broker import BrokerError, ConfigurationError
from broker.cli.access import Broker
from broker.cli.login_texts import AWAY, NOT_CANCELLED, STAGES, describe_cancelled
from broker.cli.progress import Progress

WAIT: Final = 20
"""Seconds the broker is asked to wait for news at a time."""
PATIENCE: Final = 1.0
"""Seconds between two tries while the broker is away; more, up to `WAIT`, where it says so."""
_AWAY: Final = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


@dataclass(frozen=True, slots=True)
class Login:
    """A login that was started.

    Attributes:
        started: what the broker answered to the start; it opens the login, and is for the person alone.
        gives_up_at: when a broker that is away is not waited for any more, by the monotonic clock.
    """

    broker: Broker
    stub: authorization_pb2_grpc.AuthorizationServiceStub
    progress: Progress
    started: authorization_pb2.StartAuthorizationResponse
    gives_up_at: float

    @classmethod
    def start(cls, broker: Broker, request: authorization_pb2.StartAuthorizationRequest, progress: Progress) -> Login:
        """Start a login.

        Raises:
            BrokerError: it was refused.
        """
        stub = authorization_pb2_grpc.AuthorizationServiceStub(broker.channel)
        started = broker.call(stub.StartAuthorization, request)
        return cls(broker, stub, progress, started, time.monotonic() + started.lifetime.seconds)

    def follow(self) -> authorization_pb2.Authorization:
        """Wait for the end, and show how far it is; a broker that is away for a while is waited for.

        Raises:
            BrokerError: the broker does not tell, or stays away.
        """
        told = self._look(wait=0)
        while told.state in STAGES:
            self.progress.show(STAGES[told.state])
            told = self._look(WAIT)
        return told

    def bring(self, code: str) -> authorization_pb2.Authorization:
        """Bring the provider's code of a direct login, once, and wait for the end.

        Raises:
            BrokerError: the broker did not take it, or stays away.
        """
        self.progress.show(STAGES[authorization_pb2.AUTHORIZATION_STATE_EXCHANGING])
        direct = authorization_pb2.DirectCode(
            flow_id=self.started.flow_id, code=code, redirect_uri=self.started.direct.redirect_uri
        )
        request = authorization_pb2.CompleteAuthorizationRequest(direct=direct)
        try:
            told = self.broker.call(self.stub.CompleteAuthorization, request).authorization
        except BrokerError as error:
            # The answer may be lost, or late, and the code taken all the same.
            if error.status not in _AWAY or self._look(wait=0).state == authorization_pb2.AUTHORIZATION_STATE_STARTED:
                raise
            return self.follow()
        return self.follow() if told.state in STAGES else told

    def cancel(self) -> str:
        """Cancel the login, and return what became of that."""
        request = authorization_pb2.CancelAuthorizationRequest(flow_id=self.started.flow_id)
        try:
            return describe_cancelled(self.broker.call(self.stub.CancelAuthorization, request).authorization)
        except (BrokerError, ConfigurationError):
            return NOT_CANCELLED

    def _look(self, wait: int) -> authorization_pb2.Authorization:
        """Return how the login stands, once it got further or so many seconds are over."""
        request = authorization_pb2.GetAuthorizationRequest(flow_id=self.started.flow_id, wait=Duration(seconds=wait))
        while True:
            try:
                return self.broker.call(self.stub.GetAuthorization, request).authorization
            except BrokerError as error:
                if error.status not in _AWAY or time.monotonic() > self.gives_up_at:
                    raise
                self.progress.show(AWAY)
                time.sleep(min(max(PATIENCE, error.retry_after or 0.0), WAIT))
