"""The origin that the token may go to, and what is taken for it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from etl.errors import UpstreamError

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Origins:
    """The origin that the token may go to, and those whose links are taken for its own."""

    base: str
    aliases: tuple[str, ...] = ()

    def resolve(self, link: str, current_url: str) -> str:
        """A link found at `current_url`, as a URL of the base's origin. Raises UpstreamError for any other."""
        try:
            target = urlsplit(urljoin(current_url, link))
            origin = _origin(target)
        except ValueError:
            raise UpstreamError("a link to the next page can't be read as a URL") from None
        base = urlsplit(self.base)
        if "@" in target.netloc or origin not in {_origin(urlsplit(known)) for known in (self.base, *self.aliases)}:
            raise UpstreamError(
                f"the upstream leads to {_show(target)}, but the token goes to {_show(base)} only. "
                "If a proxy in front of the upstream makes such links, set NEST_API_BASE_URL to the address that it "
                "is reached by, or name the other origin in NEST_API_LINK_ORIGINS."
            )
        return urlunsplit((base.scheme, base.netloc, target.path, target.query, ""))


def _origin(url: SplitResult) -> tuple[str, str, int | None]:
    scheme = url.scheme.lower()
    return scheme, (url.hostname or "").lower(), url.port or _DEFAULT_PORTS.get(scheme)


def _show(url: SplitResult) -> str:
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}"
