"""Whatever From, records and results are: one finding, bounded, no exception, few look-ups. More of it with `make fuzz`."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import AuthResult, Quarantine, Reject, Verdict
from gateway.mailauth.dmarc import MAX_LABELS, MAX_URIS, Answer, parse_record, walk_names
from gateway.mailauth.results import read_results, render_results
from gateway.plugins.dmarc import Dmarc, DmarcFinding, Options
from gateway.plugins.dmarc.authors import a_label, read_authors
from gateway.plugins.dmarc.evaluate import MAX_WALKS, Identifier, evaluate
from gateway.testing import TEMPFAIL, FakeContext, FakeResolver, a_message, a_session, a_transaction, run_plugin
from tests.fuzzing import TIMES, chances, examples

POLICIES = {"none", "quarantine", "reject"}
names = st.sampled_from(
    ["bank.example", "x.bank.example", "evil.example", "example", "BANK.example.", "bänk.example", "a..b", "[192.0.2.1]", ""]
)
tokens = st.sampled_from(
    [
        b'"',
        b"<",
        b">",
        b"(",
        b")",
        b",",
        b";",
        b":",
        b"@",
        b"\\",
        b".",
        b" ",
        b"\t",
        b"\r\n ",
        b"\x00",
        b"\xff",
        b"=?utf-8?q?a=40b?=",
    ]
)
pieces = (
    tokens | names.map(str.encode) | st.binary(max_size=6) | st.text(max_size=4).map(lambda text: text.encode("utf-8", "replace"))
)
fields = st.lists(pieces, max_size=30).map(b"".join) | st.tuples(tokens, st.integers(1, 3000)).map(lambda one: one[0] * one[1])
tag = st.sampled_from(
    [
        "v=DMARC1",
        "p=reject",
        "p=none",
        "p=x",
        "sp=quarantine",
        "np=reject",
        "adkim=s",
        "aspf=q",
        "psd=y",
        "psd=n",
        "t=y",
        "rua=mailto:a@b.c",
        "rua=!,",
        "=",
        "",
        " ",
        "pct=1",
    ]
)
records = st.lists(tag | st.text(max_size=12), max_size=10).map(";".join)
marks = st.sampled_from(
    [
        b"List-Id: <x.bank.example>\r\n",
        b"List-Post: <mailto:a@x.example>\r\n",
        b"ARC-Seal: i=1\r\n",
        b"Delivered-To: \xff\x00\r\n",
        b"",
    ]
)
methods = st.sampled_from(["spf", "dkim", "arc", "iprev", "dmarc", "x"])
properties = st.tuples(
    st.sampled_from(["smtp.mailfrom", "header.d", "header.s", "policy.trusted-sealer", "smtp.helo"]), names | st.text(max_size=20)
)
results = st.builds(
    AuthResult,
    method=methods,
    result=st.sampled_from(["pass", "fail", "none", "temperror", "permerror", "neutral", "x"]),
    reason=st.text(max_size=10),
    properties=st.lists(properties, max_size=3).map(tuple),
)
options = st.fixed_dictionaries(
    {
        "verdict": st.sampled_from(["off", "quarantine", "careful", "policy", "reject"]),
        "max_author_domains": st.integers(1, 20),
        "without_author": st.sampled_from(["accept", "quarantine", "reject"]),
        "trusted_forwarders": st.sampled_from([[], [{"networks": ["0.0.0.0/0"]}], [{"authors": ["bank.example"]}], [{"domains": ["example"]}]]),
        "mailing_lists": st.sampled_from([[], [{"lists": ["example"]}]]),
    }
)  # fmt: skip


@examples(120)
@given(
    froms=st.lists(fields, max_size=3),
    mark=marks,
    zone=st.dictionaries(
        st.sampled_from(["bank.example", "example", "evil.example", "xn--bnk-pla.example"]), st.lists(records, max_size=2)
    ),
    fails=st.sets(st.sampled_from(["_dmarc.bank.example", "_dmarc.example", "x.bank.example"])),
    found=st.lists(results, max_size=12),
    settings_=options,
    client=st.sampled_from(["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", ""]),
    sender=st.sampled_from(["a@bank.example", "SRS0=x@y.example", ""]),
)
async def test_one_finding_whatever_comes(
    *,
    froms: list[bytes],
    mark: bytes,
    zone: dict[str, list[str]],
    fails: set[str],
    found: list[AuthResult],
    settings_: dict[str, Any],
    client: str,
    sender: str,
) -> None:
    zones: dict[str, Any] = {
        f"_dmarc.{name}": {"TXT": [text.encode("utf-8", "replace") for text in texts]} for name, texts in zone.items()
    }
    resolver = FakeResolver(zones | dict.fromkeys(fails, TEMPFAIL))
    transaction = a_transaction(session=a_session(client_address=client), reverse_path=sender)
    for one in found:
        transaction.findings.add("test", one)
    message = a_message(b"".join(b"From: " + one + b"\r\n" for one in froms) + mark + b"\r\nbody\r\n")
    context: Any = FakeContext(resolver=resolver)
    result = await run_plugin(Dmarc(Options.model_validate(settings_)), message=message, transaction=transaction, context=context)
    [finding] = transaction.findings.of(DmarcFinding)
    _is_sound(finding, result.verdict)
    limit = min(settings_["max_author_domains"], 20) * (MAX_LABELS + 1 + MAX_WALKS * MAX_LABELS)
    assert len(resolver.queries) <= limit


def _is_sound(finding: DmarcFinding, verdict: Verdict | None) -> None:
    assert finding.result in {"pass", "fail", "none", "temperror", "permerror"}
    assert finding.policy in POLICIES
    assert finding.domain == a_label(finding.domain)
    assert len(finding.reason) < 4_000
    assert len(finding.details) < 60
    assert isinstance(verdict, Reject | Quarantine | type(None))
    if finding.result in {"pass", "temperror"} or finding.is_let_through:
        assert verdict is None
    if isinstance(verdict, Reject):
        assert finding.result in {"fail", "permerror", "none"}
        assert finding.policy != "none" or finding.result == "none"
    field = render_results("mx.example", [finding])
    assert all(" " <= c <= "~" or c in "\r\n\t" for c in field)
    [read] = [one for one in read_results(field.encode()).results if one.method == "dmarc"]
    assert read.result == finding.result


@examples(700)
@given(records | st.text(max_size=300) | st.binary(max_size=300).map(lambda octets: octets.decode("ascii", "replace")))
def test_any_record(text: str) -> None:
    record = parse_record(text)
    if record is not None:
        assert {record.p, record.sp or "none", record.np or "none"} <= POLICIES
        assert record.adkim in {"r", "s"}
        assert record.psd in {"y", "n", "u"}
        assert len(record.rua) <= MAX_URIS
        assert record.is_usable or (record.p, record.sp, record.np) == ("none", None, None)


labels = st.sampled_from(["a", "b", "bank", "example", "com", "x" * 63])
domains = st.lists(labels, min_size=1, max_size=14).map(".".join)


@examples(200)
@given(
    author=domains,
    identifiers=st.lists(
        st.builds(
            Identifier,
            method=st.sampled_from(["spf", "dkim"]),
            domain=domains | st.just(""),
            result=st.sampled_from(["pass", "fail", "temperror", "none"]),
        ),
        max_size=20,
    ),
    texts=st.dictionaries(st.lists(labels, min_size=1, max_size=4).map(".".join), records, max_size=6),
    failing=st.sets(st.lists(labels, min_size=1, max_size=3).map(".".join), max_size=3),
)
def test_any_tree(author: str, identifiers: list[Identifier], texts: dict[str, str], failing: set[str]) -> None:
    """Few rounds, few names; an aligned pass exactly where it says so."""
    work = evaluate(author, identifiers)
    questions = next(work)
    asked = 0
    for _ in range(3):
        asked += len(questions)
        answers: dict[tuple[str, str], Answer] = {}
        for name, kind in questions:
            place = name.removeprefix("_dmarc.")
            answers[(name, kind)] = Answer(
                (texts[place],) if place in texts else (), exists=len(name) % 2 == 0, failed=place in failing
            )
        try:
            questions = work.send(answers)
        except StopIteration as done:
            found = done.value
            break
    else:
        pytest.fail("more than two rounds")
    assert asked <= MAX_LABELS + 1 + MAX_WALKS * MAX_LABELS
    assert (found.result == "pass") == bool(found.aligned)
    assert found.policy in POLICIES
    assert found.result != "fail" or found.tag
    assert all(one.result == "pass" for one in found.aligned)


@examples(200)
@given(st.text(max_size=300) | domains | names)
def test_any_name(domain: str) -> None:
    name = a_label(domain)
    assert name == "" or (len(name) <= 253 and name.isascii() and name == name.lower() and a_label(name) == name)
    if name:
        assert len(walk_names(name)) <= MAX_LABELS


PIECES = [
    *[b'"', b"<", b">", b"(", b")", b",", b";", b":", b"@", b"\\", b".", b" ", b"\t", b"\r\n ", b"\x00", b"\xff", b"[", b"]"],
    *[
        "ä".encode(),
        "\u3002".encode(),
        "\u200d".encode(),
        b"a",
        b"bank.example",
        b"@bank.example",
        b"<a@x.example>",
        b"xn--",
        b"=?utf-8?q?=40?=",
    ],
]
RECORD_PIECES = [
    *[
        "v=DMARC1",
        "v = DMARC1",
        "p=reject",
        "sp=none",
        "np=x",
        "rua=mailto:a@b.c",
        "t=y",
        "psd=n",
        "adkim=s",
        "p",
        "=",
        ";",
        "; ",
        ",",
        "!9m",
    ],
    *[" ", "\t", "\x00", "\ufffd", "\n", "é", "%", "mailto:", ":"],
]


def test_a_million_fields_and_records() -> None:
    """10,000 of each; with `make fuzz` a million, other ones each time."""
    pick = chances(9989)
    seen: Counter[str] = Counter()
    for _ in range(10_000 * TIMES):
        field = b"".join(pick.choice(PIECES) * pick.choice((1, 1, 1, 2, 9)) for _ in range(pick.randrange(25)))
        authors = read_authors(a_message(b"From: " + field + b"\r\n\r\n"), 4)
        assert len(authors.domains) + len(authors.malformed) <= 5, field
        assert all(a_label(name) == name for name in authors.domains), field
        seen[f"{min(len(authors.domains), 2)} domains"] += 1
        text = pick.choice(["v=DMARC1;", "v=DMARC1;", ""]) + "".join(
            pick.choice(RECORD_PIECES) for _ in range(pick.randrange(25))
        )
        record = parse_record(text)
        assert record is None or {record.p, record.sp or "none", record.np or "none"} <= POLICIES, text
        seen[f"record {record and record.is_usable}"] += 1
    assert set(seen) == {"0 domains", "1 domains", "2 domains", "record None", "record True", "record False"}
    print(dict(seen))  # noqa: T201


MANY: list[tuple[str, bytes]] = [
    ("parentheses", b"(" * 60_000),
    ("quotes", b'"' * 60_000),
    ("backslashes", b"\\" * 60_000),
    ("commas", b"," * 60_000),
    ("addresses", b"a@b.example," * 5_000),
    ("thousands of domains", b",".join(b"a@d%d.example" % n for n in range(4_000))),
    ("at signs", b"a" + b"@b.example" * 6_000),
    ("folds", b"a\r\n " * 15_000 + b"@b.example"),
    ("a long label", b"a@" + b"x" * 60_000 + b".example"),
    ("many labels", b"a@" + b"x." * 30_000 + b"example"),
    ("beyond ASCII", ("a@" + "ä" * 20_000 + ".example").encode()),
    ("five megabytes", b"a@b.example, " * 400_000),
    ("encoded words", b"=?utf-8?q?" + b"=41" * 15_000 + b"?= <a@b.example>"),
]


@pytest.mark.parametrize(("what", "field"), MANY, ids=[what for what, _ in MANY])
async def test_much_of_everything_is_read_in_one_pass(what: str, field: bytes) -> None:
    """What is not linear here takes minutes."""
    for header in (b"From: " + field + b"\r\n", (b"From: " + field[:5_000] + b"\r\n") * 500):
        transaction = a_transaction()
        resolver = FakeResolver({})
        context: Any = FakeContext(resolver=resolver)
        message = a_message(header + b"\r\nbody\r\n")
        await run_plugin(Dmarc(Options(verdict="policy")), message=message, transaction=transaction, context=context)
        [finding] = transaction.findings.of(DmarcFinding)
        assert finding.result in {"none", "permerror"}, what
        assert len(resolver.queries) <= 8
        assert len(read_authors(message, 4).domains) <= 5


METHODS: tuple[Literal["spf", "dkim"], ...] = ("spf", "dkim")


@pytest.mark.parametrize("method", METHODS)
def test_a_long_record_is_none(method: Literal["spf", "dkim"]) -> None:
    assert parse_record("v=DMARC1; p=reject; " + ";" * 1_000_000) is None
    assert parse_record("v" + " " * 1_000_000 + "=DMARC1; p=reject") is None
    work = evaluate("bank.example", [Identifier(method=method, domain="x." * 120 + "bank.example", result="pass")] * 1_000)
    questions = next(work)
    questions = work.send({one: Answer(("v=DMARC1; p=reject",)) for one in questions})
    with pytest.raises(StopIteration) as done:
        work.send({one: Answer(("v=DMARC1; p=reject",)) for one in questions})
    assert done.value.value.result == "pass"
    assert len(done.value.value.details) < 60
