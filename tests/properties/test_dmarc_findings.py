"""Whatever a plugin puts into a DMARC finding: the journal goes on, and what comes of it is a document of the schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from gateway.config.models import DmarcReportsConfig
from gateway.dmarc_reports.document import Metadata, document
from gateway.journal.dmarc_tables import Collector
from tests.dmarc_records import a_finding, a_recipient, a_record

SCHEMA = etree.XMLSchema(etree.parse(str(Path(__file__).parents[1] / "schemas" / "dmarc-2.0.xsd")))
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["pass", "dkim", "spf", "reject"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
PAIRS = st.lists(st.lists(st.text(max_size=10), min_size=2, max_size=2), max_size=4)
RESULTS = st.lists(
    st.lists(st.sampled_from(["dkim", "spf", "pass", "fail", "x.test"]) | st.text(max_size=9), min_size=4, max_size=4)
)
FIELDS = {
    "result": ODD,
    "domain": ODD,
    "policy": ODD,
    "requested": ODD,
    "published": PAIRS | ODD,
    "rua": st.just(["mailto:a@b.test"]) | ODD,
    "aligned": ODD,
    "authenticated": RESULTS | ODD,
    "override": st.lists(st.sampled_from(["other", "local_policy"]) | st.text(max_size=9), min_size=2, max_size=2) | ODD,
}


@given(st.fixed_dictionaries({}, optional=FIELDS), st.text(max_size=40), st.text(max_size=40))
def test_any_finding(odd: dict[str, Any], reverse_path: str, forward_path: str) -> None:
    collector = Collector(DmarcReportsConfig(enabled=True, recipient_domains=True))
    record = a_record(a_finding(**odd), reverse_path=reverse_path, recipients=[a_recipient(forward_path)])
    tally = collector.tally([record])
    assert len(tally.counts) + tally.failed <= 1
    for row in tally.counts:
        policy = json.loads(row.policy)
        metadata = Metadata(
            organization="o",
            address="a@b.test",
            contact="",
            report_id="r",
            begin=0,
            end=1,
            policy_domain=row.policy_domain,
            published=dict(policy["published"]),
        )
        SCHEMA.assertValid(etree.fromstring(b"".join(document(metadata, [(json.loads(row.row), 1)]))))
        assert all(isinstance(uri, str) for uri in policy["rua"])
        assert len(row.row) < 40_000
