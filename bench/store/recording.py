"""A recording of what Debian's postgres_exporter says of a PostgreSQL at work: real values in their real mix.

Used by bench/store/run; alone: recording.py FILE CYCLES [TABLES]
"""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.dont_write_bytecode = True
import private  # noqa: E402

EXPORTER = "/usr/bin/prometheus-postgres-exporter"
LINE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


def scrape(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return answer.read().decode()


def parse(text):
    """(labels as a tuple of pairs, value) of every sample."""
    for line in text.splitlines():
        found = LINE.match(line)
        if found and not line.startswith("#"):
            unescape = lambda value: re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], value)  # noqa: E731
            labels = [(name, unescape(value)) for name, value in LABEL.findall(found[2] or "")]
            yield (("__name__", found[1]), ("job", "postgres"), ("instance", "main"), *labels), float(found[3])


def record(path, cycles, tables=100, bin_dir="/usr/lib/postgresql/15/bin"):
    """One cycle a second; a scenario of some minutes: load that rises and falls, idle minutes, a restart of pgbench."""
    server = private.Server(bin_dir)
    children = []
    try:
        server.create()
        private.load_catalogue(server, HERE.parent / "catalogue.sql", tables)
        server.psql("postgres", "-c", "CREATE DATABASE bank")
        server.program("pgbench", "-i", "-q", "-s", "5", "-h", str(server.dir), "-p", str(server.port), "-U", "postgres",
                       "bank")
        port = private.free_port()
        env = {"PATH": os.environ["PATH"],
               "DATA_SOURCE_NAME": f"postgresql://postgres@127.0.0.1:{server.port}/bank?sslmode=disable"}
        children.append(subprocess.Popen(
            [EXPORTER, f"--web.listen-address=127.0.0.1:{port}", "--auto-discover-databases"], env=env,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        load, series, rows = None, {}, []
        start = time.monotonic()
        for cycle in range(cycles):
            # Five minutes of each: some load, more, none, a little.
            rate = [40, 90, 0, 10][cycle // 300 % 4]
            if cycle % 300 == 0:
                if load:
                    load.terminate()
                    load.wait()
                    children.remove(load)
                load = None
                if rate:
                    load = subprocess.Popen(
                        ["nice", "-n", "10", server.bin / "pgbench", "-h", str(server.dir), "-p", str(server.port), "-U",
                         "postgres", "-c", "4", "-R", str(rate), "-T", "400", "bank"], stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL, cwd=server.dir, **server.as_user)
                    children.append(load)
            for _ in range(50):
                try:
                    text = scrape(port)
                    break
                except OSError:
                    time.sleep(0.1)
            row = [None] * len(series)
            for labels, value in parse(text):
                at = series.setdefault(labels, len(series))
                row.extend([None] * (len(series) - len(row)))
                row[at] = value
            rows.append(row)
            time.sleep(max(0, start + cycle + 1 - time.monotonic()))
        with open(path, "w", encoding="utf-8") as out:
            json.dump([dict(labels) for labels in series], out)
            out.write("\n")
            for row in rows:
                row.extend([None] * (len(series) - len(row)))
                # NaN and infinities as text; JSON has none.
                out.write(json.dumps([v if v is None or abs(v) < 1e300 else str(v) for v in row]) + "\n")
        return len(series)
    finally:
        for child in children:
            child.terminate()
            child.wait()
        server.remove()


if __name__ == "__main__":
    print(record(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 100), "series")
