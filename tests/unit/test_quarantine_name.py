"""`gateway.quarantine` is the verdict for plugins and the package for us, in whatever order they are imported."""

import subprocess
import sys

import pytest

import gateway
from gateway.verdict import quarantine

PLUGIN = "from gateway import quarantine; assert quarantine('x').box == 'default', quarantine"
PACKAGE = "from gateway.quarantine import Quarantine; from gateway.quarantine.release import release"


@pytest.mark.parametrize("code", [f"{PLUGIN}; {PACKAGE}; {PLUGIN}", f"{PACKAGE}; {PLUGIN}"])
def test_both_are_there(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_public_api_loads_no_database() -> None:
    code = "import sys, gateway; sys.exit('sqlalchemy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_attribute_is_the_verdict() -> None:
    assert vars(gateway)["quarantine"] is quarantine


def test_every_name_of_the_package_is_there_and_no_other() -> None:
    package = sys.modules["gateway.quarantine"]
    for name in package.__all__:
        assert hasattr(package, name), name
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        _ = package.other
