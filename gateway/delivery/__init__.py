"""The order of the promises (docs/promises.md), kept here and nowhere else: one owner of the message at every moment.

(a) a plan; (b) copies pending and discards recorded, durably; (c) the next hop answers; (d) pending becomes held; (e) the
reply. What fails before (c) has sent nothing; what fails after it is told to the client as 4xx, and the ledger spares it the
duplicate. Whoever calls shields this from the client's hanging up; a cancellation at any await leaves the client without a
reply and every pending copy dropped.
"""

from gateway.delivery.carrying import Carrying
from gateway.delivery.desk import Delivery, ability_of
from gateway.delivery.parcel import Copies, Envelope, Handover, Memory, Parcel, Records, attempt_of

__all__ = ["Carrying", "Copies", "Delivery", "Envelope", "Handover", "Memory", "Parcel", "Records", "ability_of", "attempt_of"]
