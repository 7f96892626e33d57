"""Measure pypiserver-lite against its targets: ``python benchmarks/run.py [--quick] [PART ...]``."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time

import environment


def main() -> int:
    """Run the parts that are asked for, and print one table. 1 if a part failed."""
    environment.enter()
    # Only from here on: what is imported comes from the benchmark's environment.
    import servers
    import table
    from bench import Bench
    from parts import PARTS

    parser = argparse.ArgumentParser(description=__doc__, epilog="parts: " + ", ".join(PARTS))
    parser.add_argument("parts", nargs="*", metavar="PART", help="what to measure (default: everything)")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds, a smaller largest folder")
    given = parser.parse_args()
    unknown = set(given.parts) - PARTS.keys()
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")

    os.sched_setaffinity(0, {servers.LOAD_CORE})
    print(f"Python {platform.python_version()}, {len(servers.CORES)} cores, load average {os.getloadavg()[0]:.1f}")
    if len(servers.CORES) < 2:
        print("Only one core: server and load share it, and all figures are worth less.")
    rows: list[table.Row] = []
    failed = 0
    bench = Bench(quick=given.quick)
    try:
        for name in given.parts or PARTS:
            began = time.monotonic()
            print(f"{name} …", file=sys.stderr, end=" ", flush=True)
            try:
                with bench.part():
                    rows.extend(PARTS[name](bench))
            except environment.Missing as missing:
                rows.append(table.Row(name, note=f"left out: {missing}"))
            except Exception as error:
                failed = 1
                rows.append(table.Row(name, note=f"failed: {str(error)[:300]}"))
            print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    except KeyboardInterrupt:
        failed = 1
    finally:
        bench.folders.close()
    print("\n".join(table.lines(rows)))
    return failed


if __name__ == "__main__":
    sys.exit(main())
