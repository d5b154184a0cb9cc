"""What tests of the resolver share."""

from __future__ import annotations

import pytest

from gateway.dns import resolver


@pytest.fixture(params=["dnspython", "aiodns"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every resolver of the test asks in this way, whatever its settings say."""
    name = str(request.param)
    make = resolver._backend
    monkeypatch.setattr(resolver, "_backend", lambda _: make(name))
    return name
