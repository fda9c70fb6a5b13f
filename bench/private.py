"""A private PostgreSQL for a benchmark: own directory, own socket, loopback only, gone when it ends."""

import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

LOAD_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "shared_preload_libraries": "pg_stat_statements",
    "archive_mode": "on",
    "archive_command": "/bin/true",
    "logging_collector": "on",
    "log_destination": "jsonlog",
    "log_directory": "log",
    "log_filename": "server.log",
    "log_rotation_age": "0",
    "log_rotation_size": "0",
    # Durability is not what is measured, and the load is long enough.
    "fsync": "off",
    "autovacuum": "off",
}
# As most servers are, but autovacuum must not wake up in the middle of a measurement.
RUN_SETTINGS = {"fsync": "on", "autovacuum": "on", "autovacuum_naptime": "1d"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """PostgreSQL as user postgres (it refuses root); as ourselves when we are not root."""

    def __init__(self, bin_dir):
        self.bin = Path(bin_dir)
        self.as_user = {}
        self.dir = Path(tempfile.mkdtemp(prefix="surus-bench-"))
        if os.getuid() == 0:
            account = pwd.getpwnam("postgres")
            self.as_user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            os.chown(self.dir, account.pw_uid, account.pw_gid)
        self.data = self.dir / "data"
        self.log_path = self.data / "log" / "server.json"
        self.port = free_port()

    def program(self, name, *arguments):
        """Runs one of PostgreSQL's programs; what it says is shown only when it fails."""
        done = subprocess.run(
            [self.bin / name, *arguments], cwd=self.dir, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **self.as_user)
        if done.returncode != 0:
            raise SystemExit(f"{name} failed:\n{done.stdout}")
        return done.stdout

    def configure(self, settings):
        with open(self.data / "postgresql.auto.conf", "a", encoding="utf-8") as conf:
            for name, value in settings.items():
                conf.write(f"{name} = '{value}'\n")

    def start(self):
        # The server must not keep our output open.
        subprocess.run(
            [self.bin / "pg_ctl", "-D", self.data, "-w", "-t", "120", "-l", self.dir / "start.log", "start"],
            cwd=self.dir, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            check=True, **self.as_user)
        self.pid = int((self.data / "postmaster.pid").read_text().split()[0])

    def stop(self):
        self.program("pg_ctl", "-D", self.data, "-w", "-t", "120", "-m", "fast", "stop")

    def create(self):
        self.program("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-k", "--no-sync",
                     "--encoding=UTF8", "--locale=C.UTF-8")
        self.configure({**LOAD_SETTINGS, "port": self.port, "unix_socket_directories": self.dir})
        self.start()

    def settle(self):
        """Restarts with the settings that are measured."""
        self.configure(RUN_SETTINGS)
        self.stop()
        self.start()

    def remove(self):
        if (self.data / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.dir)

    def psql(self, database, *arguments):
        return self.program("psql", "-h", str(self.dir), "-p", str(self.port), "-U", "postgres", "-d", database,
                            "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *arguments).strip()

    def log_statements(self, on):
        self.psql("postgres", "-c", f"ALTER SYSTEM SET log_min_duration_statement = {0 if on else -1}",
                  "-c", "SELECT pg_reload_conf()")
        time.sleep(0.5)

    def statements_since(self, offset):
        """(milliseconds, text) of every statement that clients sent since this offset of the log."""
        found = []
        with open(self.log_path, encoding="utf-8") as log:
            log.seek(offset)
            for line in log:
                message = json.loads(line).get("message", "")
                if message.startswith("duration: "):
                    took, _, rest = message[len("duration: "):].partition(" ms")
                    kind = rest.strip().split(":")[0].split(" ")[0]
                    # Of the extended protocol's three messages only the last is a statement.
                    if kind in ("statement", "execute"):
                        found.append((float(took), rest.strip()))
        return found

    def log_size(self):
        return self.log_path.stat().st_size

    def wait_until_quiet(self):
        """Waits until every client's backend is gone and so is counted below."""
        for _ in range(500):
            # One that is ending counts as soon as its parent has taken note of it; until then it has no title.
            if all(state != "Z" and self.is_auxiliary(entry) for entry, state in self.children()):
                return
            time.sleep(0.01)
        raise SystemExit("backends stay behind")

    def children(self):
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                if int(fields[1]) == self.pid:
                    yield entry, fields[0]

    @staticmethod
    def is_auxiliary(entry):
        """Does its title say that it serves no client?"""
        try:
            title = (entry / "cmdline").read_bytes()
        except OSError:
            return False
        return title.startswith(b"postgres: ") and b"127.0.0.1(" not in title and b"[local]" not in title

    def backend_cpu_seconds(self):
        """CPU seconds of all backends that have ended, as the kernel counts them for their parent."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def load_catalogue(server, sql, tables):
    """Makes the database "bench" with so many tables, settles the server; how many tables and indexes there are."""
    print(f"loading {tables:,} tables into {server.dir}", flush=True)
    seed = server.dir / "catalogue.sql"
    seed.write_text(sql.read_text().replace("1..10000", f"1..{tables}"))
    seed.chmod(0o644)
    server.psql("postgres", "-c", "CREATE EXTENSION pg_stat_statements", "-c", "CREATE DATABASE bench")
    server.psql("bench", "-c", "CREATE EXTENSION pg_stat_statements")
    server.psql("bench", "-f", str(seed))
    server.psql("bench", "-c", "VACUUM ANALYZE")
    server.settle()
    counts = "SELECT count(*) FROM pg_class WHERE relnamespace::regnamespace::text LIKE 'app%%' AND relkind = '%s'"
    return [int(server.psql("bench", "-c", counts % kind)) for kind in "ri"]


# A third each: rows that compress well, text that compresses some, and bytes that do not.
MIXED = """
CREATE TABLE dull AS SELECT g AS id, repeat('the quick brown fox ', 6) || g AS text, now() AS at
  FROM generate_series(1, {third} / 190) g;
CREATE TABLE words AS SELECT g AS id,
  (SELECT string_agg(substr(md5((g * 7 + n)::text), 1, 2 + n % 7), ' ') FROM generate_series(1, 24) n) AS text
  FROM generate_series(1, {third} / 180) g;
CREATE TABLE noise AS SELECT g AS id, (SELECT string_agg(decode(md5(random()::text || g || n), 'hex'), '')
  FROM generate_series(1, 60) n) AS bytes FROM generate_series(1, {third} / 1020) g;
ALTER TABLE dull ADD PRIMARY KEY (id); ALTER TABLE words ADD PRIMARY KEY (id); ALTER TABLE noise ADD PRIMARY KEY (id);
"""


def mixed(bin_dir, gigabytes):
    """A server with so much data of all kinds, settled."""
    server = Server(bin_dir)
    server.create()
    print(f"filling {gigabytes} GB in {server.dir}", flush=True)
    server.psql("postgres", "-c", MIXED.format(third=int(gigabytes * 2**30 / 3)))
    server.psql("postgres", "-c", "VACUUM (FREEZE, ANALYZE)", "-c", "CHECKPOINT")
    server.settle()
    return server
