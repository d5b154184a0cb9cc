"""The Authenticated Received Chain (RFC 8617): a chain validated, and a set added to it. Pure, as all of `gateway.mailauth`.

| module | what |
|---|---|
| `fields` | the three fields of a set, read |
| `chain` | the sets of a message, and whether they are whole |
| `verify` | signatures and seals: the scheme for `gateway.mailauth.carry_out` |
| `sealing` | a set made |
| `finding` | what plugins tell each other of a chain |
"""

from gateway.mailauth.arc.chain import Chain, Set, collect
from gateway.mailauth.arc.fields import MAX_INSTANCE, RESULTS, SEAL, SIGNATURE, MessageSignature
from gateway.mailauth.arc.finding import TRUSTED_SEALER, UNVERIFIED_SEALER, ArcFinding, ArcSet
from gateway.mailauth.arc.sealing import ArcSealer, NotSealedError
from gateway.mailauth.arc.verify import ArcScheme, ChainResult, SetReport

__all__ = [
    "MAX_INSTANCE",
    "RESULTS",
    "SEAL",
    "SIGNATURE",
    "TRUSTED_SEALER",
    "UNVERIFIED_SEALER",
    "ArcFinding",
    "ArcScheme",
    "ArcSealer",
    "ArcSet",
    "Chain",
    "ChainResult",
    "MessageSignature",
    "NotSealedError",
    "Set",
    "SetReport",
    "collect",
]
