"""odmoe serve for the tests of this folder."""

import os
import re
import signal
import subprocess
import tempfile
import threading


class Server:
    """odmoe serve on a free port, with half of the experts in memory."""

    def __init__(self, odmoe, model, *options, context):
        environment = {"OMP_WAIT_POLICY": "passive", "PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", tempfile.gettempdir())}
        self.process = subprocess.Popen(
            [odmoe, "serve", model, "--port", "0", "--memory", "50%", "--context", str(context), *options],
            stderr=subprocess.PIPE, text=True, env=environment)
        for line in self.process.stderr:
            if match := re.search(r"ready: (http://\S+)", line):
                self.url = match.group(1)
                break
        else:
            raise RuntimeError("the server ended before it was ready")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


def check(condition, what):
    if not condition:
        raise AssertionError(what)
