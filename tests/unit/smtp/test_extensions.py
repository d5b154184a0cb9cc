"""What is offered on which terms, and what a site may list."""

from __future__ import annotations

from gateway.config.models import Config, PassedParameters
from gateway.relay.protocol import Capabilities
from gateway.smtp.extensions import EXTENSIONS, Known, Terms
from gateway.smtp.extensions.requiretls import REQUIRETLS
from gateway.smtp.paths import Parameter


def terms(*, under_tls: bool, offered: str = "REQUIRETLS") -> Terms:
    return Terms(next_hops=Capabilities({offered: ()}), message_size=1000, under_tls=under_tls)


def test_requiretls_is_offered_under_tls_where_every_next_hop_has_it() -> None:
    """RFC 8689 2."""
    assert REQUIRETLS.offer(terms(under_tls=True)) == "REQUIRETLS"
    assert REQUIRETLS.offer(terms(under_tls=False)) is None
    assert REQUIRETLS.offer(terms(under_tls=True, offered="DSN")) is None
    assert REQUIRETLS.check(Parameter(b"requiretls"), terms(under_tls=True)) is None
    refusal = REQUIRETLS.check(Parameter(b"REQUIRETLS=yes"), terms(under_tls=True))
    assert refusal is not None
    assert refusal.code == 501
    assert REQUIRETLS.not_offered().enhanced == "5.7.30"


def test_no_parameter_has_two_owners() -> None:
    for where in ("mail", "rcpt"):
        names = [name for extension in EXTENSIONS for name in getattr(extension, where)]
        assert len(names) == len(set(names))


def test_a_listed_extension_takes_nothing_from_ours() -> None:
    known = Known.of({"x-site": PassedParameters(mail=("RET", "xfoo"), rcpt=("xbar",))})
    assert known.mail["RET"].keyword == "DSN"
    assert known.mail["XFOO"] is known.rcpt["XBAR"] is known.all[-1]
    assert Known.of(Config().pass_extensions).all == EXTENSIONS
