"""Pages as HTML: templates that escape by themselves, and headers that keep a page to itself."""

from __future__ import annotations

from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from broker.core.authorization import Failure, Obstacle
from broker.core.visible import escape

STYLE: Final = "style.css"

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_POLICY: Final = "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action {target}"

AGAIN: Final = "Ask for a new link where you got this one, and open it once more."

OBSTACLES: Final[dict[Obstacle, tuple[int, str, str]]] = {
    Obstacle.UNKNOWN: (404, "There is no such login.", "It may have ended long ago. " + AGAIN),
    Obstacle.OVER: (410, "This login is over.", AGAIN),
    Obstacle.EXPIRED: (410, "This login took too long and is over.", AGAIN),
    Obstacle.OTHER_BROWSER: (
        403,
        "This login was opened in another browser.",
        "Go on there. Was that not you? Then tell whoever sent you the link, and ask for a new one.",
    ),
    Obstacle.NOT_SIGNED_IN: (
        403,
        "You were not signed in.",
        "Open the link once more and sign in. Should it happen again, tell the operators of the broker: they find why.",
    ),
    Obstacle.TOO_MANY_TRIES: (410, "The code was wrong too often.", AGAIN),
    Obstacle.WRONG_CODE: (403, "The code is wrong.", "Type the eight letters once more."),
    Obstacle.WRONG_STATE: (
        400,
        "This answer belongs to no login that is under way here.",
        "It may have been used already, or its login was begun anew meanwhile. " + AGAIN,
    ),
}
"""Status, what happened, what to do next."""

FAILURES: Final[dict[Failure, tuple[str, str]]] = {
    Failure.CANCELLED: ("The login was cancelled by whoever started it.", AGAIN),
    Failure.EXPIRED: ("The login took too long and is over.", AGAIN),
    Failure.TOO_MANY_TRIES: ("The code was wrong too often.", AGAIN),
    Failure.DENIED: (
        "You, or the provider, did not allow it.",
        "Nothing was connected. Should you change your mind: ask for a new link where you got this one.",
    ),
    Failure.PROVIDER_ERROR: ("The provider sent you back with an error.", "Wait a little. " + AGAIN),
    Failure.WRONG_ISSUER: (
        "The answer came from another server than the one that was asked.",
        "Tell the operators of the broker: somebody may be trying to mislead you.",
    ),
    Failure.CODE_REFUSED: ("The provider did not take its own answer back.", AGAIN),
    Failure.CLIENT_REFUSED: (
        "The provider does not accept the broker's own credentials.",
        "Tell the operators of the broker: they have to renew the client's secret.",
    ),
    Failure.PROVIDER_UNAVAILABLE: ("The provider did not answer.", "Wait a little. " + AGAIN),
    Failure.UNUSABLE_REPLY: ("The provider's answer could not be used.", "Tell the operators of the broker."),
    Failure.NO_REFRESH_TOKEN: (
        "The provider gave no lasting permission.",
        "Tell the operators of the broker: the provider may want a further scope or parameter for that.",
    ),
    Failure.SCOPE_NOT_GRANTED: (
        "Less was allowed than the grant needs.",
        AGAIN + " Leave every permission checked at the provider.",
    ),
    Failure.SUBJECT_MISMATCH: (
        "The grant is another person's than the one who logged in.",
        "Log out where you just logged in. " + AGAIN + " An admin can let the grant become another person's.",
    ),
    Failure.GRANT_UNAVAILABLE: (
        "The grant was changed or held by operators meanwhile.",
        "Ask whoever sent you the link.",
    ),
    Failure.NOT_COMPLETED: ("The app that started the login did not end it in time.", "Begin again in the app."),
}
"""What happened, what to do next."""


class Pages:
    """Renders pages."""

    def __init__(self) -> None:
        loader = PackageLoader("broker.web")
        self._templates = Environment(
            loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, finalize=_shown
        )
        self._style = self._templates.get_template(STYLE).render().encode()

    def page(
        self, name: str, title: str, *, status: int = 200, form_target: str = "'none'", **facts: object
    ) -> HTMLResponse:
        """Return a page; `form_target` is where its form may go, and each redirect that answers it."""
        html = self._templates.get_template(name).render(title=title, **facts)
        return HTMLResponse(html, status, {**_HEADERS, "Content-Security-Policy": _POLICY.format(target=form_target)})

    def obstacle(self, obstacle: Obstacle) -> HTMLResponse:
        """Return the page that says why there is no other."""
        status, what, following = OBSTACLES[obstacle]
        return self.problem(what, following, status)

    def problem(self, what: str, following: str, status: int) -> HTMLResponse:
        """Return a page that says what is wrong and what to do."""
        return self.page("problem.html", "This did not work", status=status, what=what, next=following)

    def onward(self, url: str) -> HTMLResponse:
        """Return a page that leads to a provider.

        It is no redirect, since a browser holds every redirect of a form's answer against the form's targets: nobody
        can know to which other origins a provider sends on the people it does not know itself.
        """
        return self.page("onward.html", "One moment", url=url)

    def style(self) -> Response:
        """Return the style sheet."""
        return Response(self._style, media_type="text/css", headers={**_HEADERS, "Cache-Control": "max-age=3600"})


def redirect(url: str) -> Response:
    """Return a redirect that keeps nothing of where it comes from."""
    return Response(None, 303, {**_HEADERS, "Location": url})


def _shown(value: object) -> object:
    """Make control and bidi characters of a text visible."""
    return escape(value) if isinstance(value, str) else value
