"""The peers of bench/backup: each can back up a server into an empty repository, again incrementally, and restore."""

import os
import shutil
import subprocess
import time
from pathlib import Path

from measure import SURUS


class Cost:
    """What a command took: seconds, CPU seconds of it and all its children, most memory of one of them in MiB."""

    def __init__(self, wall, cpu, rss):
        self.wall, self.cpu, self.rss = wall, cpu, rss


def run(command, server=None, as_user=None, env=None, cwd=None, check=True):
    """Runs a command; CPU of the server's backends counts, too, when the server is given."""
    before = server.backend_cpu_seconds() if server else 0
    began = time.monotonic()
    process = subprocess.Popen(
        [str(part) for part in command], cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, **(as_user or {}))
    out = process.stdout.read()
    _, status, spent = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if check and process.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} failed ({process.returncode}):\n{out}")
    if server:
        server.wait_until_quiet()
    cpu = spent.ru_utime + spent.ru_stime + ((server.backend_cpu_seconds() - before) if server else 0)
    return Cost(wall, cpu, spent.ru_maxrss / 1024), out


def size_of(folder):
    """Bytes of all files below."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file() and not path.is_symlink())


class Peer:
    """A tool with a repository of its own under `home`."""

    def __init__(self, name, server, home, workers):
        self.name, self.server, self.workers = name, server, workers
        self.home = home / name
        self.repo = self.home / "repo"

    def user(self):
        return self.server.as_user

    def own(self, path):
        path.mkdir(parents=True, exist_ok=True)
        if self.user():
            os.chown(path, self.user()["user"], self.user()["group"])

    def clear(self):
        shutil.rmtree(self.home, ignore_errors=True)
        self.own(self.home)
        self.own(self.repo)

    def call(self, *command, server=True, check=True):
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "LC_ALL": "C.UTF-8", "TZ": "UTC",
                       "SURUS_AGENT_IDLE": "2"}
        return run(command, self.server if server else None, self.user(), environment, self.home, check)

    def ready_for_wal(self):
        """After it, the archive command works."""

    def end_helpers(self):
        """Ends what the archive command left running."""

    def target(self):
        """An empty directory to restore into."""
        target = self.home / "restored"
        shutil.rmtree(target, ignore_errors=True)
        self.own(target)
        os.chmod(target, 0o700)
        return target


class Surus(Peer):
    """surus, reading the data directory itself, zstd level 3 as pgBackRest's default."""

    def dsn(self):
        return f"host={self.server.dir} port={self.server.port} user=postgres dbname=postgres"

    def archive_command(self):
        return f"{SURUS} wal push --repo {self.repo} %p"

    def prepare(self):
        self.clear()

    def ready_for_wal(self):
        self.full()

    def end_helpers(self):
        # The agent ends by itself; until then it remembers what it archived.
        while any(self.is_agent(process) for process in Path("/proc").glob("[0-9]*/cmdline")):
            time.sleep(0.2)

    def is_agent(self, cmdline):
        try:
            words = cmdline.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            return False
        return "agent" in words and str(self.repo) in words

    def full(self):
        return self.call(SURUS, "backup", "run", "--repo", self.repo, "--full", "--jobs", self.workers, self.dsn())[0]

    def incremental(self):
        return self.call(SURUS, "backup", "run", "--repo", self.repo, "--incremental", "--jobs", self.workers,
                         self.dsn())[0]

    def restore(self):
        return self.call(SURUS, "restore", "--repo", self.repo, "--to", self.target(), "--jobs", self.workers,
                         server=False)[0]

    def verify(self):
        return self.call(SURUS, "backup", "verify", "--repo", self.repo, "--jobs", self.workers, server=False)[0]


class PgBackRest(Peer):
    """pgBackRest with zst, bundling, and the same number of processes."""

    def options(self):
        return ["--no-config", "--stanza=bench", f"--repo1-path={self.repo}",
                f"--pg1-path={self.server.data}", f"--pg1-port={self.server.port}",
                f"--pg1-socket-path={self.server.dir}", "--pg1-user=postgres", "--compress-type=zst",
                "--compress-level=3", "--repo1-bundle", f"--process-max={self.workers}", "--start-fast",
                f"--log-path={self.home}", f"--lock-path={self.home}/lock", f"--spool-path={self.home}/spool",
                "--log-level-console=error", "--no-repo1-hardlink"]

    def only(self, *names):
        """The options that the command knows; it refuses the others."""
        return [one for one in self.options() if one.split("=")[0].removeprefix("--") in names]

    COMMON = ("no-config", "stanza", "repo1-path", "log-path", "lock-path", "log-level-console")

    def archive_command(self):
        options = " ".join(self.only(*self.COMMON, "pg1-path", "compress-type", "compress-level"))
        return f"/usr/bin/pgbackrest {options} archive-push %p"

    def prepare(self):
        self.clear()
        self.call("/usr/bin/pgbackrest", *self.only(
            *self.COMMON, "pg1-path", "pg1-port", "pg1-socket-path", "pg1-user"), "stanza-create", server=False)

    def backup(self, kind):
        options = self.only(*self.COMMON, "pg1-path", "pg1-port", "pg1-socket-path", "pg1-user", "compress-type",
                            "compress-level", "repo1-bundle", "process-max", "start-fast")
        return self.call("/usr/bin/pgbackrest", *options, f"--type={kind}", "--repo1-retention-full=9", "backup")[0]

    def full(self):
        return self.backup("full")

    def incremental(self):
        return self.backup("incr")

    def restore(self):
        return self.call("/usr/bin/pgbackrest", *self.only(*self.COMMON, "process-max"),
                         f"--pg1-path={self.target()}", "restore", server=False)[0]


class Barman(Peer):
    """Barman over pg_basebackup, with the server's zstd level 3: its way to compress while it copies."""

    def prepare(self):
        self.clear()
        (self.home / "barman.conf").write_text(
            f"[barman]\nbarman_home = {self.repo}\nbarman_user = postgres\nlog_file = {self.home}/barman.log\n"
            f"log_level = INFO\nbarman_lock_directory = {self.home}\n"
            f"[bench]\ndescription = bench\nbackup_method = postgres\nbackup_compression = zstd\n"
            f"backup_compression_level = 3\nbackup_compression_location = client\narchiver = on\n"
            f"streaming_archiver = off\nimmediate_checkpoint = true\npath_prefix = {self.server.bin}\n"
            f"conninfo = host={self.server.dir} port={self.server.port} user=postgres dbname=postgres\n"
            f"streaming_conninfo = host={self.server.dir} port={self.server.port} user=postgres dbname=postgres\n")
        self.call("/usr/bin/barman", "-c", self.home / "barman.conf", "cron", server=False, check=False)

    def incoming(self):
        return self.repo / "bench" / "incoming"

    def archive_command(self):
        return f"cp %p {self.incoming()}/%f"

    def full(self):
        # It begins no backup before it has seen WAL arrive.
        self.own(self.incoming().parent)
        self.own(self.incoming())
        for _ in range(10):
            self.server.psql("postgres", "-c", "CHECKPOINT", "-c", "SELECT pg_switch_wal()")
            time.sleep(1)
            self.call("/usr/bin/barman", "-c", self.home / "barman.conf", "archive-wal", "bench", server=False,
                      check=False)
            if any((self.repo / "bench" / "wals").rglob("0000*")):
                break
        return self.call("/usr/bin/barman", "-q", "-c", self.home / "barman.conf", "backup", "bench")[0]
