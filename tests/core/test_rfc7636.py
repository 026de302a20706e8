"""Code verifiers and their challenges."""

from __future__ import annotations

from broker.core.oauth.rfc7636 import challenge_of, derived_verifier, is_challenge, verifier_of

ONE, OTHER = verifier_of(b"1" * 32), verifier_of(b"2" * 32)


def test_a_verifier_for_another_occasion_is_another() -> None:
    """The same each time, of the same form, and of another verifier or occasion a different one."""
    derived = derived_verifier(ONE, "a")
    assert derived == derived_verifier(ONE, "a")
    assert (43, True) == (len(derived), is_challenge(challenge_of(derived)))
    assert 5 == len({ONE, OTHER, derived, derived_verifier(ONE, "b"), derived_verifier(OTHER, "a")})
