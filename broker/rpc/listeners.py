"""The gRPC listeners: one that never asks for a client certificate, one that always does; gRPC knows no between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import grpc

from broker.ports import ServerTls, TlsMaterial

MAX_MESSAGE: Final = 64 * 1024
"""Longest request, in bytes."""

MAX_METADATA: Final = 16 * 1024
MAX_STREAMS: Final = 512
"""Calls on one connection: more than one caller, or one address that has not proved who calls, may have running at the
edge, so that those in excess are told so by the edge. gRPC breaks them off without a word, and its own clients do not
keep to the number while the server still counts calls that just ended."""

HANDSHAKE_MS: Final = 10_000
"""A connection that has not come as far as HTTP/2's first settings is hung up on; gRPC's own time is 2 minutes."""

IDLE_MS: Final = 60_000
"""A connection without a call is hung up on; a caller's next call connects anew, which takes milliseconds."""

AGE_GRACE_MS: Final = 60_000
"""Calls running when their connection reaches its age have this long: as long as a provider may take to answer."""

MAX_AGE_MS: Final = 490_000
"""gRPC adds up to a tenth to it at random; with that and the grace no connection lives longer than 10 minutes."""

OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_metadata_size", MAX_METADATA),
    ("grpc.absolute_max_metadata_size", MAX_METADATA),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
    ("grpc.max_connection_idle_ms", IDLE_MS),
    ("grpc.max_connection_age_ms", MAX_AGE_MS),
    ("grpc.max_connection_age_grace_ms", AGE_GRACE_MS),
    ("grpc.so_reuseport", 0),  # a second broker on the port is refused instead of taking half of its calls
)


@dataclass(frozen=True, slots=True)
class ListenerConfig:
    """One gRPC listener.

    Attributes:
        address: host:port; port 0 takes a free one.
        tls: what to serve, or None for plaintext; whether that may be was decided before.
        client_certificates: every client must show one that chains to the client CA bundle of `tls`.
        admin: the admin services answer here too.
    """

    address: str
    tls: ServerTls | None = None
    client_certificates: bool = False
    admin: bool = True


def add_port(server: grpc.aio.Server, config: ListenerConfig) -> int:
    """Bind the listener's address and return its port.

    Raises:
        OSError: the address cannot be had.
    """
    try:
        if config.tls is None:
            return server.add_insecure_port(config.address)
        return server.add_secure_port(config.address, credentials(config.tls, config.client_certificates))
    except RuntimeError:
        msg = f"cannot listen on {config.address}: in use, or not an address of this machine"
        raise OSError(msg) from None


def credentials(tls: ServerTls, client_certificates: bool) -> grpc.ServerCredentials:  # noqa: FBT001 - two kinds
    """Return server credentials that follow `tls`: a swap holds from the next handshake on."""
    first = tls.current()
    served = first.version

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        """Return what changed since the last handshake; called by gRPC's own threads, one at a time."""
        nonlocal served
        material = tls.current()
        if material.version == served:
            return None
        served = material.version
        return _configuration(material, client_certificates)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(first, client_certificates),
        fetch,  # type: ignore[arg-type]  # None means unchanged, which the stubs leave out
        require_client_authentication=client_certificates,
    )


def _configuration(material: TlsMaterial, client_certificates: bool) -> grpc.ServerCertificateConfiguration:  # noqa: FBT001
    return grpc.ssl_server_certificate_configuration(
        [(material.private_key.reveal().encode(), material.certificate_chain)],
        root_certificates=material.client_ca if client_certificates else None,
    )
