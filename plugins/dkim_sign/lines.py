"""Line ends of binary content: RFC 3030 3. For large content this runs in the process pool."""

from __future__ import annotations


def has_bare_line_ends(octets: bytes) -> bool:
    """Whether a CR or an LF stands alone."""
    ends = octets.count(b"\r\n")
    return octets.count(b"\n") != ends or octets.count(b"\r") != ends
