"""What MTA and milter agree on, as bits: actions, steps, and which version has which. As libmilter's mfdef.h and mfapi.h have them."""

from __future__ import annotations

from enum import IntEnum, IntFlag

NEWEST = 6
"""The version of the protocol that Sendmail 8.14 and Postfix 2.6 brought; nothing newer is known."""
OLDEST = 2
"""Version 1 was Sendmail 8.10's; libmilter refuses it too."""

CHUNK = 65535
"""Octets that Sendmail and Postfix put into one packet of the body, and take in one, unless more was agreed."""


class Actions(IntFlag):
    """What a milter may ask for at the end of a message (SMFIF_)."""

    ADDHDRS = 0x001
    CHGBODY = 0x002
    ADDRCPT = 0x004
    DELRCPT = 0x008
    CHGHDRS = 0x010
    QUARANTINE = 0x020
    CHGFROM = 0x040
    ADDRCPT_PAR = 0x080
    SETSYMLIST = 0x100
    """Not at the end of a message: in the negotiation the milter may name the macros that it wants."""


class Steps(IntFlag):
    """What the MTA can leave out, and what else both can do (SMFIP_). Unknown bits are kept as they came."""

    NOCONNECT = 0x0000_0001
    NOHELO = 0x0000_0002
    NOMAIL = 0x0000_0004
    NORCPT = 0x0000_0008
    NOBODY = 0x0000_0010
    NOHDRS = 0x0000_0020
    NOEOH = 0x0000_0040
    NR_HDR = 0x0000_0080
    """NR_: the milter does not answer this command, and the MTA does not wait."""
    NOUNKNOWN = 0x0000_0100
    NODATA = 0x0000_0200
    SKIP = 0x0000_0400
    """The MTA understands the answer SKIP."""
    RCPT_REJ = 0x0000_0800
    """The MTA tells of recipients that it refused itself, too."""
    NR_CONN = 0x0000_1000
    NR_HELO = 0x0000_2000
    NR_MAIL = 0x0000_4000
    NR_RCPT = 0x0000_8000
    NR_DATA = 0x0001_0000
    NR_UNKN = 0x0002_0000
    NR_EOH = 0x0004_0000
    NR_BODY = 0x0008_0000
    HDR_LEADSPC = 0x0010_0000
    """Bodies of header fields come, and are given, with the space behind the colon."""
    MDS_256K = 0x1000_0000
    """Packets of 256 KB may be sent; MDS_1M: of 1 MB."""
    MDS_1M = 0x2000_0000


class MacroStage(IntEnum):
    """For which command a milter names macros (SMFIM_); not the letters of the commands, and not in their order."""

    CONNECT = 0
    HELO = 1
    MAIL = 2
    RCPT = 3
    DATA = 4
    END_OF_BODY = 5
    END_OF_HEADER = 6


_V2_STEPS = Steps(0x7F)
_V6_STEPS = Steps(0x1F_FFFF) | Steps.MDS_256K | Steps.MDS_1M
STEPS_OF = {
    2: _V2_STEPS,
    3: _V2_STEPS | Steps.NOUNKNOWN,
    4: _V2_STEPS | Steps.NOUNKNOWN | Steps.NODATA,
    5: _V2_STEPS | Steps.NOUNKNOWN | Steps.NODATA,
    6: _V6_STEPS,
}
"""The steps that a version has. Postfix may be told to send NR_HDR with any version (`no_header_reply`): see negotiation."""
_V2_ACTIONS = Actions(0x3F)
ACTIONS_OF = {2: _V2_ACTIONS, 3: _V2_ACTIONS, 4: _V2_ACTIONS, 5: _V2_ACTIONS, 6: Actions(0x1FF)}
"""The actions that a version has."""
