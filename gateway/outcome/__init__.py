"""The outcome planner: one reply after DATA, recipients that differ (RFC 5321 3.3, 4.2.5; RFC 2033 4.2). Pure, no I/O.

`Admission` answers at RCPT, `plan` says after the verdicts what is to be done, `settle` says after the next hop's answers
what the client is told, what became of each recipient, and what is to be remembered for its retry.
"""

from gateway.outcome.admission import Admission, Arrival
from gateway.outcome.planner import plan
from gateway.outcome.settling import failed, settle, take_back
from gateway.outcome.values import (
    ALONE,
    DONE,
    NOTHING,
    SMTP,
    SUBMISSION,
    Ability,
    Fate,
    History,
    Hold,
    Keep,
    Plan,
    Settlement,
    Wish,
)

__all__ = [
    "ALONE",
    "DONE",
    "NOTHING",
    "SMTP",
    "SUBMISSION",
    "Ability",
    "Admission",
    "Arrival",
    "Fate",
    "History",
    "Hold",
    "Keep",
    "Plan",
    "Settlement",
    "Wish",
    "failed",
    "plan",
    "settle",
    "take_back",
]
