from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.adapters.keys.kek import Kek
from broker.adapters.keys.keyring import Keyring, open_keyring
from broker.core.errors import StoreUnavailableError
from broker.core.models import AccessTokenKey
from broker.core.sealing import Binding, Sealed, access_token_binding, client_secret_binding, refresh_token_binding
from broker.core.secret import Secret
from broker.ports import KeyPurpose, KeyState, SealBrokenError, UnknownMacKeyError
from tests.adapters.keys.support import Rows

TOKEN = Secret("rt-canary-4711")
BINDING = refresh_token_binding("g1", 2, 7, "https://auth.example:443")


@pytest.mark.parametrize("text", ["x", "rt-canary-4711", "ü" * 5000, "lone \ud800 surrogate"])
async def test_what_is_sealed_opens_under_its_binding(keyring: Keyring, text: str) -> None:
    """Any text a provider may send comes back as it was."""
    sealed = await keyring.seal(Secret(text), BINDING)
    assert text == (await keyring.open(sealed, BINDING)).reveal()


@pytest.mark.parametrize(
    "other",
    [
        refresh_token_binding("g2", 2, 7, "https://auth.example:443"),
        refresh_token_binding("g1", 3, 7, "https://auth.example:443"),
        refresh_token_binding("g1", 2, 8, "https://auth.example:443"),
        refresh_token_binding("g1", 2, 7, "https://evil.example:443"),
        client_secret_binding("g1", 2, "https://auth.example:443"),
        access_token_binding(
            AccessTokenKey("g1", 2, "c", ("read",)),
            7,
            ("read",),
            verified=True,
            life_ms=1000,
            token_origin="https://auth.example:443",
        ),
    ],
    ids=["grant", "consent", "attempt", "origin", "table", "access"],
)
async def test_a_swapped_row_or_endpoint_does_not_open(keyring: Keyring, other: Binding) -> None:
    """A ciphertext opens only as the row it was sealed for, towards the endpoint it was sealed for."""
    sealed = await keyring.seal(TOKEN, BINDING)
    with pytest.raises(SealBrokenError):
        await keyring.open(sealed, other)


async def test_no_changed_byte_opens(keyring: Keyring) -> None:
    """Whatever byte of a ciphertext is changed, header included, it does not open; nor does a shorter one."""
    sealed = await keyring.seal(TOKEN, BINDING)
    for place in range(len(sealed.ciphertext)):
        changed = bytearray(sealed.ciphertext)
        changed[place] ^= 1
        with pytest.raises(SealBrokenError):
            await keyring.open(Sealed(sealed.key_id, bytes(changed)), BINDING)
        with pytest.raises(SealBrokenError):
            await keyring.open(Sealed(sealed.key_id, sealed.ciphertext[:place]), BINDING)


async def test_the_key_id_of_column_and_ciphertext_agree(keyring: Keyring, rows: Rows) -> None:
    """The ciphertext names its key itself, and a column that says otherwise does not open."""
    sealed = await keyring.seal(TOKEN, BINDING)
    [row] = [row for row in rows.rows if row.purpose is KeyPurpose.AEAD]
    assert (row.id, row.id) == (sealed.key_id, sealed.ciphertext[1:9].hex())
    with pytest.raises(SealBrokenError):
        await keyring.open(replace(sealed, key_id="00" * 8), BINDING)


async def _staged_elsewhere(rows: Rows, kek: Kek) -> Sealed:
    """Let another replica (another table) seal, then put its key's row into ours as a staged one."""
    elsewhere = Rows()
    sealed = await (await open_keyring(elsewhere, [kek])).seal(TOKEN, BINDING)
    [row] = [row for row in elsewhere.rows if row.purpose is KeyPurpose.AEAD]
    rows.rows.append(replace(row, state=KeyState.STAGED))
    return sealed


async def test_an_unknown_key_is_loaded_once_and_then_known(keyring: Keyring, rows: Rows, kek: Kek) -> None:
    """A key another replica added is found by one load of the rows; later openings need none."""
    sealed = await _staged_elsewhere(rows, kek)
    loads = rows.loads
    for _ in range(3):
        assert TOKEN == await keyring.open(sealed, BINDING)
    assert loads + 1 == rows.loads
    assert sealed.key_id != (await keyring.seal(TOKEN, BINDING)).key_id


def _forget(rows: Rows, key_id: str) -> None:
    rows.rows = [row for row in rows.rows if row.id != key_id]


def _disable(rows: Rows, key_id: str) -> None:
    rows.rows = [replace(row, state=KeyState.DISABLED) if row.id == key_id else row for row in rows.rows]


def _away(rows: Rows, _: str) -> None:
    rows.away = True


@pytest.mark.parametrize("spoil", [_forget, _disable, _away])
async def test_a_key_that_cannot_be_had_is_an_error_of_the_store(
    keyring: Keyring, rows: Rows, kek: Kek, spoil: Callable[[Rows, str], None]
) -> None:
    """A missing or disabled key, or no database to read it from, is `key` unavailable and says nothing of the seal."""
    sealed = await _staged_elsewhere(rows, kek)
    spoil(rows, sealed.key_id)
    with pytest.raises(StoreUnavailableError) as caught:
        await keyring.open(sealed, BINDING)
    assert "key" == caught.value.cause
    assert TOKEN == await keyring.open(await keyring.seal(TOKEN, BINDING), BINDING)


async def test_fingerprints_are_stable_and_keyed(keyring: Keyring, rows: Rows, kek: Kek) -> None:
    """A token's fingerprint is 32 hexadecimal characters, the same after a restart, another in another installation."""
    fingerprint = keyring.fingerprint(TOKEN)
    assert (32, int(fingerprint, 16)) == (len(fingerprint), int(fingerprint, 16))
    assert fingerprint == (await open_keyring(rows, [kek])).fingerprint(TOKEN)
    assert fingerprint != (await open_keyring(Rows(), [kek])).fingerprint(TOKEN)
    assert fingerprint != keyring.fingerprint(Secret("another"))


async def test_macs_verify_under_every_key_but_disabled_ones(keyring: Keyring, rows: Rows, kek: Kek) -> None:
    """A tag holds for its data and key only; an enabled older key still verifies, a disabled one does not."""
    key_id, tag = keyring.mac(b"row")
    assert (True, False, False) == (
        keyring.verify(key_id, b"row", tag),
        keyring.verify(key_id, b"other", tag),
        keyring.verify(key_id, b"row", bytes(32)),
    )
    other = Rows()
    newer = await open_keyring(other, [kek])
    rows.rows = [replace(row, state=KeyState.ENABLED) if row.id == key_id else row for row in rows.rows]
    rows.rows += [row for row in other.rows if row.purpose is KeyPurpose.MAC]
    rotated = await open_keyring(rows, [kek])
    assert (newer.mac(b"row"), True) == (rotated.mac(b"row"), rotated.verify(key_id, b"row", tag))
    _disable(rows, key_id)
    with pytest.raises(UnknownMacKeyError):
        (await open_keyring(rows, [kek])).verify(key_id, b"row", tag)


async def test_an_unknown_mac_key_is_loaded_on_demand(keyring: Keyring, rows: Rows, kek: Kek) -> None:
    """A tag under a key another replica added verifies once that key is loaded, which one load of the rows does."""
    elsewhere = Rows()
    key_id, tag = (await open_keyring(elsewhere, [kek])).mac(b"row")
    with pytest.raises(UnknownMacKeyError) as unknown:
        keyring.verify(key_id, b"row", tag)
    rows.rows += [replace(row, state=KeyState.STAGED) for row in elsewhere.rows if row.id == key_id]
    loads = rows.loads
    for _ in range(3):
        await keyring.load(unknown.value.key_id)
        assert keyring.verify(key_id, b"row", tag)
    assert loads + 1 == rows.loads


@pytest.mark.parametrize("spoil", [_forget, _disable, _away])
async def test_a_mac_key_that_cannot_be_had_is_an_error_of_the_store(
    keyring: Keyring, rows: Rows, kek: Kek, spoil: Callable[[Rows, str], None]
) -> None:
    """A missing or disabled key, or no database to read it from, is `key` unavailable: the row is not called wrong."""
    elsewhere = Rows()
    key_id, _ = (await open_keyring(elsewhere, [kek])).mac(b"row")
    rows.rows += [replace(row, state=KeyState.STAGED) for row in elsewhere.rows if row.id == key_id]
    spoil(rows, key_id)
    with pytest.raises(StoreUnavailableError) as caught:
        await keyring.load(key_id)
    assert "key" == caught.value.cause


async def test_nothing_shows_a_secret_or_a_key(keyring: Keyring, kek: Kek) -> None:
    """No text form of keyring, KEK, sealed value or error holds the secret or key material."""
    sealed = await keyring.seal(TOKEN, BINDING)
    with pytest.raises(SealBrokenError) as caught:
        await keyring.open(sealed, Binding("x", (), ""))
    shown = "".join(map(repr, (keyring, vars(keyring), kek, vars(kek), sealed, caught.value, TOKEN)))
    assert (False, False) == (TOKEN.reveal() in shown, "type.googleapis.com" in shown)


bindings = st.builds(
    Binding,
    table=st.text(st.characters(codec="utf-8"), max_size=6),
    facts=st.lists(st.integers(-20, 20) | st.text("a1:\x00", max_size=4), max_size=3).map(tuple),
    token_origin=st.text("ab:/\x00", max_size=4),
)


@given(bindings, bindings)
def test_no_two_bindings_share_associated_data(first: Binding, second: Binding) -> None:
    """Different bindings give different associated data, whatever texts and numbers are in them."""
    assert (first == second) is (first.associated_data() == second.associated_data())


@given(st.text("ab", max_size=3), st.text("ab", max_size=3))
def test_moving_a_border_between_facts_changes_the_associated_data(left: str, right: str) -> None:
    """("ab", "c") and ("a", "bc") are different facts, and so are 1 and "1"."""
    joined = Binding("t", (left + right,), "").associated_data()
    assert joined != Binding("t", (left, right), "").associated_data()
    assert Binding("t", (1,), "").associated_data() != Binding("t", ("1",), "").associated_data()
