"""`[plugin.dmarc]`."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from gateway import PluginOptions
from gateway.plugins.dmarc.overrides import MailingList, TrustedForwarder

_URL = re.compile(r"https?://[!-~]{1,200}")


class Options(PluginOptions):
    """`[plugin.dmarc]`."""

    verdict: Literal["off", "quarantine", "reject", "policy", "careful"] = "off"
    """What a failure costs where the domain's policy is not `none`: `off` nothing, `quarantine` held, `reject` refused,
    `policy` what the domain asks for, `careful` the same, but held where the failure looks like forwarding."""
    temperror: Literal["accept", "defer"] = "accept"
    """`defer`: when DNS fails, the client is asked to try again (451 4.4.3)."""
    box: str = Field(default="default", pattern=r"[a-z0-9][a-z0-9_-]{0,31}")
    """Box of the quarantine."""
    max_author_domains: int = Field(default=4, ge=1, le=20)
    """Different domains in From that are evaluated, the worst counts; a message with more fails as `permerror`."""
    without_author: Literal["accept", "quarantine", "reject"] = "accept"
    """What a message costs that has no author domain in From: nothing can be asked about it."""
    all_clients: bool = False
    """Also check authenticated clients and trusted networks."""
    learn_more: str = ""
    """URL in the reply of a refusal, `{domain}` in it becomes the author's domain; `` says where the policy is published."""
    trusted_forwarders: tuple[TrustedForwarder, ...] = Field(default=(), max_length=200)
    """Whose forwarding is believed: `{ networks = […], domains = […], authors = […] }`."""
    mailing_lists: tuple[MailingList, ...] = Field(default=(), max_length=200)
    """Mailing lists that are believed: `{ lists = […], signers = […] }`."""
    trust_arc: bool = True
    """A chain that passes and was sealed by one of the trusted sealers of `arc` overrides a failure."""

    @field_validator("learn_more")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if value and not _URL.fullmatch(value):
            raise ValueError("http:// or https:// and at most 200 printable ASCII characters without a space")
        return value
