#!/usr/bin/python3
"""Writes a GGUF of a real model's shapes whose greedy decoding replays recorded routing: for measuring without weights.

    bench/scenarios/replay_model.py --arch gpt-oss --trace gpt-oss-20b.trace.xz -o replay.gguf [--layers 8]
    bench/scenarios/replay_model.py --made 32,4 --layers 8 --steps 256 -o replay.gguf
    bench/scenarios/replay_model.py --arch qwen3moe --made 128,6 --layers 8 -o q8.gguf

--made EXPERTS,CHOSEN makes up a routing where none was recorded: experts of a layer are chosen as 1, 1/2,
1/3, ... in an order of its own, and half of what it chose for the token before comes again.

The residual stream's first dimensions are a one-hot code of the step, which no layer writes to: attention's and the
experts' outputs are zero there.  The router reads only the code, and chooses what the trace has at that step and layer;
the head maps the code of step t to token t + 1.  Steps are tokens ` s0000`, ` s0001`, ..., and each byte has the code of
step 0.  Everything else is random and of the published model's type and size: of gpt-oss experts MXFP4 with
biases, attention Q8_0 with biases and sinks, windows on every second layer, YaRN; of Qwen3-30B-A3B all matrices Q4_K.  So an engine reads and computes what the recorded model would
have asked of it; how well routing can be foreseen it does not tell, since the code is undisturbed.

A trace is `MOERT01`: after those bytes and a zero, u32 layers, experts, chosen ones and sessions, then per session u32
tokens, u32 first position, u8 ids[tokens][layers][chosen], f16 probabilities of the same shape.  Needs python3-numpy.
"""
import argparse
import lzma
import struct
import sys
from pathlib import Path

import numpy as np

F32, F16, Q8_0, Q4_K, MXFP4 = 0, 1, 8, 12, 39  # ggml's numbers
BLOCKS = {F32: (1, 4), F16: (1, 2), Q8_0: (32, 34), Q4_K: (256, 144), MXFP4: (32, 17)}  # elements and bytes
ALIGNMENT = 32
POOL_BLOCKS = 1 << 20


def read_trace(path, session):
    """-> ids [steps, layers, chosen], number of experts."""
    raw = lzma.open(path).read() if path.suffix == ".xz" else path.read_bytes()
    if raw[:8] != b"MOERT01\0":
        sys.exit(f"{path} is not a trace of routing")
    layers, experts, chosen, sessions = struct.unpack_from("<4I", raw, 8)
    at = 24
    for number in range(sessions):
        tokens, _first = struct.unpack_from("<2I", raw, at)
        size = tokens * layers * chosen
        if number == session:
            return np.frombuffer(raw, np.uint8, size, at + 8).reshape(tokens, layers, chosen).astype(np.int64), experts
        at += 8 + size * 3
    sys.exit(f"{path} has {sessions} sessions: there is no session {session}")


def made_trace(steps, layers, n_expert, chosen, seed):
    """Ids as read_trace() gives them, of a routing that is made up."""
    rng = np.random.default_rng(seed)
    popularity = np.stack([rng.permutation(1 / np.arange(1, n_expert + 1)) for _ in range(layers)])
    popularity /= popularity.sum(axis=1, keepdims=True)
    ids = np.empty((steps, layers, chosen), np.int64)
    for layer in range(layers):
        before = np.empty(0, np.int64)
        for step in range(steps):
            kept = rng.permutation(before)[:chosen // 2]
            weights = popularity[layer].copy()
            weights[kept] = 0
            more = rng.choice(n_expert, chosen - len(kept), replace=False, p=weights / weights.sum())
            ids[step, layer] = before = np.concatenate([kept, more])
    return ids


class Gguf:
    def __init__(self):
        self.keys, self.tensors = [], []

    @staticmethod
    def text(value):
        value = value.encode()
        return struct.pack("<Q", len(value)) + value

    def set(self, key, value):
        kinds = {bool: (7, "?"), int: (4, "I"), float: (6, "f")}
        if isinstance(value, str):
            packed = struct.pack("<I", 8) + self.text(value)
        elif isinstance(value, list):
            items = [self.text(v) if isinstance(v, str) else struct.pack("<i", v) for v in value]
            packed = struct.pack("<IIQ", 9, 8 if value and isinstance(value[0], str) else 5, len(value)) + b"".join(items)
        else:
            number, code = kinds[type(value)]
            packed = struct.pack("<I" + code, number, value)
        self.keys.append(self.text(key) + packed)

    def add(self, name, kind, shape, write):
        """A shape in ggml's order; write(file) writes its bytes."""
        elements, size = BLOCKS[kind]
        assert shape[0] % elements == 0, (name, shape)
        self.tensors.append((name, kind, shape, int(np.prod(shape)) // elements * size, write))

    def put(self, name, array):
        kind = {"float32": F32, "float16": F16}[str(array.dtype)]
        self.add(name, kind, array.shape[::-1], lambda file: file.write(np.ascontiguousarray(array).tobytes()))

    def write(self, path):
        head = b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.keys)) + b"".join(self.keys)
        at = 0
        for name, kind, shape, size, _ in self.tensors:
            head += self.text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, at)
            at += -(-size // ALIGNMENT) * ALIGNMENT
        with open(path, "wb") as file:
            file.write(head + bytes(-len(head) % ALIGNMENT))
            for name, _kind, _shape, size, write in self.tensors:
                begin = file.tell()
                write(file)
                assert file.tell() - begin == size, name
                file.write(bytes(-size % ALIGNMENT))


class Random:
    """Matrices of random blocks, as large as those of a trained model multiply to."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.pools = {}

    def pool(self, kind):
        if kind not in self.pools:
            blocks = self.rng.integers(0, 256, (POOL_BLOCKS, BLOCKS[kind][1]), np.uint8)
            if kind == Q8_0:
                blocks[:, :2] = np.frombuffer(np.float16(2e-4).tobytes(), np.uint8)
            elif kind == Q4_K:  # scales, and least values in the middle of them
                blocks[:, :4] = np.frombuffer(np.array([1e-4, 7.5e-4], np.float16).tobytes(), np.uint8)
            else:
                blocks[:, 0] = 119  # 2^-8
            self.pools[kind] = blocks
        return self.pools[kind]

    def matrix(self, kind, columns, rows, zero_rows=0, copies=1):
        per_row = columns // BLOCKS[kind][0]
        pool = self.pool(kind)

        def write(file):
            for _ in range(copies):
                file.write(bytes(zero_rows * per_row * BLOCKS[kind][1]))
                left = (rows - zero_rows) * per_row
                while left > 0:
                    n = min(left, len(pool) // 2)
                    at = int(self.rng.integers(0, len(pool) - n))
                    file.write(pool[at:at + n].tobytes())
                    left -= n
        return write

    def vector(self, *shape, scale=0.02, zeros=0):
        made = (self.rng.standard_normal(shape) * scale).astype(np.float32)
        made[..., :zeros] = 0
        return made


def add_vocabulary(g, steps):
    """-> number of tokens and the one that ends.  Tokens of steps are found in a text as they are."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    alphabet = [chr(b) if b in plain else chr(256 + rest.index(b)) for b in range(256)]
    tokens = [f" s{step:04d}" for step in range(steps)] + alphabet + ["ab", "<|return|>"]
    tokens += [f"<|reserved_{i}|>" for i in range(-len(tokens) % 32)]
    end = steps + 257
    g.set("tokenizer.ggml.model", "gpt2")
    g.set("tokenizer.ggml.pre", "gpt-4o")
    g.set("tokenizer.ggml.tokens", tokens)
    g.set("tokenizer.ggml.token_type", [4] * steps + [1] * 257 + [3] * (len(tokens) - end))
    g.set("tokenizer.ggml.merges", ["a b"])
    g.set("tokenizer.ggml.eos_token_id", end)
    g.set("tokenizer.ggml.bos_token_id", end)
    g.set("tokenizer.ggml.add_bos_token", False)
    return len(tokens), end


def recorded_router(ids, layer, n_expert, d):
    """Falling logits in the order that was recorded, for each step."""
    steps, _, chosen = ids.shape
    router = np.zeros((n_expert, d), np.float32)
    for rank in range(chosen):
        router[ids[:, layer, rank], np.arange(steps)] = 1.5 - rank / chosen
    return router


def gpt_oss(g, ids, n_expert, random):
    """The shapes of gpt-oss-20b and 120b, which differ in layers and experts."""
    steps, layers, chosen = ids.shape
    d = ff = 2880
    heads, kv_heads, head_dim = 64, 8, 64
    queries, keys = heads * head_dim, kv_heads * head_dim
    for key, value in {
            "block_count": layers, "context_length": 131072, "embedding_length": d, "feed_forward_length": ff,
            "expert_count": n_expert, "expert_used_count": chosen, "expert_feed_forward_length": ff,
            "attention.head_count": heads, "attention.head_count_kv": kv_heads, "attention.key_length": head_dim,
            "attention.value_length": head_dim, "attention.sliding_window": 128,
            "attention.layer_norm_rms_epsilon": 1e-5, "rope.dimension_count": head_dim, "rope.freq_base": 150000.0,
            "rope.scaling.type": "yarn", "rope.scaling.factor": 32.0,
            "rope.scaling.original_context_length": 4096}.items():
        g.set("gpt-oss." + key, value)
    for layer in range(layers):
        b = f"blk.{layer}."
        g.put(b + "attn_norm.weight", np.ones(d, np.float32))
        for name, rows in ("q", queries), ("k", keys), ("v", keys):
            g.add(f"{b}attn_{name}.weight", Q8_0, (d, rows), random.matrix(Q8_0, d, rows))
            g.put(f"{b}attn_{name}.bias", random.vector(rows))
        g.add(b + "attn_output.weight", Q8_0, (queries, d), random.matrix(Q8_0, queries, d, zero_rows=steps))
        g.put(b + "attn_output.bias", random.vector(d, zeros=steps))
        g.put(b + "attn_sinks.weight", random.vector(heads, scale=1))
        g.put(b + "post_attention_norm.weight", np.ones(d, np.float32))
        g.put(b + "ffn_gate_inp.weight", recorded_router(ids, layer, n_expert, d))
        g.put(b + "ffn_gate_inp.bias", np.zeros(n_expert, np.float32))
        for name in "gate", "up":
            g.add(f"{b}ffn_{name}_exps.weight", MXFP4, (d, ff, n_expert), random.matrix(MXFP4, d, ff, copies=n_expert))
            g.put(f"{b}ffn_{name}_exps.bias", random.vector(n_expert, ff))
        g.add(b + "ffn_down_exps.weight", MXFP4, (ff, d, n_expert),
              random.matrix(MXFP4, ff, d, zero_rows=steps, copies=n_expert))
        g.put(b + "ffn_down_exps.bias", random.vector(n_expert, d, zeros=steps))
    return d


def qwen3moe(g, ids, n_expert, random):
    """The shapes of Qwen3-30B-A3B."""
    steps, layers, chosen = ids.shape
    d, ff, heads, kv_heads, head_dim = 2048, 768, 32, 4, 128
    queries, keys = heads * head_dim, kv_heads * head_dim
    for key, value in {
            "block_count": layers, "context_length": 40960, "embedding_length": d, "feed_forward_length": 6144,
            "expert_count": n_expert, "expert_used_count": chosen, "expert_feed_forward_length": ff,
            "attention.head_count": heads, "attention.head_count_kv": kv_heads, "attention.key_length": head_dim,
            "attention.value_length": head_dim, "attention.layer_norm_rms_epsilon": 1e-6,
            "rope.dimension_count": head_dim, "rope.freq_base": 1000000.0}.items():
        g.set("qwen3moe." + key, value)
    for layer in range(layers):
        b = f"blk.{layer}."
        g.put(b + "attn_norm.weight", np.ones(d, np.float32))
        for name, rows in ("q", queries), ("k", keys), ("v", keys):
            g.add(f"{b}attn_{name}.weight", Q4_K, (d, rows), random.matrix(Q4_K, d, rows))
        for name in "q", "k":
            g.put(f"{b}attn_{name}_norm.weight", np.ones(head_dim, np.float32))
        g.add(b + "attn_output.weight", Q4_K, (queries, d), random.matrix(Q4_K, queries, d, zero_rows=steps))
        g.put(b + "ffn_norm.weight", np.ones(d, np.float32))
        g.put(b + "ffn_gate_inp.weight", recorded_router(ids, layer, n_expert, d))
        for name in "gate", "up":
            g.add(f"{b}ffn_{name}_exps.weight", Q4_K, (d, ff, n_expert), random.matrix(Q4_K, d, ff, copies=n_expert))
        g.add(b + "ffn_down_exps.weight", Q4_K, (ff, d, n_expert),
              random.matrix(Q4_K, ff, d, zero_rows=steps, copies=n_expert))
    return d


ARCHITECTURES = {"gpt-oss": gpt_oss, "qwen3moe": qwen3moe}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=ARCHITECTURES, default="gpt-oss")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--trace", type=Path)
    what.add_argument("--made", metavar="EXPERTS,CHOSEN")
    parser.add_argument("--session", type=int, default=0)
    parser.add_argument("--layers", type=int, help="the first of them alone")
    parser.add_argument("--steps", type=int, default=1024, help="the first of them alone")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    if options.made:
        n_expert, chosen = map(int, options.made.split(","))
        ids = made_trace(options.steps, options.layers or 24, n_expert, chosen, options.seed)
    else:
        ids, n_expert = read_trace(options.trace, options.session)
    ids = ids[:options.steps, :options.layers]
    steps = len(ids)
    random = Random(options.seed)
    g = Gguf()
    g.set("general.architecture", options.arch)
    g.set("general.name", f"replay of {'a made routing' if options.made else options.trace.name}, session {options.session}, {steps} steps")
    n_vocab, end = add_vocabulary(g, steps)
    d = ARCHITECTURES[options.arch](g, ids, n_expert, random)
    assert steps <= d // 2, "the code would leave no room for what layers write"
    embedding = random.vector(n_vocab, d).astype(np.float16)
    embedding[:, :steps] = 0
    embedding[np.arange(steps), np.arange(steps)] = 4
    embedding[steps:end, 0] = 4
    head = np.zeros((n_vocab, d), np.float16)
    head[np.arange(1, steps), np.arange(steps - 1)] = 1
    head[end, steps - 1] = 1
    g.put("token_embd.weight", embedding)
    g.put("output_norm.weight", np.ones(d, np.float32))
    g.put("output.weight", head)
    g.write(options.output)
    print(f"{options.output}: {ids.shape[1]} layers, {n_expert} experts of which {ids.shape[2]}, {steps} steps; "
          "the greedy text is ' s0001 s0002 ...'")


if __name__ == "__main__":
    main()
