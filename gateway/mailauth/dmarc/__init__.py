"""DMARC (RFC 9989): policy records read, and the DNS Tree Walk over answers that others fetched. Pure, as all of `gateway.mailauth`.

| module | what |
|---|---|
| `record` | the policy record: its tags, its values, which of several counts |
| `walk` | the names asked for on the way up, and the Organizational Domain |
"""

from gateway.mailauth.dmarc.record import MAX_RECORD, MAX_URIS, Policy, Record, parse_record, record_tags, select_record
from gateway.mailauth.dmarc.walk import (
    MAX_LABELS,
    MAX_TEXTS,
    Answer,
    Answers,
    Questions,
    Walk,
    is_within,
    questions_of,
    txt_answer,
    walk_from,
    walk_names,
)

__all__ = [
    "MAX_LABELS",
    "MAX_RECORD",
    "MAX_TEXTS",
    "MAX_URIS",
    "Answer",
    "Answers",
    "Policy",
    "Questions",
    "Record",
    "Walk",
    "is_within",
    "parse_record",
    "questions_of",
    "record_tags",
    "select_record",
    "txt_answer",
    "walk_from",
    "walk_names",
]
