#!/usr/bin/env python3
"""Ranks that are processes which MPI joins: the same bits as one machine, and what becomes of those that are
killed, stopped or interrupted.

    mpi_ranks_test.py ODMOE MODEL
"""
import contextlib
import http.client
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
    inspected = run([odmoe, 'inspect', shares[1]])
    assert 'share 2 of 2' in inspected.stdout and 'by itself it cannot run' in inspected.stdout, inspected
    assert json.loads(run([odmoe, 'inspect', '--json', shares[1]]).stdout)['share']['part'] == 2
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


def batch_is_the_same(odmoe, model, folder):
    requests, answers = os.path.join(folder, 'in.jsonl'), []
    with open(requests, 'w') as file:
        for i in range(6):
            body = {'prompt': TEXT[:150 * (i + 1)], 'max_tokens': 6, 'temperature': 0}
            file.write(json.dumps({'custom_id': str(i), 'method': 'POST', 'url': '/v1/completions', 'body': body}) + '\n')
    for n in (1, 3):
        out = os.path.join(folder, f'out{n}')
        command = [odmoe, 'batch', model, requests, '-o', out, '--created', '1', '--width', '4', '--prompts', '3',
                   '--chunk', '16', '--threads', '1', '--memory', '25%', '--no-probe']
        done = run(ranks(n) + command if n > 1 else command)
        assert done.returncode == 0, done.stderr
        with open(out) as file:
            answers.append(file.read())
    assert answers[0] == answers[1] and answers[0].count('"finish_reason"') == 6, answers


def fills_and_warms(odmoe, model, folder):
    trace = os.path.join(folder, 'uses.trace')
    text = os.path.join(folder, 'text')
    with open(text, 'w') as file:
        file.write(TEXT)
    made = run([odmoe, 'collect', model, '--corpus', text, '-o', trace, '--routing-only', '--no-probe'])
    assert made.returncode == 0, made.stderr

    def use(server):
        of_ranks = json.loads(server.ask('/v1/stats'))['cluster']['ranks']
        assert of_ranks[0]['read_bytes'] > 0, of_ranks
        text = server.generate()['choices'][0]['text']
        of_ranks = json.loads(server.ask('/v1/stats'))['cluster']['ranks']
        assert of_ranks[1]['hits'] > 0 and of_ranks[1]['prefetched'] > 0, of_ranks
        alone = run([odmoe, 'run', model, '-p', 'KING RICHARD:', '-n', '8', '--temperature', '0', '--memory', '25%', '--no-probe'])
        assert text in alone.stdout, (text, alone.stdout)
        os.kill(server.process.pid, signal.SIGTERM)
        server.wait()
    with_server(odmoe, model, folder, use, serve=('--fill', '--warm', trace))


class Server:
    """A server on ranks, and the processes that it is."""

    def __init__(self, odmoe, model, folder, *extra, n=2, serve=()):
        self.log = open(os.path.join(folder, 'server.log'), 'w+')
        self.process = subprocess.Popen(
            ranks(n, *extra) + [odmoe, 'serve', model, '--port', '0', '--memory', '25%', '--no-probe', '--threads',
                                '1', *serve],
            env=environment(), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)
        self.url = None
        end = time.monotonic() + DEADLINE
        while self.url is None:
            assert self.process.poll() is None and time.monotonic() < end, self.said()
            for line in self.said().splitlines():
                if 'ready: ' in line:
                    self.url = next(word for word in line.split() if word.startswith('http'))
            time.sleep(0.05)
        self.children = self.descendants(os.path.realpath(odmoe), n)

    def said(self):
        self.log.flush()
        with open(self.log.name) as file:
            return file.read()

    def descendants(self, program, n):
        found, waiting = [], [self.process.pid]
        while waiting:
            parent = waiting.pop()
            for task in os.listdir(f'/proc/{parent}/task'):
                with contextlib.suppress(OSError):  # a thread that has ended meanwhile
                    with open(f'/proc/{parent}/task/{task}/children') as file:
                        waiting += [int(pid) for pid in file.read().split()]
            if os.path.realpath(f'/proc/{parent}/exe') == program:
                found.append(parent)
        assert len(found) == n, found
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

    def stream(self, max_tokens):
        """What comes, as it comes."""
        request = urllib.request.Request(
            self.url + '/v1/completions', json.dumps({'prompt': 'KING RICHARD:', 'max_tokens': max_tokens,
                                                      'temperature': 0, 'stream': True, 'ignore_eos': True}).encode(),
            {'Content-Type': 'application/json'})
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            for line in answer:
                yield line.decode()

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


def with_server(odmoe, model, folder, use, *extra, **more):
    server = Server(odmoe, model, folder, *extra, **more)
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


def others_go_on(odmoe, model, folder):
    """With ULFM, where every rank has the whole model."""
    def text(server):
        end = time.monotonic() + DEADLINE
        while True:
            try:
                return server.generate()['choices'][0]['text']
            except urllib.error.HTTPError as error:  # until the others have found each other
                said = error.read().decode()
                assert 'has gone' in said and time.monotonic() < end, said

    def numbers(server):
        return [rank['rank'] for rank in json.loads(server.ask('/v1/stats'))['cluster']['ranks']]

    def use(server):
        wanted = text(server)
        stream = server.stream(3000)
        came = next(stream)
        os.kill(server.children[1], signal.SIGKILL)
        came += ''.join(stream)
        assert 'rank 1 (' in came and 'has gone' in came, came[-2000:]
        assert text(server) == wanted
        assert numbers(server) == [0, 2], numbers(server)
        os.kill(server.children[2], signal.SIGKILL)
        end = time.monotonic() + DEADLINE
        while numbers(server) != [0]:
            assert time.monotonic() < end, server.said()
        assert text(server) == wanted
        assert 'going on with the 2 of 3 ranks' in server.said(), server.said()
        os.kill(server.children[0], signal.SIGTERM)
        server.wait()
    with_server(odmoe, model, folder, use, '--with-ft', 'ulfm', n=3)


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


def interrupts_end_all(odmoe, model, folder):
    """While it writes, and while it loads."""
    def use(server):
        stream = server.stream(3000)
        next(stream)
        os.kill(server.process.pid, signal.SIGINT)
        with contextlib.suppress(OSError, http.client.HTTPException):  # it is cut
            for _ in stream:
                pass
        server.wait()
    with_server(odmoe, model, folder, use)

    mark = f'ODMOE_RANKS_TEST={os.getpid()}'
    name, value = mark.split('=')

    def left():
        found = []
        for pid in filter(str.isdigit, os.listdir('/proc')):
            with contextlib.suppress(OSError):
                with open(f'/proc/{pid}/environ', 'rb') as file:
                    if mark.encode() in file.read() and Server.alive(pid):
                        found.append(int(pid))
        return found

    process = subprocess.Popen(ranks(2) + [odmoe, 'run', model, '-p', 'A', '-n', '1000', '--memory', '25%', '--no-probe'],
                               env={**environment(), name: value}, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        end = time.monotonic() + DEADLINE
        while len(left()) < 3:  # mpirun and its two; mpirun itself may hang when it is interrupted before
            assert process.poll() is None and time.monotonic() < end
        os.kill(process.pid, signal.SIGINT)
        process.wait(DEADLINE)
        while left():
            assert time.monotonic() < end, left()
            time.sleep(0.05)
    finally:
        for pid in left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def main():
    if MPIRUN is None:
        print('skipped: there is no mpirun')
        return 77
    odmoe, model = sys.argv[1:3]
    for check in (same_bits, text_is_written, batch_is_the_same, fills_and_warms, model_is_missing, shares_are_enough, auto_on_one_host,
                  serves, worker_is_killed, others_go_on, worker_hangs, worker_is_asked_to_end,
                  interrupts_end_all):
        if len(sys.argv) > 3 and check.__name__ not in sys.argv[3:]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            start = time.monotonic()
            check(odmoe, model, folder)
            print(f'{check.__name__}: {time.monotonic() - start:.1f} s', flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
