"""odmoe serve for the tests of this folder."""
import os
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench" / "scenarios"))

from serving import ServerProcess


class Server(ServerProcess):
    """On a free port, with half of the experts in memory."""

    def __init__(self, odmoe, model, *options, context):
        super().__init__([odmoe, "serve", model, "--port", "0", "--memory", "50%", "--context", str(context), *options],
                         environment={"OMP_WAIT_POLICY": "passive", "PATH": "/usr/bin:/bin",
                                      "HOME": os.environ.get("HOME", tempfile.gettempdir())})


def check(condition, what):
    if not condition:
        raise AssertionError(what)
