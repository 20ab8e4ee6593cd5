"""A server as a process of its own: started, waited for until it answers, looked at and ended.  For the scenarios
of this folder and for tests/server."""
import atexit
import collections
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time

MIB = 1 << 20

# Of a process; bytes.  None: this system does not tell.
Usage = collections.namedtuple("Usage", ["resident", "peak", "threads", "descriptors"])


class ServerProcess:
    """Ends with the `with` block, or else with this program.  `command` may start the server by way of others (a
    limit of memory, a root of its own).  Where it does not start, this program ends and says why."""

    def __init__(self, command, environment=None, patience=600):
        self.port = None
        self.url = None
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self.log, env=environment,
                                        start_new_session=True)
        atexit.register(self.kill)
        deadline = time.monotonic() + patience
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{shlex.join(command)}: did not start:\n{self.said()[-2000:]}")
            time.sleep(0.05)
        self.pid = innermost(self.process.pid)

    def is_ready(self):
        """Whether it answers; `port` and `url` are known then.  Here: as odmoe says it."""
        address = re.search(r"ready: (http://[^ ]*:(\d+))", self.said())
        if address:
            self.url, self.port = address[1], int(address[2])
        return address is not None

    def said(self):
        """What it wrote to standard error so far."""
        log = self.log.fileno()
        return os.pread(log, os.fstat(log).st_size, 0).decode(errors="replace")

    def usage(self):
        try:
            with open(f"/proc/{self.pid}/status", encoding="utf-8") as file:
                status = dict(line.split(":", 1) for line in file)
            return Usage(int(status["VmRSS"].split()[0]) * 1024, int(status["VmHWM"].split()[0]) * 1024,
                         int(status["Threads"]), len(os.listdir(f"/proc/{self.pid}/fd")))
        except (FileNotFoundError, KeyError):  # another system, or it has ended
            said = subprocess.run(["ps", "-o", "rss=", "-p", str(self.pid)], capture_output=True, text=True, check=False)
            return Usage(int(said.stdout) * 1024 if said.stdout.strip() else None, None, None, None)

    def terminate(self):
        """SIGTERM."""
        try:
            os.kill(self.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass

    def wait(self, patience=60):
        """-> its exit status; None when it did not end in time, and then it is killed."""
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def end(self, patience=60):
        self.terminate()
        return self.wait(patience)

    def kill(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end(120)


def innermost(pid):
    """The last of the processes that started each other from this one on."""
    while below := children(pid):
        pid = below[-1]
    return pid


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except FileNotFoundError:
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        return [int(child) for child, parent in (line.split() for line in listed.splitlines()) if int(parent) == pid]
