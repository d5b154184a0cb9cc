"""Values of an EHLO keyword over several servers: what all of them keep to."""

from __future__ import annotations

import pytest

from gateway.relay.keyword_values import limits_of
from gateway.relay.protocol import Capabilities


@pytest.mark.parametrize(
    ("line", "other", "both"),
    [
        # RFC 2852 4: the larger minimum; no value is no minimum
        ("DELIVERBY 240", "DELIVERBY 600", "DELIVERBY 600"),
        ("DELIVERBY", "DELIVERBY 600", "DELIVERBY 600"),
        ("DELIVERBY 0", "DELIVERBY x", "DELIVERBY"),
        # RFC 4865 4.1: the shorter interval, the earlier date
        ("FUTURERELEASE 10 2031-01-01T00:00:00Z", "FUTURERELEASE 9 2031-01-01T00:30:00Z", "FUTURERELEASE 9 2031-01-01T00:00:00Z"),
        (
            "FUTURERELEASE 10 2031-01-01T00:00:00Z",
            "FUTURERELEASE 99 2031-01-01T00:30:00+01:00",
            "FUTURERELEASE 10 2031-01-01T00:30:00+01:00",
        ),
        ("FUTURERELEASE 10 soon", "FUTURERELEASE 99 2031-01-01T00:30:00Z", None),
        ("FUTURERELEASE 10 soon", "FUTURERELEASE 10 soon", "FUTURERELEASE 10 soon"),
        ("FUTURERELEASE x 2031-01-01T00:30:00", "FUTURERELEASE", None),
        ("FUTURERELEASE 5 2031-01-01T00:30:00", "FUTURERELEASE 6 2031-01-01T00:30:00Z", "FUTURERELEASE 5 2031-01-01T00:30:00"),
        # RFC 6710 5: a profile is both's or nobody's
        ("MT-PRIORITY NSEP", "MT-PRIORITY nsep", "MT-PRIORITY NSEP"),
        ("MT-PRIORITY NSEP", "MT-PRIORITY MIXER", "MT-PRIORITY"),
        ("MT-PRIORITY NSEP", "MT-PRIORITY", "MT-PRIORITY"),
        # RFC 9422 4.1: the smaller of each; one without a limit does not lift the other's
        ("LIMITS RCPTMAX=10 MAILMAX=3", "LIMITS RCPTMAX=20 RCPTDOMAINMAX=1", "LIMITS RCPTMAX=10 MAILMAX=3 RCPTDOMAINMAX=1"),
        ("LIMITS RCPTMAX=10", "DSN", "LIMITS RCPTMAX=10"),
        ("NO-SOLICITING a b", "NO-SOLICITING b c", "NO-SOLICITING b"),
        ("DSN", "DELIVERBY 1", None),
    ],
)
def test_what_both_keep_to(line: str, other: str, both: str | None) -> None:
    one, two = _capabilities(line), _capabilities(other)
    wanted = {} if both is None else _capabilities(both).keywords
    assert one.common(two).keywords == wanted
    if line.partition(" ")[0] == other.partition(" ")[0] == "LIMITS":
        assert two.common(one).keywords == wanted


def _capabilities(line: str) -> Capabilities:
    keyword, *values = line.split()
    return Capabilities({keyword: tuple(values)})


def test_limits_that_mean_nothing_are_passed_over() -> None:
    assert limits_of(("RCPTMAX=0", "mailmax=7", "RCPTDOMAINMAX=-1", "HDRMAX=5", "RCPTMAX=1234567", "MAILMAX")) == {"MAILMAX": 7}
