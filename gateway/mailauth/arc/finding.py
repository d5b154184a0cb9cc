"""What plugins say of a chain: `arc` gives it, `arc_seal` and `dmarc` read it, the latter by the properties alone."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.findings import AuthResult, Finding

TRUSTED_SEALER = "policy.trusted-sealer"
"""Property of the result: the trusted sealer who says that DMARC passed for the author's domain. `dmarc` may let that count."""
UNVERIFIED_SEALER = "policy.unverified-sealer"
"""Property of a failure: this trusted sealer's chain could not be verified because DNS failed for now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArcFinding(AuthResult):
    """The result of the chain.

    It has the property `policy.trusted-sealer` when the chain is valid, `trusted_sealers` vouch for it, and one of them says
    that DMARC passed for the author's domain: the domain of that sealer. `policy.unverified-sealer` when a chain that bears
    a trusted sealer's name could not be verified because DNS failed for now.
    """

    sealers: tuple[str, ...] = ()
    """Domains of the seals, the oldest first; they are proved only when the result is `pass`."""
    is_trusted: bool = False
    """The newest sets are sealed by trusted sealers, and their signature covers From and the whole body."""
    trusted_from: int = 0
    """The oldest set that may be believed; 0: none."""
    claimed: tuple[tuple[str, str], ...] = ()
    """What that set says of the message as it arrived there: (`spf`, `pass`), (`dmarc`, `pass`), …"""
    is_temporary: bool = False
    """It fails only because DNS could not tell keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArcSet(Finding):
    """One set of the chain, as evidence."""

    instance: int
    sealer: str
    """d= of the seal."""
    signer: str
    """d= of the message signature."""
    seal: str
    """`valid`, `not checked`, or why it is not valid."""
    message_signature: str
    """The same of the message signature; only the newest must be valid."""
    claims: str
    """What the sealer says it found: `spf=pass dkim=pass`."""
