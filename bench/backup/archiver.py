"""Archives segments one after another as PostgreSQL's archiver does, and says what each took: a process of its own, so
that it is the server's account, and so that commands are begun without a copy of a large process, as libc's system().

Arguments: the directory with the segments, the command with %p, the segments' names. Prints JSON.
"""

import json
import os
import sys
import time
from pathlib import Path


def busy_seconds():
    """CPU seconds that the whole machine spent: the agent of surus is no child of the command."""
    user, nice, system = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:4]
    return (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK")


def main():
    kept, template, names = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    marks = kept / "archive_status"
    said = Path("said")
    actions = [(os.POSIX_SPAWN_OPEN, 1, str(said), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
               (os.POSIX_SPAWN_DUP2, 1, 2)]
    took, began, spent = [], time.monotonic(), busy_seconds()
    for name in names:
        command = template.replace("%p", str(kept / name))
        at = time.monotonic()
        child = os.posix_spawn("/bin/sh", ["/bin/sh", "-c", command], os.environ, file_actions=actions)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        took.append((time.monotonic() - at) * 1000)
        if status != 0:
            raise SystemExit(f"{command} failed ({status}):\n{said.read_text()}")
        (marks / f"{name}.ready").rename(marks / f"{name}.done")
    print(json.dumps({"took": took, "all": time.monotonic() - began, "cpu": busy_seconds() - spent}))


main()
