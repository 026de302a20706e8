"""A provider frozen since discovery moved its endpoints works again when an operator says so."""

from __future__ import annotations

import pytest

from broker.core.audit import Action
from broker.core.errors import InvalidRequestError, NotFoundError
from broker.core.freeze import frozen_reason
from broker.core.secret import Secret
from broker.flows import unfreeze_provider
from broker.flows.add_secret import AddFirstSecret
from tests.flows.admin.kit import FROZEN, AdminKit, trail


async def test_it_accepts_what_discovery_named_the_last_time(kit: AdminKit) -> None:
    """The endpoints shown are used from then on, nobody is asked, and what is sealed for the old ones is named."""
    await kit.freeze()
    asked = kit.discovery.asked
    done = await kit.unfreeze("corp", trail())
    provider = (await kit.catalog()).providers["corp"]
    assert (False, None, "https://new.example/token") == (provider.frozen, provider.moved, provider.token_url)
    assert ("https://new.example", asked) == (done.token_origin, kit.discovery.asked)
    assert done.left_to_do == (
        "aries-broker admin clients add-secret desk",
        "aries-broker admin grants import person --replace",
    )
    event = (await kit.events())[-1]
    assert (Action.PROVIDER_UNFREEZE, "corp", "provider", "corp", "token endpoint at https://new.example") == (
        event.action,
        event.provider,
        event.object_kind,
        event.object_name,
        event.detail,
    )


async def test_it_stays_unfrozen(kit: AdminKit) -> None:
    """The file once more, also a later revision of it, asks discovery, finds what was accepted and freezes nothing."""
    await kit.freeze()
    await kit.unfreeze("corp", trail())
    text = FROZEN.replace("LISTED", ", endpoint_origins: ['https://new.example']")
    for revision in (2, 3):
        applied = await kit.apply(text.replace("revision: 1", f"revision: {revision}"))
        assert ((), ()) == (applied.updated, applied.warnings)
    assert not (await kit.catalog()).providers["corp"].frozen


async def test_secrets_can_be_entered_for_the_new_origin(kit: AdminKit) -> None:
    """The command it names works: a secret sealed for the former origin is no obstacle."""
    await kit.freeze()
    await kit.unfreeze("corp", trail())
    add = AddFirstSecret(catalogs=kit.store, first_secrets=kit.first_secrets)
    assert 2 == await add("desk", Secret("anew"), trail())


async def test_an_origin_that_is_not_allowed_has_to_be_listed_first(kit: AdminKit) -> None:
    """Unfreezing widens no configuration: the file has to list the origin, and then it is accepted."""
    await kit.freeze(listed=False)
    with pytest.raises(InvalidRequestError) as caught:
        await kit.unfreeze("corp", trail())
    assert "at https://new.example: if that is right, list it in `endpoint_origins`" in caught.value.fields["name"]
    assert (await kit.catalog()).providers["corp"].frozen
    text = FROZEN.replace("LISTED", ", endpoint_origins: ['https://new.example']")
    await kit.apply(text.replace("revision: 1", "revision: 3"))
    assert "https://new.example" == (await kit.unfreeze("corp", trail())).token_origin


async def test_one_that_moved_back_keeps_its_endpoints(kit: AdminKit) -> None:
    """Discovery that names the former place again leaves the provider frozen, and nothing new to be accepted."""
    await kit.freeze()
    kit.discovery.published["https://id.example"] = {"token_endpoint": "https://id.example/token"}
    text = FROZEN.replace("LISTED", ", endpoint_origins: ['https://new.example']")
    await kit.apply(text.replace("revision: 1", "revision: 3"))
    frozen = (await kit.catalog()).providers["corp"]
    assert "named endpoints at another origin" in frozen_reason(frozen)
    done = await kit.unfreeze("corp", trail())
    assert ("https://id.example", ()) == (done.token_origin, done.left_to_do)
    assert "https://id.example/token" == (await kit.catalog()).providers["corp"].token_url


async def test_only_so_many_grants_are_named(kit: AdminKit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many grants to be authorized again the first are named, the others counted."""
    monkeypatch.setattr(unfreeze_provider, "TOLD", 0)
    await kit.freeze()
    assert "the same for 1 grants more" in (await kit.unfreeze("corp", trail())).left_to_do[-1]


async def test_what_is_not_frozen_is_refused(kit: AdminKit) -> None:
    """A provider that works, or is not there, is no provider to unfreeze."""
    await kit.freeze()
    await kit.unfreeze("corp", trail())
    with pytest.raises(InvalidRequestError):
        await kit.unfreeze("corp", trail())
    with pytest.raises(NotFoundError) as caught:
        await kit.unfreeze("nobody", trail())
    assert {"kind": "provider", "name": "nobody"} == caught.value.metadata


async def test_freezing_is_told_and_recorded(kit: AdminKit) -> None:
    """The warning says what is named and the command; the event of the apply says what it froze."""
    applied = await kit.freeze()
    expected = (
        "provider/corp: discovery names the token endpoint at https://new.example instead of https://id.example; they "
        "stay as they were, and the provider is frozen: if this is right, run "
        "`aries-broker admin providers unfreeze corp`"
    )
    assert (expected,) == applied.warnings
    assert (await kit.events())[-1].detail.startswith("froze provider/corp; ")


async def test_a_put_that_freezes_says_so(kit: AdminKit) -> None:
    """Also a provider put by RPC tells its freeze, in the reply and in its event."""
    await kit.freeze()
    await kit.unfreeze("corp", trail())
    kit.discovery.published["https://id.example"] = {"token_endpoint": "https://third.example/token"}
    put = await kit.put(
        "revision: 1\nproviders: [{name: corp, preset: generic, issuer: 'https://id.example'}]", detach=True
    )
    assert "unfreeze corp" in put.warnings[0]
    assert (await kit.events())[-1].detail.endswith("; froze it")


async def test_the_same_file_again_leaves_what_was_found(kit: AdminKit) -> None:
    """A frozen provider is no difference: its file applied once more changes nothing, and it can still be unfrozen."""
    await kit.freeze()
    text = FROZEN.replace("LISTED", ", endpoint_origins: ['https://new.example']")
    assert () == (await kit.apply(text.replace("revision: 1", "revision: 2"))).updated
    assert "https://new.example" == (await kit.unfreeze("corp", trail())).token_origin
