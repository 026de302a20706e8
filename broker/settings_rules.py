"""Which settings go together: one pure function over all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Final

from broker.core.listening import AdminOn, is_loopback, plaintext_problem

if TYPE_CHECKING:
    from broker.settings import Settings

PREFIX: Final = "BROKER_"


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong and what to do, at the variables it is about."""

    variables: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{', '.join(self.variables)}: {self.text}"


def cross_check(settings: Settings) -> Iterator[Problem]:
    """Yield what does not fit together; looks at nothing but the settings."""
    yield from _tls_problems(settings)
    yield from _listener_problems(settings)
    yield from _page_problems(settings)
    yield from _key_problems(settings)


def _tls_problems(settings: Settings) -> Iterator[Problem]:
    if (settings.tls_cert is None) != (settings.tls_key is None):
        yield problem("a certificate and its key go together: set both", "tls_cert", "tls_key")
    if settings.mtls_listen and not (settings.tls_cert and settings.tls_client_ca):
        text = "a listener for client certificates needs BROKER_TLS_CERT, BROKER_TLS_KEY and BROKER_TLS_CLIENT_CA"
        yield problem(text, "mtls_listen", "tls_cert", "tls_client_ca")
    if settings.tls_client_ca and not settings.trust_domain:
        text = "say whose client certificates these authorities sign: set BROKER_TRUST_DOMAIN, as in corp.example"
        yield problem(text, "tls_client_ca", "trust_domain")
    if settings.trust_domain and not settings.tls_client_ca:
        text = "a trust domain needs the authorities of its certificates: set BROKER_TLS_CLIENT_CA"
        yield problem(text, "trust_domain", "tls_client_ca")
    if settings.tls_client_ca and not settings.mtls_listen:
        text = "client certificates are asked for on a listener of their own: set BROKER_MTLS_LISTEN"
        yield problem(text, "tls_client_ca", "mtls_listen")


def _listener_problems(settings: Settings) -> Iterator[Problem]:
    if settings.tls_cert is None and (
        text := plaintext_problem(
            settings.listen, insecure_flag=settings.insecure_plaintext, allowed_address=settings.allow_plaintext
        )
    ):
        yield problem(text, "listen", "tls_cert", "allow_plaintext")
    if settings.admin_on in {AdminOn.MTLS, AdminOn.BOTH} and not settings.mtls_listen:
        text = "there is no such listener: set BROKER_MTLS_LISTEN, or write listen"
        yield problem(text, "admin_on", "mtls_listen")
    for one, other in combinations(("listen", "mtls_listen", "http_listen", "public_listen"), 2):
        address = getattr(settings, one)
        if address and address == getattr(settings, other) and not address.endswith(":0"):
            yield problem("two listeners cannot share an address: change one", one, other)


def _page_problems(settings: Settings) -> Iterator[Problem]:
    if settings.public_listen and not settings.public_url:
        text = "say where people reach the pages: set BROKER_PUBLIC_URL, as in https://broker.example"
        yield problem(text, "public_listen", "public_url")
    plain = bool(settings.public_url and settings.public_url.startswith("http:"))
    if plain and settings.public_listen and not is_loopback(settings.public_listen):
        text = "pages that others can reach are reached by https: put them behind something that speaks TLS"
        yield problem(text, "public_url", "public_listen")


def _key_problems(settings: Settings) -> Iterator[Problem]:
    if not settings.kek and not settings.makes_own_keys:
        text = (
            "a key-encryption key is made by itself only for SQLite on loopback: "
            "name one, as in file:PATH (`aries-broker keys new-kek PATH` makes it)"
        )
        yield problem(text, "kek", "database_url", "listen", "mtls_listen", "http_listen", "public_listen")
    local = any(kek.startswith("file:") for kek in settings.kek)
    if local and not settings.on_loopback and not settings.allow_local_kek:
        text = (
            "a key file beside the data protects less than a key service; if you mean it, BROKER_ALLOW_LOCAL_KEK=true"
        )
        yield problem(text, "kek", "listen", "mtls_listen", "http_listen", "public_listen", "allow_local_kek")


def problem(text: str, *fields: str) -> Problem:
    """Return a problem at the variables of some fields."""
    return Problem(tuple(variable(name) for name in fields), text)


def variable(field: str) -> str:
    """Return the name of a field's environment variable."""
    return PREFIX + field.upper()
