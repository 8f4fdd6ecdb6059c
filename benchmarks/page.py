"""Writes docs/benchmarks.md: `make bench` measures, this puts what it wrote into benchmarks/page.md's text.

    page.py out/bench.json out/limits.md docs/benchmarks.md

`{{kernels}}` in the text becomes the section of test_kernels.py: what its own head says is inside and outside of a
timing, then a table for each group of benchmarks that ran side by side. Nothing in such a section is typed by hand.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def duration(seconds: float) -> str:
    """A time with three digits and its unit."""
    scale, unit = next((pair for pair in UNITS if seconds >= pair[0]), UNITS[-1])
    value = seconds / scale
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"


def head_of(file: Path) -> str:
    """A benchmark file's own words."""
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


def wrapped(text: str) -> str:
    """Paragraphs in lines of 120 characters."""
    return "\n\n".join(textwrap.fill(part, 120, break_on_hyphens=False) for part in text.split("\n\n"))


def told(value: Any) -> str:
    """A figure in few digits."""
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)


def tables(benchmarks: list[dict[str, Any]]) -> Iterator[str]:
    """One table a group, in the order in which they ran; ratios are to its shortest median."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for one in benchmarks:
        groups.setdefault(one["group"] or "", []).append(one)
    for group, rows in groups.items():
        least = min(one["stats"]["median"] for one in rows)
        beside = len(rows) > 1 and group != ""
        lines = [f"| {group or 'alone'} | p50 | p90 | p99 |{' of the least |' if beside else ''} figures |"]
        lines.append("|---|---|---|---|" + ("---|" if beside else "") + "---|")
        for one in rows:
            stats = one["stats"]
            name = one["name"].removeprefix("test_").replace("_", " ")
            times = " | ".join(duration(stats[key]) for key in ("median", "p90", "p99"))
            ratio = f" {stats['median'] / least:.2f} |" if beside else ""
            figures = "; ".join(f"{key} {told(value)}" for key, value in one["extra_info"].items())
            lines.append(f"| {name} | {times} |{ratio} {figures} |")
        yield "\n".join(lines)


def section(name: str, measured: list[dict[str, Any]]) -> str:
    """The section of a benchmark file."""
    file = ROOT / "benchmarks" / f"test_{name}.py"
    own = [one for one in measured if one["fullname"].split("::")[0].endswith(file.name)]
    if not own:
        raise SystemExit(f"page.py: {name}: no benchmark of {file.name} is in the measurements")
    return "\n\n".join([f"`{file.relative_to(ROOT)}`:", wrapped(head_of(file)), *tables(own)])


def page(text: str, run: dict[str, Any], limits: str) -> str:
    """The whole page."""
    machine = run["machine_info"]
    cpu = machine["cpu"]
    versions = {"Python": machine["python_version"]} | machine["packages"]
    where = f"{run['datetime'][:10]}, {cpu.get('brand_raw', machine['processor'])}, {cpu['count']} cores; " + ", ".join(
        f"{name} {version}" for name, version in versions.items()
    )
    text = re.sub(r"\{\{machine\}\}", lambda _: where, text)
    text = text.replace("{{limits}}", limits.strip())
    return re.sub(r"\{\{(\w+)\}\}", lambda found: section(found[1], run["benchmarks"]), text)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measured", type=Path)
    parser.add_argument("limits", type=Path, help="what benchmarks/limits.py printed")
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    run = json.loads(given.measured.read_text(encoding="utf-8"))
    text = (ROOT / "benchmarks" / "page.md").read_text(encoding="utf-8")
    aside = given.out.with_suffix(".new")
    aside.write_text(page(text, run, given.limits.read_text(encoding="utf-8")), encoding="utf-8")
    aside.replace(given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
