"""Values that are made several times for every message: frozen to the type checker, and made at the price of plain ones.

A frozen dataclass sets each field by a call of `object.__setattr__`, which was four hundredths of what a message costs. What
plugins are handed stays frozen at run time too.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as value
else:

    def value(*, frozen: bool, **options: Any) -> Any:
        """As `dataclass`, whose `frozen` the type checker keeps."""
        del frozen
        return dataclasses.dataclass(**options, unsafe_hash=True)


__all__ = ["value"]
