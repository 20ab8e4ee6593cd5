#!/usr/bin/env python3
"""Ranks joined by a network that is as slow as one likes: tokens a second, how long the head waits for the others
in each layer, bytes for each token, and what arithmetic says of it.  Needs root, /dev/net/tun and mpirun.

    ranks_network.py MODEL [--odmoe PROGRAM] [--ranks 2] [--memory 60%] [--tokens 200]
                     [--latency 0,0.1,0.5,2] [--rate 1,10] [--json FILE] [-- OPTIONS OF odmoe]

Each rank is in a network namespace of its own.  What leaves one comes to this program by a tun device and goes on
to another's, as late as latency (ms, one way) and rate (Gbit/s) say: many kernels have no netem.  A first run has
neither; it has what the ranks compute and what programs add to the network, and the others should take longer by
what two messages a layer and their bytes take.  Medians of --rounds, all networks in turns.
"""
import argparse
import collections
import ctypes
import fcntl
import heapq
import json
import os
import select
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x1, 0x1000
SIOCSIFADDR, SIOCSIFNETMASK, SIOCSIFFLAGS, SIOCSIFMTU = 0x8916, 0x891C, 0x8914, 0x8922
IFF_UP, IFF_RUNNING = 0x1, 0x40
MTU = 60000  # a message in few packets
PR_SET_TIMERSLACK = 29

Slowness = collections.namedtuple("Slowness", ["latency_s", "bytes_per_s"])


def address(rank):
    return f"10.77.0.{rank + 1}"


def host(rank):
    return f"h{rank}"


def enter(namespace):
    return ["nsenter", f"--net=/proc/{namespace.pid}/ns/net", f"--uts=/proc/{namespace.pid}/ns/uts"]


def configure(control, name, ip=None):
    def ifreq(payload):
        return struct.pack("16s24s", name.encode(), payload)

    if ip is not None:
        fcntl.ioctl(control, SIOCSIFADDR, ifreq(struct.pack("HH4s", socket.AF_INET, 0, socket.inet_aton(ip))))
        fcntl.ioctl(control, SIOCSIFNETMASK,
                    ifreq(struct.pack("HH4s", socket.AF_INET, 0, socket.inet_aton("255.255.255.0"))))
        fcntl.ioctl(control, SIOCSIFMTU, ifreq(struct.pack("i", MTU)))
    fcntl.ioctl(control, SIOCSIFFLAGS, ifreq(struct.pack("h", IFF_UP | IFF_RUNNING)))


class Namespace:
    """A process that keeps a network namespace, and its tun device's descriptor here."""

    def __init__(self, rank):
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            os.unshare(os.CLONE_NEWNET | os.CLONE_NEWUTS)
            socket.sethostname(host(rank))
            tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", b"net0", IFF_TUN | IFF_NO_PI))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
                configure(control, "lo")
                configure(control, "net0", address(rank))
            socket.send_fds(theirs, [b"."], [tun])
            theirs.recv(1)
            os._exit(0)
        theirs.close()
        self.held = ours
        _, (self.tun,), _, _ = socket.recv_fds(ours, 1, 1)

    def end(self):
        self.held.send(b".")
        os.waitpid(self.pid, 0)


class Network(threading.Thread):
    """Carries packets between namespaces, as late as `slowness` says at the time."""

    def __init__(self, namespaces):
        super().__init__(daemon=True)
        self.tuns = [namespace.tun for namespace in namespaces]
        self.slowness = Slowness(0, float("inf"))
        self.carried_bytes = 0

    def run(self):
        ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0)  # ns
        waiting, count = [], 0
        free_at = [0.0] * len(self.tuns)  # of what leaves a rank
        while True:
            now = time.monotonic()
            while waiting and waiting[0][0] <= now:
                _, _, to, packet = heapq.heappop(waiting)
                os.write(self.tuns[to], packet)
            patience = max(waiting[0][0] - time.monotonic(), 0) if waiting else None
            for tun in select.select(self.tuns, [], [], patience)[0]:
                packet = os.read(tun, MTU + 64)
                to = packet[19] - 1  # the last byte of where it is sent, as IPv4 has it
                if packet[0] >> 4 != 4 or not 0 <= to < len(self.tuns):
                    continue
                source = self.tuns.index(tun)
                leaves = max(time.monotonic(), free_at[source]) + len(packet) / self.slowness.bytes_per_s
                free_at[source] = leaves
                self.carried_bytes += len(packet)
                count += 1
                heapq.heappush(waiting, (leaves + self.slowness.latency_s, count, to, packet))


def environment():
    return dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")


def infer(args, folder, launcher, memory):
    """-> (decoding tokens/s, the statistics) of one run."""
    stats = os.path.join(folder, "stats.json")
    command = launcher + [args.odmoe, "bench", "infer", args.model, "-n", str(args.tokens), "--memory", memory,
                          "--no-probe", "--stats", stats] + args.options
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    with open(stats, encoding="utf-8") as file:
        found = json.load(file)
    return found["decode"]["tokens_per_second"], found


def measure(args):
    with tempfile.TemporaryDirectory() as folder:
        namespaces = [Namespace(rank) for rank in range(args.ranks)]
        network = Network(namespaces)
        network.start()
        agent = os.path.join(folder, "agent")
        with open(agent, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\nhost=$1; shift\ncase $host in\n")
            for rank, namespace in enumerate(namespaces):
                file.write(f"{host(rank)}) exec {' '.join(enter(namespace))} sh -c \"$*\" ;;\n")
            file.write("esac\n")
        os.chmod(agent, 0o755)
        hosts = ",".join(f"{host(rank)}:1" for rank in range(args.ranks))
        apart = enter(namespaces[0]) + ["mpirun", "--bind-to", "none", "--host", hosts, "--prtemca", "plm_ssh_agent", agent]
        together = ["mpirun", "--bind-to", "none", "--oversubscribe", "-n", str(args.ranks)]
        slow = [Slowness(0, float("inf"))] + [Slowness(latency * 1e-3, rate * 1e9 / 8) for rate in args.rate
                                              for latency in args.latency]
        runs = collections.defaultdict(list)
        try:
            for _ in range(args.rounds):
                runs["one rank"].append(infer(args, folder, [], args.memory))
                runs["one rank, all in memory"].append(infer(args, folder, [], "100%"))
                runs["shared memory"].append(infer(args, folder, together, args.memory))
                for slowness in slow:
                    network.slowness = slowness
                    runs[slowness].append(infer(args, folder, apart, args.memory))
        finally:
            for namespace in namespaces:
                namespace.end()
        return runs


def figures(runs):
    """-> of a network's runs, medians: ms a token, ms that the head waited, bytes there and back; of a token."""
    token_ms = statistics.median(1000 / speed for speed, _ in runs)
    _, stats = min(runs, key=lambda run: abs(1000 / run[0] - token_ms))
    ranks = stats.get("cluster", {}).get("ranks", [])[1:]
    tokens = stats["decode"]["tokens"] + stats["prefill"]["tokens"]
    # A prompt waits once for all of its tokens.
    return {"token_ms": token_ms, "wait_ms": sum(rank["wait_us"] for rank in ranks) / 1000 / stats["decode"]["tokens"],
            "sent": sum(rank["sent_bytes"] for rank in ranks) / tokens,
            "received": sum(rank["received_bytes"] for rank in ranks) / tokens}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("model")
    parser.add_argument("--odmoe", default="build/release/cli/odmoe")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--memory", default="60%")
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layers", type=int, required=True, help="with experts, of the model")
    for name, default in (("--latency", "0.1,0.5,2"), ("--rate", "1,10")):
        parser.add_argument(name, default=default, type=lambda text: [float(word) for word in text.split(",")])
    parser.add_argument("--json")
    parser.add_argument("options", nargs="*", default=[])
    args = parser.parse_args()
    args.model, args.odmoe = os.path.abspath(args.model), os.path.abspath(args.odmoe)
    runs = measure(args)
    plain = figures(runs[Slowness(0, float("inf"))])
    rows = []
    for network, of_it in runs.items():
        found = figures(of_it)
        row = {"network": network if isinstance(network, str) else f"{network.latency_s * 1e3:g} ms, "
               f"{network.bytes_per_s * 8e-9:g} Gbit/s", **found}
        if not isinstance(network, str):
            row["predicted_ms"] = plain["token_ms"] + args.layers * 2 * network.latency_s * 1e3 + \
                (plain["sent"] + plain["received"]) / network.bytes_per_s * 1e3
        rows.append(row)
    print(f"{'network':<26} {'tokens/s':>9} {'ms':>7} {'waited, us a layer':>19} {'KiB a token':>12} {'predicted ms':>13}")
    for row in rows:
        predicted = f"{row['predicted_ms']:.2f}" if "predicted_ms" in row else "-"
        print(f"{row['network']:<26} {1000 / row['token_ms']:>9.1f} {row['token_ms']:>7.2f} "
              f"{row['wait_ms'] * 1000 / args.layers:>19.0f} {(row['sent'] + row['received']) / 1024:>12.1f} "
              f"{predicted:>13}")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
