"""Text of others made fit to be shown: nothing in it can steer a terminal, a page or a reader's eye."""

from __future__ import annotations


def escape(text: str) -> str:
    r"""Return the text with every character that does not show itself written as \xNN, \uNNNN or \UNNNNNNNN.

    That is every control and format character (bidi marks among them), separator but the space, half character and
    character of no meaning yet.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
