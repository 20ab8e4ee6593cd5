#!/usr/bin/env python3
"""Ranks that are processes which MPI joins: the same bits as one machine, and what becomes of those that are
killed, stopped or interrupted.

    mpi_ranks_test.py ODMOE MODEL
"""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

MPIRUN = shutil.which('mpirun')
DEADLINE = 240

TEXT = ('In the beginning was the word, and the word was with the people of the United States; and it came to '
        'pass that the king said unto his servants, What is the matter? ' * 12)


def ranks(n, *extra):
    return [MPIRUN, '-n', str(n), '--oversubscribe', '--bind-to', 'none', *extra]


def environment():
    # Root must say twice that it means it; whoever is not root is not asked.
    return dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT='1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM='1', OMP_WAIT_POLICY='passive')


def run(command, **more):
    return subprocess.run(command, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=DEADLINE, **more)


def same_bits(odmoe, model, folder):
    text = os.path.join(folder, 'text')
    with open(text, 'w') as file:
        file.write(TEXT)
    wanted = None
    for n in (1, 2, 3):
        for memory in ('100%', '25%'):
            logits, stats = os.path.join(folder, 'logits'), os.path.join(folder, 'stats')
            command = [odmoe, 'perplexity', model, '-f', text, '--context', '64', '--threads', '2', '--memory', memory,
                       '--no-probe', '--logits', logits, '--stats', stats]
            done = run(ranks(n) + command if n > 1 else command)
            assert done.returncode == 0, done.stderr
            with open(logits, 'rb') as file:
                got = file.read()
            wanted = wanted or got
            assert got == wanted, f'{n} ranks at {memory}: other bits'
            with open(stats) as file:
                of_ranks = json.load(file)['cluster']['ranks']
            assert len(of_ranks) == (n if n > 1 else 0), of_ranks
            for rank in of_ranks:
                assert rank['experts'] > 0 and rank['demands'] > 0 and rank['arena_bytes'] > 0, rank
            for rank in of_ranks[1:]:
                assert rank['sent_bytes'] > 0 and rank['received_bytes'] > 0, rank


def text_is_written(odmoe, model, folder):
    command = [odmoe, 'run', model, '-p', 'KING RICHARD:', '-n', '40', '--seed', '2', '--memory', '25%', '--no-probe',
               '--threads', '2']
    alone, together = run(command), run(ranks(2) + command)
    assert alone.returncode == together.returncode == 0, together.stderr
    assert alone.stdout == together.stdout and alone.stdout, together.stdout
    # mpirun mixes up what comes by both ways at once, so this is another run.
    verbose = run(ranks(2) + command + ['--verbose'])
    assert 'rank 1 (' in verbose.stdout + verbose.stderr, verbose.stderr  # who owns what


def model_is_missing(odmoe, model, folder):
    # A path that is another on each machine, where one lacks the file.  (Debian's mpirun 5.0.7 crashes itself on
    # command lines with a colon.)
    by_rank = ['sh', '-c', 'if [ "$OMPI_COMM_WORLD_RANK" = 1 ]; then model=$2; else model=$1; fi; shift 2; '
               'exec "$0" run "$model" "$@"', odmoe, model, os.path.join(folder, 'none.gguf')]
    done = run(ranks(2) + by_rank + ['-p', 'A', '-n', '2', '--memory', '25%', '--no-probe'])
    assert done.returncode == 1, done
    assert 'rank 1 (' in done.stderr and 'none.gguf' in done.stderr, done.stderr


def shares_are_enough(odmoe, model, folder):
    shares = []
    for rank in range(2):
        shares.append(os.path.join(folder, f'share{rank}'))
        made = run([odmoe, 'convert', model, shares[-1], '--share', f'{rank + 1}/2'])
        assert made.returncode == 0, made.stderr
    command = ['-p', 'KING RICHARD:', '-n', '20', '--seed', '2', '--memory', '25%', '--no-probe', '--threads', '1']
    wanted = run([odmoe, 'run', model] + command)
    by_rank = ['sh', '-c', 'if [ "$OMPI_COMM_WORLD_RANK" = 1 ]; then model=$2; else model=$1; fi; shift 2; '
               'exec "$0" run "$model" "$@"', odmoe]
    got = run(ranks(2) + by_rank + shares + command)
    assert got.returncode == 0 and got.stdout == wanted.stdout and got.stdout, got.stderr
    exchanged = run(ranks(2) + by_rank + shares[::-1] + command)
    assert exchanged.returncode == 1 and 'give each rank its own share' in exchanged.stderr, exchanged.stderr


def auto_on_one_host(odmoe, model, folder):
    done = run(ranks(2) + [odmoe, 'run', model, '-p', 'A', '-n', '2', '--no-probe'])
    assert done.returncode == 2 and '--memory' in done.stderr, done.stderr


class Server:
    """A server on two ranks, and the processes that it is."""

    def __init__(self, odmoe, model, folder, *extra):
        self.log = open(os.path.join(folder, 'server.log'), 'w+')
        self.process = subprocess.Popen(
            ranks(2, *extra) + [odmoe, 'serve', model, '--port', '0', '--memory', '25%', '--no-probe', '--threads',
                                '1'],
            env=environment(), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)
        self.url = None
        end = time.monotonic() + DEADLINE
        while self.url is None:
            assert self.process.poll() is None and time.monotonic() < end, self.said()
            for line in self.said().splitlines():
                if 'ready: ' in line:
                    self.url = next(word for word in line.split() if word.startswith('http'))
            time.sleep(0.05)
        self.children = self.descendants(os.path.realpath(odmoe))

    def said(self):
        self.log.flush()
        with open(self.log.name) as file:
            return file.read()

    def descendants(self, program):
        found, waiting = [], [self.process.pid]
        while waiting:
            parent = waiting.pop()
            for task in os.listdir(f'/proc/{parent}/task'):
                with contextlib.suppress(OSError):  # a thread that has ended meanwhile
                    with open(f'/proc/{parent}/task/{task}/children') as file:
                        waiting += [int(pid) for pid in file.read().split()]
            if os.path.realpath(f'/proc/{parent}/exe') == program:
                found.append(parent)
        assert len(found) == 2, found
        return sorted(found, key=self.rank)

    @staticmethod
    def rank(pid):
        with open(f'/proc/{pid}/environ') as file:
            return int(next(v for v in file.read().split('\0') if v.startswith('OMPI_COMM_WORLD_RANK=')).split('=')[1])

    def ask(self, path, body=None):
        request = urllib.request.Request(self.url + path, json.dumps(body).encode() if body else None,
                                         {'Content-Type': 'application/json'})
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            return answer.read().decode()

    def generate(self):
        return json.loads(self.ask('/v1/completions', {'prompt': 'KING RICHARD:', 'max_tokens': 8, 'temperature': 0}))

    def wait(self):
        code = self.process.wait(DEADLINE)
        end = time.monotonic() + DEADLINE
        for pid in self.children:
            while os.path.exists(f'/proc/{pid}/exe') and self.alive(pid):
                assert time.monotonic() < end, f'process {pid} is left'
                time.sleep(0.05)
        return code

    @staticmethod
    def alive(pid):
        try:
            with open(f'/proc/{pid}/stat') as file:
                return file.read().rsplit(')', 1)[1].split()[0] != 'Z'
        except OSError:
            return False

    def stop(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        for pid in getattr(self, 'children', []):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.log.close()


def with_server(odmoe, model, folder, use, *extra):
    server = Server(odmoe, model, folder, *extra)
    try:
        use(server)
    finally:
        server.stop()


def serves(odmoe, model, folder):
    def use(server):
        assert server.generate()['usage']['completion_tokens'] == 8
        metrics = server.ask('/metrics')
        assert 'odmoe_rank_demands_total{' in metrics and 'rank="1"' in metrics, metrics
        assert len(json.loads(server.ask('/v1/stats'))['cluster']['ranks']) == 2
        os.kill(server.process.pid, signal.SIGTERM)
        server.wait()
    with_server(odmoe, model, folder, use)


def worker_is_killed(odmoe, model, folder):
    def use(server):
        server.generate()
        os.kill(server.children[1], signal.SIGKILL)
        assert server.wait() != 0
        assert 'rank 1' in server.said(), server.said()
    with_server(odmoe, model, folder, use)


def worker_hangs(odmoe, model, folder):
    def use(server):
        server.generate()
        os.kill(server.children[1], signal.SIGSTOP)
        try:
            answer = server.generate()
            assert False, f'it answered: {answer}'
        except urllib.error.HTTPError as error:
            said = error.read().decode()
            assert 'rank 1 (' in said and 'not been heard of' in said, said
        except (urllib.error.URLError, ConnectionError):
            pass  # it had ended before it could answer
        assert server.wait() != 0
        assert 'rank 1 (' in server.said() and 'not been heard of' in server.said(), server.said()
    with_server(odmoe, model, folder, use)


def worker_is_asked_to_end(odmoe, model, folder):
    def use(server):
        server.generate()
        os.kill(server.children[1], signal.SIGTERM)
        assert server.wait() == 0, server.said()
    with_server(odmoe, model, folder, use)


def main():
    if MPIRUN is None:
        print('skipped: there is no mpirun')
        return 77
    odmoe, model = sys.argv[1:3]
    for check in (same_bits, text_is_written, model_is_missing, shares_are_enough, auto_on_one_host, serves, worker_is_killed, worker_hangs,
                  worker_is_asked_to_end):
        if len(sys.argv) > 3 and check.__name__ not in sys.argv[3:]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            start = time.monotonic()
            check(odmoe, model, folder)
            print(f'{check.__name__}: {time.monotonic() - start:.1f} s', flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
