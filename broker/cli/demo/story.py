"""The story: two services, one secret that neither of them ever has."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx2
import yaml

from broker.cli.demo.leak_search import forms_of, read_all, search
from broker.cli.demo.processes import Processes, Server
from broker.cli.errors import CommandError
from broker.cli.output import print_line

CLIENT_ID: Final = "desk-app"
CONFIG: Final = """\
revision: 1
providers:
  - {{name: aries, preset: aries, base_url: "{url}", insecure_loopback: true,
     scopes: {{withdraw: [withdraw]}}}}
clients:
  - {{name: desk, provider: aries, client_id: {client_id}, secret_env: BROKER_SECRET_DESK}}
grants:
  - {{name: desk-service, client: desk, type: client_credentials, scopes: [read, trade]}}
policies:
  - {{name: reports, callers: ["key:reports"], grants: [desk-service], scopes: [read]}}
  - {{name: orders, callers: ["key:orders"], grants: [desk-service], scopes: [read, trade]}}
limits:
  - {{name: per-caller, applies_to: get_token, key: [caller], rate: 50/s, burst: 100}}
"""
ORDER: Final = {
    "tradingAccountId": "TA-1001",
    "symbol": "AAPL",
    "side": "BUY",
    "type": "LIMIT",
    "qty": "1",
    "price": "200.00",
    "timeInForce": "DAY",
}


@dataclass
class Stage:
    """What the steps of the story share."""

    processes: Processes
    secret: str = field(default_factory=lambda: f"demo-secret-{secrets.token_hex(16)}", repr=False)
    address: str = ""
    url: str = ""
    tokens: list[str] = field(default_factory=list, repr=False)

    @property
    def data(self) -> Path:
        """The broker's data folder."""
        return self.processes.folder / "data"

    @property
    def operator(self) -> dict[str, str]:
        """The operator's environment: the broker's address, and the key its first start left in the data folder."""
        return {"BROKER_ADDRESS": self.address, "BROKER_DATA_DIR": str(self.data)}

    def service(self, name: str) -> dict[str, str]:
        """Return a service's environment: the broker's address and a credential of its own, and no secret."""
        return {"BROKER_ADDRESS": self.address, "BROKER_API_KEY": (self.processes.folder / name).read_text().strip()}


def tell(processes: Processes) -> None:
    """Tell the story from the first start to the last audit event.

    Raises:
        CommandError: a step went otherwise than told.
    """
    started = time.monotonic()
    stage = Stage(processes)
    print_line("Two services trade at Aries. Neither holds a client secret; the broker does.")
    _start_sandbox(stage)
    broker = _start_broker(stage)
    _set_up(stage)
    reading = _get_token(stage, "reports", "read")
    accounts = _call_api(stage, "GET", "/v2/users/me/accounts", reading)
    _expect(accounts.status_code == httpx2.codes.OK, "reading accounts")
    names = [account["trading_account_id"] for account in accounts.json()["accounts"]]
    _say("reports", "reads accounts", f"200, {', '.join(names)}")
    _say("reports", "asks for withdraw", f"REFUSED by the broker: {_refusal(stage, 'reports', 'withdraw')}")
    refused = _call_api(stage, "POST", "/v1/orders", reading)
    _expect(refused.status_code == httpx2.codes.FORBIDDEN, "the API's refusal of an order")
    _say("reports", "tries an order", "REFUSED by the API: 403, its token cannot do more than read")
    placed = _call_api(stage, "POST", "/v1/orders", _get_token(stage, "orders", "trade"))
    _expect(placed.is_success, "placing an order")
    _say("orders", "buys 1 AAPL", f"{placed.status_code}, order {placed.json().get('status')}")
    _show_audit(stage)
    _expect(processes.stop(broker) == 0, "ending the broker")
    _search_for_secret(stage, broker)
    print_line(f"done in {time.monotonic() - started:.0f} s; processes ended, folder removed")


def _start_sandbox(stage: Stage) -> None:
    provider = stage.processes.folder / "provider"
    provider.mkdir(mode=0o700)
    seed = provider / "seed.yaml"
    seed.write_text(yaml.safe_dump({"clients": [{"client_id": CLIENT_ID, "client_secret": stage.secret}]}))
    server = stage.processes.serve(
        "sandbox", "sandbox", "--port", "0", "--seed", str(seed), "--admin-token-file", str(provider / "token")
    )

    def find_url() -> str | None:
        _, ready, rest = server.read_log().partition("sandbox ready at ")
        return rest.partition(",")[0] if ready and "," in rest else None

    stage.url = stage.processes.wait_for(server, "sandbox", find_url)
    _say("sandbox", "stands in for Aries", stage.url)


def _start_broker(stage: Stage) -> Server:
    listening = dict.fromkeys(("BROKER_LISTEN", "BROKER_HTTP_LISTEN"), "127.0.0.1:0")
    server = stage.processes.serve("broker", "serve", environment={**listening, "BROKER_DATA_DIR": str(stage.data)})

    def find_address() -> str | None:
        lines = [json.loads(line) for line in server.read_log().splitlines(keepends=True) if line.endswith("}\n")]
        return next((str(line["listen"]) for line in lines if line.get("event") == "serving"), None)

    stage.address = stage.processes.wait_for(server, "broker", find_address)
    _say("broker", "started on SQLite", f"{stage.address}; made its own key-encryption key and admin key")
    return server


def _set_up(stage: Stage) -> None:
    """Apply broker.yaml with the secret in the operator's environment, and make each service a key of its own."""
    config = stage.processes.folder / "broker.yaml"
    config.write_text(CONFIG.format(url=stage.url, client_id=CLIENT_ID))
    environment = {**stage.operator, "BROKER_SECRET_DESK": stage.secret}
    applied = json.loads(_run(stage, environment, "apply", "-f", str(config), "--json"))
    _say("operator", "applies broker.yaml", ", ".join(applied["created"]))
    for name in ("reports", "orders"):
        key = stage.processes.folder / name
        key.touch(mode=0o600)
        key.write_text(_run(stage, stage.operator, "admin", "api-keys", "create", name))
    _say("operator", "makes API keys", "reports may read; orders may read and trade")


def _get_token(stage: Stage, service: str, scope: str) -> str:
    token = json.loads(_run(stage, stage.service(service), "token", "get", "--scope", scope, "--json"))
    stage.tokens.append(token["access_token"])
    carried = f"{token['lifetime']:.0f} s, {token['narrowing']}, fingerprint {token['fingerprint'][:12]}"
    _say(service, f"asks for {scope}", f"a token: {carried}")
    return str(token["access_token"])


def _refusal(stage: Stage, service: str, scope: str) -> str:
    """Ask for what policy does not allow, and return how the broker put it."""
    ended = stage.processes.call("token", "get", "--scope", scope, environment=stage.service(service))
    _expect(ended.returncode != 0 and "POLICY_DENIED" in ended.stderr, f"the refusal of {scope}")
    return ended.stderr.strip().removeprefix("error: ")


def _call_api(stage: Stage, verb: str, path: str, token: str) -> httpx2.Response:
    body = ORDER if verb == "POST" else None
    with httpx2.Client(base_url=stage.url, trust_env=False) as api:
        reply = api.request(verb, path, json=body, headers={"Authorization": f"Bearer {token}"})
    stage.processes.replies.append(reply.content)
    return reply


def _show_audit(stage: Stage) -> None:
    events = json.loads(_run(stage, stage.operator, "admin", "audit", "tail", "-n", "6", "--json"))
    _expect(bool(events), "the audit log")
    print_line("the last audit events:")
    for event in events:
        fields = event["fields"]
        shown = [f"{name}={fields[name]}" for name in ("grant", "scopes", "narrowing", "reason") if name in fields]
        print_line(f"  {event['time'][11:19]} {event['action']:<13} {event['actor']:<13} {' '.join(shown)}")


def _search_for_secret(stage: Stage, broker: Server) -> None:
    """Search the data folder, the broker's log and every reply; a search that finds nothing at all proves nothing."""
    replies = {f"reply {number}": reply for number, reply in enumerate(stage.processes.replies)}
    kept = {**read_all(stage.data), "log": broker.log.read_bytes()}
    _expect(bool(search(kept, [CLIENT_ID.encode()])), "finding the client id, which may be there")
    leaks = search({**kept, **replies}, forms_of(stage.secret, CLIENT_ID))
    leaks += search(kept, [token.encode() for token in stage.tokens])
    _expect(not leaks, f"keeping the secret: it is in {', '.join(leaks)}")
    _say("search", "for secret and tokens", f"{len(kept) - 1} files, the log, {len(replies)} replies: not there")


def _run(stage: Stage, environment: dict[str, str], *arguments: str) -> str:
    ended = stage.processes.call(*arguments, environment=environment)
    _expect(ended.returncode == 0, f"aries-broker {arguments[0]}: {ended.stderr.strip()}")
    return ended.stdout


def _say(who: str, does: str, outcome: str) -> None:
    print_line(f"{who:<9} {does:<22} {outcome}")


def _expect(fact: bool, what: str) -> None:  # noqa: FBT001 - reads like assert
    if not fact:
        message = f"the story went wrong at {what}"
        raise CommandError(message)
