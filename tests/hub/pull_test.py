#!/usr/bin/env python3
"""`odmoe pull`, and other commands with names of the hub, against a hub that fails in every way that hubs do.

    pull_test.py ODMOE DEMO_MODEL [NAME...]

Exit code 0: all tests passed; 77: something that the tests need is missing.  NAMEs choose tests.
"""
import hashlib
import json
import os
import pathlib
import pty
import random
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))

try:
    import fake_hub
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

ODMOE, DEMO = sys.argv[1], pathlib.Path(sys.argv[2]).read_bytes()
MIB = 1 << 20
LIMIT = 300  # seconds that a run may take


class Case:
    """A home of its own, and the hub as it is at first."""

    def __init__(self, hub, folder):
        self.hub, self.home = hub, folder
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "HF_ENDPOINT": hub.url,
                            "SSL_CERT_FILE": str(hub.certificate), "OMP_WAIT_POLICY": "passive"}
        hub.reset()
        hub.files = {"o/r": {"demo-Q4_K_M.gguf": DEMO}}

    @property
    def repo(self):
        return self.home / ".cache/huggingface/hub/models--o--r"

    def blob(self, data):
        return self.repo / "blobs" / hashlib.sha256(data).hexdigest()

    def run(self, *arguments, limit=None, **environment):
        def before():
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        return subprocess.run([ODMOE, *arguments], env=self.environment | environment, capture_output=True, text=True,
                              timeout=LIMIT, preexec_fn=before, stdin=subprocess.DEVNULL)

    def start(self, *arguments):
        return subprocess.Popen([ODMOE, *arguments], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True, stdin=subprocess.DEVNULL)

    def good(self, outcome):
        assert outcome.returncode == 0, f"exit code {outcome.returncode}: {outcome.stderr}"
        return outcome

    def bad(self, outcome, *words, code=1):
        assert outcome.returncode == code, f"exit code {outcome.returncode}: {outcome.stderr}"
        last = outcome.stderr.strip().splitlines()[-1]
        for word in words:
            assert word in last, f"no '{word}' in: {last}"
        assert "Traceback" not in outcome.stderr and "hf_secret" not in outcome.stderr + outcome.stdout
        return outcome


def noise(n_bytes):
    return random.Random(7).randbytes(n_bytes)


# ---------------------------------------------------------------- what works

def a_model_comes_into_the_hubs_cache_and_runs(case):
    outcome = case.good(case.run("pull", "hf:o/r"))
    path = pathlib.Path(outcome.stdout.strip())
    assert path == case.repo / "snapshots" / fake_hub.COMMIT / "demo-Q4_K_M.gguf", path
    assert path.is_symlink() and not pathlib.Path(os.readlink(path)).is_absolute()
    assert path.resolve() == case.blob(DEMO).resolve() and path.read_bytes() == DEMO
    assert (case.repo / "refs/main").read_text() == fake_hub.COMMIT
    assert "hf:o/r: demo-Q4_K_M, Q4_K_M, qwen3moe, " in outcome.stderr, outcome.stderr
    assert not list(case.repo.glob("blobs/*.incomplete"))
    case.hub.requests.clear()
    run = case.good(case.run("run", "hf:o/r", "-p", "KING", "-n", "4", "--temperature", "0"))
    assert run.stdout.strip(), run.stderr
    assert not case.hub.requests, "what is there is run without asking"
    again = case.good(case.run("pull", "hf:o/r"))
    assert "is there" in again.stderr and "downloaded" not in again.stderr
    assert all(server == "hub" for server, *_ in case.hub.requests)


def a_command_downloads_what_is_not_there(case):
    assert "experts" in case.good(case.run("inspect", "hf:o/r:Q4_K_M")).stdout
    assert case.blob(DEMO).is_file()
    tokens = case.good(case.run("tokenize", "hf:o/r", "-p", "KING"))
    assert tokens.stdout.strip()


def a_split_set_is_downloaded_as_one(case):
    parts = {f"Q8_0/m-Q8_0-0000{i}-of-00003.gguf": noise(3 * MIB + i) for i in (1, 2, 3)}
    case.hub.files["o/r"] |= parts
    outcome = case.good(case.run("pull", "hf:o/r:q8_0"))
    assert "in 3 files" in outcome.stderr
    first = pathlib.Path(outcome.stdout.strip())
    for path, data in parts.items():
        assert (first.parent.parent / path).read_bytes() == data


def two_hundred_megabytes_through_ten_breaks(case):
    data = noise(200 * MIB)
    case.hub.files["o/r"] = {"large-Q4_K_M.gguf": data}
    case.hub.break_at = [round((i + 0.5) * 20 * MIB) for i in range(10)]
    start = time.monotonic()
    outcome = case.good(case.run("pull", "hf:o/r"))
    seconds = time.monotonic() - start
    assert not case.hub.break_at, f"{len(case.hub.break_at)} breaks did not happen"
    path = pathlib.Path(outcome.stdout.strip())
    assert hashlib.sha256(path.read_bytes()).hexdigest() == hashlib.sha256(data).hexdigest()
    # What had come is not asked for again, but for what was on its way.
    assert case.hub.sent < 260 * MIB, f"{case.hub.sent / MIB:.0f} MiB were sent"
    print(f"    200 MiB through 10 breaks in {seconds:.1f} s, {case.hub.sent / MIB:.1f} MiB sent; {outcome.stderr.splitlines()[-1]}")


def several_ranges_come_at_once_over_several_connections(case):
    case.hub.files["o/r"] = {"m.gguf": noise(80 * MIB)}
    case.good(case.run("pull", "hf:o/r", "--connections", "4"))
    ranges = [headers["Range"] for server, _, _, headers in case.hub.requests if server == "cdn"]
    assert len(ranges) == 10 and len(set(ranges)) == 10, ranges


def a_killed_download_is_gone_on_with(case):
    data = noise(40 * MIB)
    case.hub.files["o/r"] = {"m.gguf": data}
    case.hub.rate = 2 * MIB
    incomplete = case.blob(data).with_name(case.blob(data).name + ".incomplete")
    for end in (signal.SIGINT, signal.SIGKILL):
        process = case.start("pull", "hf:o/r")
        before = incomplete.stat().st_size if incomplete.exists() else 0
        deadline = time.monotonic() + 60
        while not (incomplete.exists() and incomplete.stat().st_size > before + MIB):
            assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
            time.sleep(0.02)
        process.send_signal(end)
        _, said = process.communicate(timeout=60)
        if end == signal.SIGINT:
            assert process.returncode == 130, process.returncode
            assert "stopped; what came is kept" in said, said
        left = incomplete.read_bytes()
        assert left == data[:len(left)], "what is kept is a beginning"
    case.hub.rate = None
    case.hub.requests.clear()
    case.good(case.run("pull", "hf:o/r"))
    assert case.blob(data).read_bytes() == data
    begins = [int(headers["Range"].split("=")[1].split("-")[0]) for server, _, _, headers in case.hub.requests if server == "cdn"]
    assert min(begins) == len(left), "what was there is not asked for again"


def two_processes_share_one_download(case):
    data = noise(20 * MIB)
    case.hub.files["o/r"] = {"m.gguf": data}
    case.hub.rate = 2 * MIB
    first = case.start("pull", "hf:o/r")
    lock = case.home / ".cache/huggingface/hub/.locks/models--o--r" / (case.blob(data).name + ".lock")
    while not case.blob(data).with_name(case.blob(data).name + ".incomplete").exists():
        assert first.poll() is None
        time.sleep(0.02)
    assert lock.exists()
    second = case.start("pull", "hf:o/r")
    outputs = [process.communicate(timeout=LIMIT) for process in (first, second)]
    assert first.returncode == second.returncode == 0, outputs
    assert "another process is downloading m.gguf" in outputs[1][1], outputs[1][1]
    assert outputs[0][0] == outputs[1][0]
    assert case.hub.sent == len(data), "it is downloaded once"


def a_file_of_a_revision_is_taken(case):
    outcome = case.good(case.run("pull", f"hf:o/r/demo-Q4_K_M.gguf@{fake_hub.COMMIT}"))
    assert pathlib.Path(outcome.stdout.strip()).read_bytes() == DEMO
    assert not (case.repo / "refs").exists()


def the_cache_may_be_elsewhere(case):
    cache = case.home / "elsewhere"
    outcome = case.good(case.run("pull", "hf:o/r", HF_HUB_CACHE=str(cache)))
    assert outcome.stdout.startswith(str(cache)), outcome.stdout
    case.bad(case.run("pull", "hf:o/r", HF_HUB_OFFLINE="1"), "HF_HUB_OFFLINE forbids asking the hub")
    case.hub.requests.clear()
    case.good(case.run("pull", "hf:o/r", HF_HUB_CACHE=str(cache), HF_HUB_OFFLINE="1"))
    assert not case.hub.requests


def a_terminal_is_asked_and_shown_a_bar(case):
    data = noise(20 * MIB)
    case.hub.files["o/r"] = {"m.gguf": data}
    case.hub.rate = MIB
    for answer, code in (("n\r", 130), ("\r", 0)):
        child, terminal = pty.fork()
        if child == 0:
            os.execve(ODMOE, [ODMOE, "pull", "hf:o/r"], case.environment)
        shown, answered = b"", False
        while True:
            try:
                if not select.select([terminal], [], [], 60)[0]:
                    break
                part = os.read(terminal, 65536)
            except OSError:
                break
            if not part:
                break
            shown += part
            if b"[Y/n]" in shown and not answered:
                os.write(terminal, answer.encode())
                answered = True
        os.close(terminal)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert answered and status == code, (status, shown)
    text = shown.decode(errors="replace")
    assert "Downloading" in text and " left" in text and "MiB/s" in text, text[-500:]


# ---------------------------------------------------------------- what fails

def the_token_is_for_the_hub_alone(case):
    case.hub.token = "hf_secret"
    case.bad(case.run("pull", "hf:o/r"), "for a private or gated one set HF_TOKEN", "(401)")
    case.good(case.run("pull", "hf:o/r", HF_TOKEN="hf_secret"))
    shutil.rmtree(case.repo)
    (case.home / ".cache/huggingface/token").write_text("hf_secret\n")
    case.good(case.run("pull", "hf:o/r"))
    for server, _, path, headers in case.hub.requests:
        assert server == "hub" or "Authorization" not in headers, f"the CDN saw the token at {path}"


def a_gated_repository_says_where_its_licence_is(case):
    case.hub.gated, case.hub.token = True, "hf_secret"
    case.bad(case.run("pull", "hf:o/r"), f"o/r is gated: accept its licence at {case.hub.url}/o/r and set HF_TOKEN")
    case.bad(case.run("pull", "hf:o/r", HF_TOKEN="hf_other"), "your token's account may not read it yet")


def what_is_not_there_is_said(case):
    case.bad(case.run("pull", "hf:o/none"), "has no repository o/none")
    case.bad(case.run("pull", "hf:o/r@v2"), "o/r has no revision v2")
    case.bad(case.run("pull", "hf:o/r/none.gguf"), "hf:o/r has no file none.gguf")
    case.bad(case.run("pull", "hf:o/r:Q2_K"), "hf:o/r has no Q2_K, but Q4_K_M (")
    case.bad(case.run("run", "hf:o/none", "-p", "x"), "has no repository o/none")


def several_candidates_are_listed(case):
    case.hub.files["o/r"] |= {"other-Q4_K_M.gguf": b"GGUF" * 256}
    case.bad(case.run("pull", "hf:o/r"), "2 models in Q4_K_M: name one of demo-Q4_K_M.gguf (",
             "other-Q4_K_M.gguf (1.00 KiB)", code=2)


def wrong_usage_is_told_from_errors(case):
    case.bad(case.run("pull", "model.gguf"), "does not begin with hf:", code=2)
    case.bad(case.run("pull", "hf:o/../r"), "OWNER/REPO", code=2)
    case.bad(case.run("pull", "hf:o/r", "--connections", "0"), "--connections", code=2)
    case.bad(case.run("pull", "hf:o/r", HF_ENDPOINT="file:///etc"), "HF_ENDPOINT", code=2)


def too_many_requests_are_waited_out(case):
    case.hub.refuse_hub = [(429, {"Retry-After": "1"})]
    case.hub.refuse_cdn = [(429, {"Retry-After": "2"})]
    start = time.monotonic()
    outcome = case.good(case.run("pull", "hf:o/r"))
    assert time.monotonic() - start >= 3
    assert "too many requests (429): it asks to wait 1 s; trying again in 1 s" in outcome.stderr, outcome.stderr
    assert "it asks to wait 2 s; trying again in 2 s" in outcome.stderr, outcome.stderr
    case.hub.refuse_hub = [(429, {"Retry-After": "3600"})]
    case.bad(case.run("pull", "hf:o/r"), "it asks to wait 3600 s; try again later")


def failing_servers_are_tried_again(case):
    case.hub.refuse_hub = [(503, {}), (500, {})]
    case.hub.refuse_cdn = [(502, {}), (503, {"Retry-After": "1"})]
    outcome = case.good(case.run("pull", "hf:o/r"))
    assert "status 500; trying again in 1 s" in outcome.stderr, outcome.stderr


def an_expired_url_is_asked_for_again(case):
    data = noise(30 * MIB)
    case.hub.files["o/r"] = {"m.gguf": data}
    case.hub.rate = 8 * MIB
    process = case.start("pull", "hf:o/r", "--connections", "2")
    while case.hub.sent < 4 * MIB:
        assert process.poll() is None
        time.sleep(0.01)
    case.hub.signature += 1
    _, said = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, said
    assert case.blob(data).read_bytes() == data
    assert sum(method == "HEAD" for _, method, *_ in case.hub.requests) == 2


def a_server_without_ranges_will_do(case):
    data = noise(12 * MIB)
    case.hub.files["o/r"] = {"m.gguf": data}
    case.hub.no_ranges = True
    case.hub.break_at = [5 * MIB]
    case.good(case.run("pull", "hf:o/r"))
    assert case.blob(data).read_bytes() == data


def a_wrong_checksum_removes_what_came(case):
    case.hub.hashes["demo-Q4_K_M.gguf"] = "0" * 64
    case.bad(case.run("pull", "hf:o/r"), "demo-Q4_K_M.gguf has a wrong checksum (", "what came is removed")
    assert not list((case.repo / "blobs").iterdir())
    assert not (case.repo / "snapshots").exists()


def a_wrong_length_is_noticed(case):
    case.hub.sizes["demo-Q4_K_M.gguf"] = len(DEMO) + 5
    case.bad(case.run("pull", "hf:o/r"), "cannot be used: it sends 'bytes 0-")


def a_file_that_changes_in_the_middle_is_noticed(case):
    data = noise(40 * MIB)
    case.hub.files["o/r"] = {"m.gguf": data}
    case.hub.rate = 8 * MIB
    process = case.start("pull", "hf:o/r", "--connections", "2")
    while case.hub.sent < 20 * MIB:
        assert process.poll() is None
        time.sleep(0.01)
    case.hub.etag = '"other"'
    _, said = process.communicate(timeout=LIMIT)
    assert process.returncode == 1 and "was changed at 127.0.0.1 in the middle" in said, said


def a_full_disk_is_said_before_and_during(case):
    case.hub.sizes["demo-Q4_K_M.gguf"] = 1 << 60
    case.bad(case.run("pull", "hf:o/r"), "are to be downloaded, and", " free: make room, or name another folder with HF_HUB_CACHE")
    data = noise(20 * MIB)
    case.hub.files["o/r"] = {"m.gguf": data}
    # A limit on the size of files stands for a disk that fills up meanwhile.
    case.bad(case.run("pull", "hf:o/r", limit=5 * MIB), "cannot write ", ".incomplete",
             "make room and run the same command again to go on")
    incomplete = case.blob(data).with_name(case.blob(data).name + ".incomplete")
    assert incomplete.read_bytes() == data[:5 * MIB]
    case.good(case.run("pull", "hf:o/r"))
    assert case.blob(data).read_bytes() == data


def a_disk_that_is_really_full_is_said(case):
    disk = case.home / "small-disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True).returncode != 0:
        print("    (no file system can be mounted here)")
        return
    try:
        case.hub.files["o/r"] = {"m.gguf": noise(6 * MIB)}
        (disk / "ballast").write_bytes(bytes(MIB))
        case.hub.rate = MIB
        process = subprocess.Popen([ODMOE, "pull", "hf:o/r", "--connections", "1"], env=case.environment | {"HF_HUB_CACHE": str(disk)},
                                   stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while case.hub.sent < MIB:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        (disk / "ballast").write_bytes(bytes(4 * MIB))
        said = process.communicate(timeout=LIMIT)[1]
        assert process.returncode == 1 and "No space left on device; make room and run the same command again" in said, said
        (disk / "ballast").unlink()
        case.hub.rate = None
        case.good(case.run("pull", "hf:o/r", HF_HUB_CACHE=str(disk)))
    finally:
        subprocess.run(["umount", disk], check=True)


def hostile_listings_are_refused(case):
    for name in ("../../../evil.gguf", "/etc/evil.gguf", "a/../../evil.gguf", "evil\u001b[2J.gguf"):
        case.hub.files["o/r"] = {name: b"GGUF"}
        case.bad(case.run("pull", "hf:o/r"), "which could lead to any place")
    for listing in (b"", b"{", b"[]", b"null", b"[" * 1000000, b'{"sha": 5}', b"<html></html>",
                    b'{"sha": "%s", "siblings": [{"rfilename": "m.gguf", "size": -1}]}' % fake_hub.COMMIT.encode()):
        case.hub.listing = listing
        case.bad(case.run("pull", "hf:o/r"), "listing of o/r cannot be used")
    case.hub.listing = b" " * (70 * MIB)
    case.bad(case.run("pull", "hf:o/r"), "more than makes sense")
    assert not list(case.home.rglob("evil*"))


def a_certificate_that_nobody_vouches_for_is_refused(case):
    del case.environment["SSL_CERT_FILE"]
    case.bad(case.run("pull", "hf:o/r"), "127.0.0.1 cannot be reached: ")


def a_hub_that_is_not_there_is_said(case):
    case.bad(case.run("pull", "hf:o/r", HF_ENDPOINT="https://hub.invalid"), "hub.invalid cannot be reached: ")


def a_proxy_of_the_environment_is_used(case):
    case.bad(case.run("pull", "hf:o/r", https_proxy="http://proxy.invalid:3128"), "cannot be reached: ", "proxy.invalid")
    case.good(case.run("pull", "hf:o/r", https_proxy="http://proxy.invalid:3128", no_proxy="127.0.0.1"))


def an_unencrypted_cdn_is_refused(case):
    case.hub.cdn_url, cdn_url = case.hub.cdn_url.replace("https:", "http:"), case.hub.cdn_url
    try:
        case.bad(case.run("pull", "hf:o/r"), "without encryption, which is refused")
    finally:
        case.hub.cdn_url = cdn_url


# ---------------------------------------------------------------- what is on the disk

def every_model_on_the_disk_is_listed_and_runs_from_where_it_is(case):
    case.good(case.run("pull", "hf:o/r"))
    digest = hashlib.sha256(DEMO).hexdigest()
    models = case.home / ".ollama/models"
    (models / "blobs").mkdir(parents=True)
    (models / "blobs" / f"sha256-{digest}").write_bytes(DEMO)
    (models / "blobs" / ("sha256-" + "1" * 64)).write_bytes(DEMO[:5000])
    for name, layer in (("demo", digest), ("cut", "1" * 64), ("gone", "2" * 64)):
        folder = models / "manifests/registry.ollama.ai/library" / name
        folder.mkdir(parents=True)
        (folder / "latest").write_text(json.dumps({"layers": [{"mediaType": "application/vnd.ollama.image.model",
                                                               "digest": f"sha256:{layer}"}]}))
    studio = case.home / ".lmstudio/models/pub/rep"
    studio.mkdir(parents=True)
    (studio / "demo-F16.gguf").write_bytes(DEMO)
    (studio / "half-Q2_K-00001-of-00002.gguf").write_bytes(DEMO)
    (studio / "junk-Q8_0.gguf").write_bytes(b"not a model")
    listed = {entry["name"]: entry for entry in json.loads(case.good(case.run("list", "--json")).stdout)}
    runs = {name: entry["runs"] for name, entry in listed.items()}
    assert runs == {"hf:o/r:Q4_K_M": "yes", "ollama:demo": "yes", "ollama:cut": "damaged", "ollama:gone": "damaged",
                    "lmstudio:pub/rep:F16": "yes", "lmstudio:pub/rep:Q2_K": "damaged", "lmstudio:pub/rep:Q8_0": "damaged"}, runs
    assert listed["ollama:demo"]["bytes"] == len(DEMO) and listed["ollama:demo"]["architecture"]
    table = case.good(case.run("list")).stdout
    assert len(table.splitlines()) == 1 + len(listed), table
    texts = {case.good(case.run("run", name, "-p", "KING", "-n", "4", "--temperature", "0")).stdout
             for name, how in runs.items() if how == "yes"}
    assert len(texts) == 1 and texts.pop().strip()
    for name, how in runs.items():
        if how == "damaged":
            case.bad(case.run("run", name, "-p", "x"))
    case.bad(case.run("run", "ollama:none", "-p", "x"), "Ollama has no none in ")


def an_empty_disk_lists_nothing(case):
    outcome = case.good(case.run("list"))
    assert outcome.stdout == "" and "`odmoe pull` brings one" in outcome.stderr
    assert json.loads(case.good(case.run("list", "--json")).stdout) == []


def main():
    tests = [test for name, test in globals().items() if callable(test) and getattr(test, "__code__", None) is not None
             and test.__code__.co_varnames[:1] == ("case",) and test.__code__.co_argcount == 1]
    chosen = sys.argv[3:]
    with tempfile.TemporaryDirectory(prefix="odmoe-hub-") as folder:
        folder = pathlib.Path(folder)
        try:
            hub = fake_hub.Hub(folder)
        except FileNotFoundError as error:
            print(f"skipped: {error}")
            sys.exit(77)
        failed = 0
        for number, test in enumerate(tests):
            name = test.__name__
            if chosen and not any(word in name for word in chosen):
                continue
            home = folder / f"home-{number}"
            home.mkdir()
            start = time.monotonic()
            try:
                test(Case(hub, home))
                print(f"  ok      {name} ({time.monotonic() - start:.1f} s)", flush=True)
            except (AssertionError, subprocess.TimeoutExpired) as error:
                failed += 1
                print(f"  FAILED  {name}: {error}", flush=True)
            shutil.rmtree(home, ignore_errors=True)
        print(f"{failed} failed")
        sys.exit(failed > 0)


main()
