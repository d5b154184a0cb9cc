"""Every name of the public API, and every hook, has a docstring with an example, and each example does what it says."""

from __future__ import annotations

from typing import Any

import pytest

import gateway
import gateway.testing
from gateway.answers import SPECIFICATIONS
from gateway.hook_reference import parts_of
from tests.docs import examples

NAMES: dict[str, Any] = {
    name: getattr(module, name) for module in (gateway, gateway.testing) for name in module.__all__ if name != "StubDnsServer"
}


@pytest.mark.parametrize("name", gateway.__all__)
def test_of_a_name_of_gateway(name: str) -> None:
    text = examples.docstring(gateway, name)
    assert examples.examples(text), f"gateway.{name} has no example in its docstring"
    examples.run(text, NAMES)


@pytest.mark.parametrize("name", gateway.testing.__all__)
def test_of_a_name_of_gateway_testing(name: str) -> None:
    text = examples.docstring(gateway.testing, name)
    assert examples.examples(text), f"gateway.testing.{name} has no example in its docstring"
    examples.run(text, {**NAMES, name: getattr(gateway.testing, name)})


@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_of_a_hook(name: str) -> None:
    text = parts_of(name)[1]["Examples"]
    assert f"def {name}(" in text
    examples.run(text, NAMES)


def test_an_example_that_is_wrong_is_seen() -> None:
    examples.run(">>> accept().reason\n''\n", NAMES)
    with pytest.raises(AssertionError, match="expected: 'partner'"):
        examples.run(">>> accept().reason\n'partner'\n", NAMES)
    with pytest.raises(AssertionError, match="NameError"):
        examples.run(">>> nothing\n", NAMES)
    examples.run(">>> raise ValueError('so')\nTraceback (most recent call last):\nValueError: so\n", NAMES)
    with pytest.raises(AssertionError, match="got: ValueError: so"):
        examples.run(">>> raise ValueError('so')\nTraceback (most recent call last):\nValueError: other\n", NAMES)


def test_a_name_without_an_example_is_seen() -> None:
    assert not examples.examples(examples.docstring(gateway.header_facts, "parsedate_to_datetime"))
    assert examples.docstring(gateway.units, "_DURATION") == ""
