"""docs/metrics.md lists every metric with its labels, and no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from prometheus_client.metrics import MetricWrapperBase

from gateway import metrics
from gateway.admin.app import _WorkerCollector
from gateway.admin.health import Health
from gateway.server.slots import Counted, Slots

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def documented() -> dict[str, tuple[str, tuple[str, ...]]]:
    rows = re.findall(r"^\| `(mailgateway_\w+)` \| (\w+) \| (.*?) \|", PAGE.read_text(), re.MULTILINE)
    return {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def of_code() -> dict[str, tuple[str, tuple[str, ...]]]:
    found = {}
    own: list[Any] = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]
    for metric in own:
        (family,) = metric.describe()
        name = family.name + ("_total" if family.type == "counter" else "")
        found[name] = (family.type, tuple(metric._labelnames))
    slots = Slots(1, ["r"])
    for what in Counted:
        slots.count(what)
    for family in _WorkerCollector(Health(slots=slots, supervisor=1)).collect():
        found[family.name + ("_total" if family.type == "counter" else "")] = (family.type, tuple(family.samples[0].labels))
    return found


def test_the_page_is_complete() -> None:
    assert documented() == of_code()
