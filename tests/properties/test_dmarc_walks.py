"""The organizations that reports tell apart are those of the DMARC plugin (RFC 9989 4.10.2), whatever a resolver hands over."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.dmarc_reports.organization import organizational_domain
from gateway.mailauth.dmarc import Answer, questions_of, walk_from, walk_names
from gateway.testing import FakeResolver

LABELS = st.lists(st.sampled_from(["a", "b", "example", "test"]), min_size=1, max_size=12)
VERSION = st.sampled_from(["v=DMARC1", "v = DMARC1 ", "V=DMARC1", "v=dmarc1", "v=DMARC12", "v=spf1", ""])
TAG = st.sampled_from(["p=none", "p=wrong", "psd=y", "psd=n", "psd=u", " PSD = Y ", "psd=", "psd", "x=psd=y", "", " "])
RECORD = st.builds(lambda version, tags: ";".join([version, *tags]), VERSION, st.lists(TAG, max_size=4))
RECORDS = st.lists(RECORD, max_size=2)


@given(LABELS, st.data())
async def test_one_organization(labels: list[str], data: st.DataObject) -> None:
    domain = ".".join(labels)
    zones: dict[str, Any] = {f"_dmarc.{name}": {"TXT": data.draw(RECORDS)} for name in walk_names(domain)}
    answers: dict[tuple[str, str], Answer] = {
        (name, kind): Answer(tuple(zones[name]["TXT"])) for name, kind in questions_of([domain])
    }
    assert await organizational_domain(domain, FakeResolver(zones)) == walk_from(domain, answers).organizational_domain
