"""Instructions of fixed scenarios, counted by callgrind and compared with those kept in instructions.toml.

    make count                                  # fails where one is more than 3 % from what is kept
    make count ARGS=--keep                      # keep what is counted now
    make count ARGS='--only "5 MB" --only "log line"'

A count is the same again to some tenths of a percent, on a busy machine too, but it is one of one interpreter and one set of
libraries: the table says which, and with others it is to be kept anew, from a state of the code that is known to be good.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tomllib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.counted import count
from benchmarks.scenarios import scenarios

TABLE = Path(__file__).with_suffix(".toml")
TOLERANCE = 0.03


def main() -> None:
    """Count, print beside what is kept, and say what rose or fell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="write what is counted into the table")
    parser.add_argument(
        "--only", action="append", choices=list(scenarios()), metavar="SCENARIO", help="this one; may be repeated"
    )
    options = parser.parse_args()
    kept: dict[str, Any] = tomllib.loads(TABLE.read_text("utf-8")) if TABLE.exists() else {}
    table: dict[str, int] = kept.get("instructions", {})
    counted_with = f"{platform.python_implementation()} {platform.python_version()}, uvloop {version('uvloop')}"
    if not options.keep and kept.get("with") != counted_with:
        print(f"kept with {kept.get('with', 'nothing')}, counted with {counted_with}: ratios say little")
    print("| scenario | of one | instructions | kept | ratio |\n|---|---|---|---|---|")
    found: dict[str, int] = {}
    for name, instructions in count(options.only or list(scenarios())):
        found[name] = round(instructions)
        before = table.get(name)
        cells = (f"{before:,}", f"{instructions / before:.3f}") if before else ("", "")
        print(f"| {name} | {scenarios()[name].unit} | {found[name]:,} | {cells[0]} | {cells[1]} |", flush=True)
    if options.keep:
        _keep(counted_with, {**table, **found})
    elif said := apart(found, table):
        sys.exit("\n".join(said))


def apart(found: Mapping[str, int], kept: Mapping[str, int]) -> list[str]:
    """What is further from what is kept than a count varies by itself: a line for what rose, one for what fell, one for what is new."""
    ratios = {name: instructions / kept[name] for name, instructions in found.items() if name in kept}
    lines = {
        f"more than {TOLERANCE:.0%} dearer than what is kept": [name for name in ratios if ratios[name] > 1 + TOLERANCE],
        f"more than {TOLERANCE:.0%} cheaper: keep it, so that a later rise is seen": [
            name for name in ratios if ratios[name] < 1 - TOLERANCE
        ],
        "not kept yet": [name for name in found if name not in kept],
    }
    told = {name: f"{name} ({ratios[name] - 1:+.1%})" if name in ratios else name for name in found}
    return [f"{line}: {', '.join(told[name] for name in names)}" for line, names in lines.items() if names]


def _keep(counted_with: str, table: dict[str, int]) -> None:
    lines = [f'"{name}" = {table[name]:_}  # a {scenario.unit}' for name, scenario in scenarios().items() if name in table]
    head = "# Written by `make count ARGS=--keep`, compared by `make count`. Fewer is better.\n"
    TABLE.write_text(f'{head}with = "{counted_with}"\n\n[instructions]\n' + "\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
