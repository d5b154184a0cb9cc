"""Links of a message: where each leads to, what it shows, what redirectors wrap, and whether its host looks like another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.lookalikes import is_mixed_script, skeleton, u_labels
from gateway.redirectors import unwrap
from gateway.urls import host_of, same_site, shown_host


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One link.

    Examples:
        >>> [link] = a_message(html='<a href="https://evil.example/x">www.bank.example</a>').links
        >>> (link.host, link.shown, link.shown_host, link.is_deceptive)
        ('evil.example', 'www.bank.example', 'www.bank.example', True)
    """

    url: str
    """As the message has it."""
    shown: str
    """Of a link in HTML, the text that is clicked; `` for an image and the like."""
    is_html: bool
    """False for an address in plain text."""
    target: str
    """Where it leads to in the end: what redirectors wrap, else the URL itself."""
    host: str
    """Of the URL, in lower case with A-labels; `` for `javascript:` and the like."""
    target_host: str
    shown_host: str
    """The host that `shown` names, where it reads like an address; or ``."""

    @property
    def is_wrapped(self) -> bool:
        """True for the link of a redirector that says where it leads to."""
        return self.target != self.url

    @property
    def is_deceptive(self) -> bool:
        """True where it shows the address of one site and leads to another."""
        shown = self.shown_host
        return bool(shown and self.target_host) and not same_site(shown, self.target_host) and not same_site(shown, self.host)

    @property
    def display_host(self) -> str:
        """The target's host as programs show it: A-labels decoded (RFC 5891)."""
        return u_labels(self.target_host)

    @property
    def is_mixed_script(self) -> bool:
        """True where a label of the target's host mixes scripts that nobody writes together (UTS 39)."""
        return is_mixed_script(self.target_host)

    @property
    def skeleton(self) -> str:
        """What the target's host looks like, in ASCII where it looks like ASCII (UTS 39)."""
        return skeleton(self.target_host)


def link_of(url: str, *, shown: str = "", is_html: bool = False) -> Link:
    """A link with all that its address tells."""
    target = unwrap(url) or url
    host = host_of(url)
    return Link(
        url=url,
        shown=shown,
        is_html=is_html,
        target=target,
        host=host,
        target_host=host if target == url else host_of(target),
        shown_host=shown_host(shown) if shown else "",
    )


def links_of(urls: Sequence[str], anchors: Iterable[tuple[str, str]], in_html: frozenset[str]) -> tuple[Link, ...]:
    """Each anchor of HTML once for each text that is shown, then all other URLs."""
    shown = dict.fromkeys(anchors)
    clicked = {one for link in shown for one in link}  # the address that a link shows is no link of its own
    found = [link_of(url, shown=text, is_html=True) for url, text in shown]
    found += [link_of(url, is_html=url in in_html) for url in urls if url not in clicked]
    return tuple(found)
