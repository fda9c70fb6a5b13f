"""What every benchmark needs: what the machine is, installing peers, medians, its section of bench/RESULTS.md."""

import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
RESULTS = BENCH / "RESULTS.md"
SURUS = ROOT / "target/release/surus"


def say(text):
    print(text, flush=True)


def install(packages):
    """Installs Debian's packages of which the program is not here ({package: program}); starts none of them."""
    missing = [package for package, program in packages.items() if not os.access(program, os.X_OK)]
    if missing:
        say(f"installing {' '.join(missing)} with apt-get")
        as_root = [] if os.getuid() == 0 else ["sudo"]
        command = ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "install", "-y", "-q",
                   "--no-install-recommends"]
        subprocess.run([*as_root, *command, *missing], check=True, stdout=sys.stderr)


def build():
    """The release binary, as users have it."""
    subprocess.run(["cargo", "build", "--quiet", "--release", "-p", "surus"], cwd=ROOT, check=True)


def median(values):
    return statistics.median(values)


def spread(values, digits=2):
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def machine():
    cpu = "unknown CPU"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores of {cpu}, {memory:.0f} GiB, Linux {platform.release()}"


def package_version(package):
    return subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], check=True, capture_output=True,
                          text=True).stdout


def rustc_version():
    return subprocess.run(["rustc", "--version"], check=True, capture_output=True, text=True).stdout.strip()


def commit():
    return subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, check=True, capture_output=True,
                          text=True).stdout.strip()


def command_line(name):
    """How this run was called."""
    return f"bench/{name}/run" + "".join(f" {one}" for one in sys.argv[1:])


def write_section(name, lines):
    """Replaces this benchmark's section of the results, or appends it."""
    old = RESULTS.read_text() if RESULTS.exists() else "# Results of the benchmarks\n\nEach section is written by " \
        "`bench/<name>/run`. Numbers are as measured, on the machine that is named.\n"
    before, mark, rest = old.partition(f"\n## {name}\n")
    after = rest[rest.index("\n## "):] if mark and "\n## " in rest else ""
    RESULTS.write_text(before.rstrip("\n") + f"\n\n## {name}\n\n" + "\n".join(lines).rstrip("\n") + "\n" + after)
