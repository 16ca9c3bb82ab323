"""Who is let in, and what every answer says about itself. The page is read-only, and nobody else's site may use it.

- Only names that this server goes by (``Host``): a foreign name that was made to resolve to this machine gets nothing.
- Only requests of the page itself or of no page: other origins get nothing, whatever the browser would do with it.
- A token wherever others could reach the port: once in the address, then in a cookie that scripts can not read.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
ANY_HOST = "*"
MOST_QUERY_BYTES = 8_192
_OWN_SITES = frozenset({"same-origin", "none"})


@dataclass(frozen=True)
class Access:
    """``hosts``: names the server answers to (`ANY_HOST`: all). ``frame_ancestors``: pages that may frame this one."""

    hosts: frozenset[str]
    token: str | None = None
    cookie: str = "npd-token"
    frame_ancestors: str = "'none'"

    @property
    def embedded(self) -> bool:
        """True when other pages may frame this one."""
        return self.frame_ancestors != "'none'"

    @property
    def cookie_value(self) -> str:
        """What the cookie holds: not the token itself, which opens every address."""
        return hashlib.sha256(f"page cookie of {self.token}".encode()).hexdigest()


def is_loopback(host: str) -> bool:
    """True when only this machine can reach ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def refusal(status: int, message: str) -> JSONResponse:
    """An answer that is no: one clear line."""
    return JSONResponse({"error": message}, status)


class Guard:
    """Middleware around the whole application."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app = app
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._describe(MutableHeaders(scope=message))
            await send(message)

        answer = self._refused(scope)
        await (answer or self.app)(scope, receive, send_with_headers)

    def _describe(self, headers: MutableHeaders) -> None:
        headers["Content-Security-Policy"] = (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
            "font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
            f"frame-ancestors {self.access.frame_ancestors}"
        )
        if not self.access.embedded:
            headers["X-Frame-Options"] = "DENY"
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        headers.setdefault("Cache-Control", "no-store")

    def _refused(self, scope: Scope) -> Response | None:
        """The answer that ends here; None lets the request through."""
        headers = Headers(scope=scope)
        if scope["method"] not in ("GET", "HEAD"):
            refused = refusal(405, f"{scope['method']}: this server only shows; expected GET.")
            refused.headers["Allow"] = "GET, HEAD"
            return refused
        if not self._is_own_name(headers.getlist("host")):
            return refusal(403, "Host: this server does not go by that name; open it by the address it printed.")
        if not self._is_own_page(headers):
            return refusal(403, "another site's page may not read this one.")
        if len(scope["query_string"]) > MOST_QUERY_BYTES:
            return refusal(400, f"query: expected at most {MOST_QUERY_BYTES} bytes.")
        return None if self.access.token is None else self._without_token(scope, headers)

    def _is_own_name(self, given: list[str]) -> bool:
        if len(given) != 1:
            return False
        name = _name_of(given[0])
        return ANY_HOST in self.access.hosts or (name is not None and name in self.access.hosts)

    def _is_own_page(self, headers: Headers) -> bool:
        """True for the page's own requests, for people who open an address, and for programs."""
        origin, host = headers.get("origin"), headers.get("host", "")
        if origin is not None and origin.lower().partition("://")[2] != host.lower():
            return False
        if headers.get("sec-fetch-site", "none") in _OWN_SITES:
            return True
        # A link on another site, opened by a person, is fine; drawing the page inside that site's own is not.
        target = headers.get("sec-fetch-dest")
        allowed = ("document", "iframe") if self.access.embedded else ("document",)
        return headers.get("sec-fetch-mode") == "navigate" and target in allowed

    def _without_token(self, scope: Scope, headers: Headers) -> Response | None:
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in query if name == "token"]
        if given:
            if not self._equal(given[0], self.access.token):
                return self._no_token(scope, "token: that is not this server's.")
            return self._let_in(headers, scope, [(name, value) for name, value in query if name != "token"])
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._equal(bearer.strip(), self.access.token):
            return None
        if self._equal(_cookie(headers, self.access.cookie), self.access.cookie_value):
            return None
        return self._no_token(scope, "token: expected the one in the address that this server printed when it started.")

    @staticmethod
    def _equal(given: str | None, expected: str | None) -> bool:
        return hmac.compare_digest((given or "").encode(), (expected or "").encode()) and bool(expected)

    @staticmethod
    def _no_token(scope: Scope, message: str) -> Response:
        if "/api/" in scope["path"]:
            return refusal(401, message)
        return HTMLResponse(_PLAIN.format(title="Token needed", head="", text=html.escape(message)), 401)

    def _let_in(self, headers: Headers, scope: Scope, query: list[tuple[str, str]]) -> Response:
        """The same address without the token, which goes into a cookie."""
        # Relative, and as it was written: a proxy may have put something before it, and a run's id may hold a %2F.
        last = scope["raw_path"].decode("latin-1").rsplit("/", 1)[-1]
        clean = f"./{last}" + (f"?{urlencode(query)}" if query else "")
        answer: Response
        if headers.get("sec-fetch-site", "none") in _OWN_SITES:
            answer = RedirectResponse(clean, 303)
        else:
            # After a link on another site a redirect still counts as that site's, and would come without the cookie.
            refresh = f'<meta http-equiv="refresh" content="0; url={html.escape(clean)}">'
            link = f'<a href="{html.escape(clean)}">Go on to the page</a>'
            answer = HTMLResponse(_PLAIN.format(title="Neural Plasticity Dashboard", head=refresh, text=link))
        answer.set_cookie(self.access.cookie, self.access.cookie_value, httponly=True, samesite="strict", path="/")
        return answer


_PLAIN = '<!doctype html><html lang="en"><meta charset="utf-8">{head}<title>{title}</title><p>{text}</p></html>'


def _name_of(host: str) -> str | None:
    """The name in a Host header, without its port; None when it is not well formed."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    well_formed = parts.hostname and not parts.path and not parts.query and not parts.fragment and "@" not in host
    return parts.hostname.rstrip(".") if well_formed and parts.hostname else None


def _cookie(headers: Headers, name: str) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return None
    return found.value if found else None


def names_of(host: str, more: Iterable[str] = ()) -> frozenset[str]:
    """What a server bound to ``host`` goes by: the loopback names, its own, and those it is told."""
    return LOOPBACK_NAMES | {host.lower()} | {one.lower() for one in more}
