"""Authentication-Results (RFC 8601), and the same payload in ARC-Authentication-Results (RFC 8617 4.1.1): read and written."""

from gateway.mailauth.results.ids import Names, bears_name, id_key
from gateway.mailauth.results.reading import Reading, Resinfo, read_id, read_results
from gateway.mailauth.results.removal import FIELD, remove_forged
from gateway.mailauth.results.writing import render_results

__all__ = [
    "FIELD",
    "Names",
    "Reading",
    "Resinfo",
    "bears_name",
    "id_key",
    "read_id",
    "read_results",
    "remove_forged",
    "render_results",
]
