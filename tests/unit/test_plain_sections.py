"""Plain copies of sections: what is read for every message is what the configuration says."""

import pytest
from pydantic import BaseModel

from gateway.config.models import LimitsConfig, RelayConfig
from gateway.config.plain import plain

SECTIONS = [LimitsConfig(message_size=12_345, recipients=700), RelayConfig(max_messages=9, wait_limit=3)]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda one: type(one).__name__)
def test_every_field_is_there_as_it_was(section: BaseModel) -> None:
    copy = plain(section)
    for name in type(section).model_fields:
        assert getattr(copy, name) is getattr(section, name)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda one: type(one).__name__)
def test_a_section_that_is_copied_has_nothing_but_fields(section: BaseModel) -> None:
    """A property or method of it would be missing from the copy, and the type checker would not say so."""
    own = {name for kind in type(section).__mro__ if kind.__module__.startswith("gateway.") for name in vars(kind)}
    more = {name for name in own - set(type(section).model_fields) if not name.startswith("_")}
    assert not {name for name in more if not name.startswith("model_")}
