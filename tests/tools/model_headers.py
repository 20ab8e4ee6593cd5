#!/usr/bin/python3
"""Makes GGUFs with the keys and tensors of published models and nothing in them, and compares what is planned for them.

    model_headers.py make NAME FILE           one of the models below; FILE is sparse: as long as the model, on the drive a header
    model_headers.py check ODMOE [NAME...]    what `odmoe inspect` says of each at 4K, 32K and 256K, beside what follows from the
                                              published configurations by hand; --markdown prints the table of docs/memory.md

What is counted by hand is here and nowhere else: bytes of tensors by their shapes and types, and what each family remembers of a
text: rows for every token, for a window and one chunk, for blocks; recurrent states twice, and of what is not rows for every
token as many snapshots as odmoe keeps.
"""
import argparse
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

F32, F16, Q8_0, Q2_K, Q3_K, Q4_K, Q6_K, I32, MXFP4 = 0, 1, 8, 10, 11, 12, 14, 26, 39  # ggml's numbers
BLOCKS = {F32: (1, 4), F16: (1, 2), Q8_0: (32, 34), Q2_K: (256, 84), Q3_K: (256, 110), Q4_K: (256, 144), Q6_K: (256, 210), I32: (1, 4), MXFP4: (32, 17)}
ALIGNMENT = 32
CHUNK, SNAPSHOTS, ROWS = 512, 4, 256  # odmoe's defaults; rows are looked at in multiples
CONTEXTS = 4096, 32768, 262144


def size_of(kind, shape):
    elements, size = BLOCKS[kind]
    assert shape[0] % elements == 0, shape
    n = 1
    for length in shape:
        n *= length
    return n // elements * size


class Model:
    """Keys and tensors in the order in which they are declared, and `state`: (what is remembered, ...) of all layers."""

    def __init__(self, arch, layers, mtp=0):
        self.arch, self.layers, self.mtp = arch, layers, mtp
        self.keys, self.tensors, self.state = [], [], []
        self.set("general.architecture", arch)
        self.key("block_count", layers + mtp)

    @staticmethod
    def text(value):
        value = value.encode()
        return struct.pack("<Q", len(value)) + value

    def set(self, key, value):
        kinds = {bool: (7, "?"), int: (4, "I"), float: (6, "f")}
        if isinstance(value, str):
            packed = struct.pack("<I", 8) + self.text(value)
        elif isinstance(value, list):
            kind, pack = {str: (8, self.text), bool: (7, lambda v: struct.pack("?", v)), int: (5, lambda v: struct.pack("<i", v)),
                          float: (6, lambda v: struct.pack("<f", v))}[type(value[0])]
            packed = struct.pack("<IIQ", 9, kind, len(value)) + b"".join(pack(v) for v in value)
        else:
            number, code = kinds[type(value)]
            packed = struct.pack("<I" + code, number, value)
        self.keys.append(self.text(key) + packed)

    def key(self, name, value):
        self.set(f"{self.arch}.{name}", value)

    def common(self, context, d, heads, kv_heads, eps=1e-6, **more):
        for name, value in {"context_length": context, "embedding_length": d, "attention.head_count": heads,
                            "attention.head_count_kv": kv_heads, "attention.layer_norm_rms_epsilon": eps}.items():
            self.key(name, value)
        for name, value in more.items():
            self.key(name.replace("__", "."), value)

    def experts(self, n, used, width, **more):
        for name, value in {"expert_count": n, "expert_used_count": used, "expert_feed_forward_length": width}.items():
            self.key(name, value)
        for name, value in more.items():
            self.key("expert_" + name, value)
        self.n_used = used

    def add(self, name, kind, *shape):
        """Without a suffix it is a weight."""
        suffix = "" if name.endswith((".bias", ".ssm_a")) else ".weight"
        self.tensors.append((name + suffix, kind, shape))

    def vectors(self, prefix, **lengths):
        for name, length in lengths.items():
            self.add(prefix + name, F32, *(length if isinstance(length, tuple) else (length,)))

    def vocabulary(self, n, pre, d, embedding, head, norm=True):
        """Tokens that a byte-level vocabulary must have, and as many others as there are rows."""
        plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
        rest = [b for b in range(256) if b not in plain]
        tokens = [chr(b) if b in plain else chr(256 + rest.index(b)) for b in range(256)]
        tokens += ["ab"] + [f"<|{i}|>" for i in range(n - 257)]
        for name, value in {"model": "gpt2", "pre": pre, "tokens": tokens, "token_type": [1] * 257 + [3] * (n - 257),
                            "merges": ["a b"], "eos_token_id": n - 1, "bos_token_id": n - 1, "add_bos_token": False}.items():
            self.set("tokenizer.ggml." + name, value)
        self.add("token_embd", embedding, d, n)
        if norm:
            self.add("output_norm", F32, d)
        self.add("output", head, d, n)

    def write(self, path):
        head = b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.keys)) + b"".join(self.keys)
        at = 0
        for name, kind, shape in self.tensors:
            head += self.text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, at)
            at += -(-size_of(kind, shape) // ALIGNMENT) * ALIGNMENT
        with open(path, "wb") as file:
            file.write(head + bytes(-len(head) % ALIGNMENT))
            file.truncate(file.tell() + at)

    # What is remembered: bytes at a context of n tokens, and of a snapshot.

    def rows(self, values, size=2, count=1):
        self.state.append(lambda n: (count * padded(n) * values * size, 0))

    def window(self, length, values, size=2, count=1):
        self.state.append(lambda n: (count * min(padded(length + CHUNK - 1), padded(n)) * values * size,
                                     count * (length - 1) * values * size))

    def blocks(self, tokens, values, size=2, count=1):
        self.state.append(lambda n: (count * padded(-(-n // tokens)) * values * size, 0))

    def overwritten(self, values, count=1):
        self.state.append(lambda n: (2 * count * values * 4, count * values * 4))

    def state_bytes(self, n):
        return sum(of(n)[0] + SNAPSHOTS * of(n)[1] for of in self.state)

    def bytes_of(self, which):
        """Tensors that are used and of which `which` is true, by name."""
        def is_used(name):
            return not name.startswith("blk.") or int(name.split(".")[1]) < self.layers
        return sum(size_of(kind, shape) for name, kind, shape in self.tensors if is_used(name) and which(name))


def padded(rows):
    return -(-rows // ROWS) * ROWS


def more_bits(layer, layers):
    """Of Q4_K_M: the layers whose values and down projections are Q6_K."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def gpt_oss_120b():
    """Experts MXFP4, the rest Q8_0."""
    m = Model("gpt-oss", layers=36)
    d, heads, kv, hd, experts, window = 2880, 64, 8, 64, 128, 128
    m.common(131072, d, heads, kv, 1e-5, attention__key_length=hd, attention__value_length=hd, rope__dimension_count=hd,
             rope__freq_base=150000.0, rope__scaling__type="yarn", rope__scaling__factor=32.0,
             rope__scaling__original_context_length=4096, attention__sliding_window=window, feed_forward_length=d)
    m.experts(experts, 4, d)
    m.vocabulary(201088, "gpt-4o", d, Q8_0, Q8_0)
    for i in range(m.layers):
        b = f"blk.{i}."
        m.vectors(b, attn_norm=d, post_attention_norm=d, attn_sinks=heads)
        for name, n_in, n_out in ("q", d, heads * hd), ("k", d, kv * hd), ("v", d, kv * hd), ("output", heads * hd, d):
            m.add(f"{b}attn_{name}", Q8_0, n_in, n_out)
            m.add(f"{b}attn_{name}.bias", F32, n_out)
        m.add(b + "ffn_gate_inp", F32, d, experts)
        m.add(b + "ffn_gate_inp.bias", F32, experts)
        for name in "gate", "up", "down":
            m.add(f"{b}ffn_{name}_exps", MXFP4, d, d, experts)
            m.add(f"{b}ffn_{name}_exps.bias", F32, d, experts)
    m.window(window, 2 * kv * hd, count=18)
    m.rows(2 * kv * hd, count=18)
    return m


def qwen2_57b():
    """Q4_K_M."""
    m = Model("qwen2moe", layers=28)
    d, heads, kv, hd, experts, width, shared = 3584, 28, 4, 128, 64, 2560, 20480
    m.common(131072, d, heads, kv, rope__freq_base=1000000.0, feed_forward_length=18944)
    m.experts(experts, 8, width, shared_feed_forward_length=shared)
    m.vocabulary(151936, "qwen2", d, Q4_K, Q6_K)
    for i in range(m.layers):
        b = f"blk.{i}."
        more = Q6_K if more_bits(i, m.layers) else Q4_K
        m.vectors(b, **{"attn_norm": d, "ffn_norm": d, "attn_q.bias": heads * hd, "attn_k.bias": kv * hd, "attn_v.bias": kv * hd})
        for name, n_in, n_out, kind in (("q", d, heads * hd, Q4_K), ("k", d, kv * hd, Q4_K), ("v", d, kv * hd, more), ("output", heads * hd, d, Q4_K)):
            m.add(f"{b}attn_{name}", kind, n_in, n_out)
        m.vectors(b, ffn_gate_inp=(d, experts), ffn_gate_inp_shexp=d)
        for name, n_in, n_out, kind in ("gate", d, width, Q4_K), ("up", d, width, Q4_K), ("down", width, d, more):
            m.add(f"{b}ffn_{name}_exps", kind, n_in, n_out, experts)
        for name, n_in, n_out, kind in ("gate", d, shared, Q4_K), ("up", d, shared, Q4_K), ("down", shared, d, more):
            m.add(f"{b}ffn_{name}_shexp", kind, n_in, n_out)
    m.rows(2 * kv * hd, count=m.layers)
    return m


def glm_46():
    """Q4_K_M; the last block is for speculation."""
    m = Model("glm4moe", layers=92, mtp=1)
    d, heads, kv, hd, experts, width, dense = 5120, 96, 8, 128, 160, 1536, 3
    m.common(202752, d, heads, kv, 1e-5, attention__key_length=hd, attention__value_length=hd, rope__dimension_count=hd // 2,
             rope__freq_base=1e6, feed_forward_length=12288, leading_dense_block_count=dense, nextn_predict_layers=1)
    m.experts(experts, 8, width, shared_count=1, gating_func=2, weights_norm=True, weights_scale=2.5)
    m.vocabulary(151552, "glm4", d, Q4_K, Q6_K)
    for i in range(m.layers + m.mtp):
        b, kind = f"blk.{i}.", Q6_K if more_bits(i, m.layers) else Q4_K
        m.vectors(b, attn_norm=d, post_attention_norm=d, attn_q_norm=hd, attn_k_norm=hd)
        for name, n_out, of in ("q", heads * hd, Q4_K), ("k", kv * hd, Q4_K), ("v", kv * hd, kind):
            m.add(f"{b}attn_{name}", of, d, n_out)
            m.add(f"{b}attn_{name}.bias", F32, n_out)
        m.add(b + "attn_output", Q4_K, heads * hd, d)
        if i < dense:
            for name, n_in, n_out, of in ("gate", d, 12288, Q4_K), ("up", d, 12288, Q4_K), ("down", 12288, d, kind):
                m.add(f"{b}ffn_{name}", of, n_in, n_out)
            continue
        m.add(b + "ffn_gate_inp", F32, d, experts)
        m.add(b + "exp_probs_b.bias", F32, experts)
        for name, n_in, n_out, of in ("gate", d, width, Q4_K), ("up", d, width, Q4_K), ("down", width, d, kind):
            m.add(f"{b}ffn_{name}_exps", of, n_in, n_out, experts)
            m.add(f"{b}ffn_{name}_shexp", of, n_in, n_out)
        if i == m.layers:
            m.add(b + "nextn.eh_proj", Q4_K, 2 * d, d)
            m.vectors(b, **{"nextn.enorm": d, "nextn.hnorm": d, "nextn.shared_head_norm": d})
    m.rows(2 * kv * hd, count=m.layers)
    return m


def qwen35_397b():
    """Q4_K_M, gate and up of the experts merged."""
    m = Model("qwen35moe", layers=60)
    d, heads, kv, hd, experts, width = 4096, 32, 2, 256, 512, 1024
    state, key_heads, value_heads, taps = 128, 16, 64, 4
    inner, channels = state * value_heads, state * (2 * key_heads + value_heads)
    m.common(262144, d, heads, kv, attention__key_length=hd, attention__value_length=hd, rope__dimension_count=hd // 4,
             rope__freq_base=1e7, rope__dimension_sections=[11, 11, 10, 0], full_attention_interval=4, ssm__conv_kernel=taps,
             ssm__inner_size=inner, ssm__state_size=state, ssm__time_step_rank=value_heads, ssm__group_count=key_heads,
             expert_shared_feed_forward_length=width)
    m.experts(experts, 10, width)
    m.vocabulary(248320, "qwen35", d, Q4_K, Q6_K)
    for i in range(m.layers):
        b, kind = f"blk.{i}.", Q6_K if more_bits(i, m.layers) else Q4_K
        m.vectors(b, attn_norm=d, post_attention_norm=d)
        if i % 4 == 3:
            for name, n_in, n_out, of in (("q", d, 2 * heads * hd, Q4_K), ("k", d, kv * hd, Q4_K), ("v", d, kv * hd, kind),
                                          ("output", heads * hd, d, Q4_K)):
                m.add(f"{b}attn_{name}", of, n_in, n_out)
            m.vectors(b, attn_q_norm=hd, attn_k_norm=hd)
        else:
            m.add(b + "attn_qkv", Q4_K, d, channels)
            m.add(b + "attn_gate", Q4_K, d, inner)
            m.vectors(b, **{"ssm_conv1d": (taps, channels), "ssm_dt.bias": value_heads, "ssm_a": value_heads, "ssm_norm": state})
            m.add(b + "ssm_alpha", Q8_0, d, value_heads)
            m.add(b + "ssm_beta", Q8_0, d, value_heads)
            m.add(b + "ssm_out", Q4_K, inner, d)
        m.vectors(b, ffn_gate_inp=(d, experts), ffn_gate_inp_shexp=d)
        m.add(b + "ffn_gate_up_exps", Q4_K, d, 2 * width, experts)
        m.add(b + "ffn_down_exps", kind, width, d, experts)
        for name, n_in, n_out, of in ("gate", d, width, Q4_K), ("up", d, width, Q4_K), ("down", width, d, kind):
            m.add(f"{b}ffn_{name}_shexp", of, n_in, n_out)
    m.rows(2 * kv * hd, count=15)
    m.overwritten((taps - 1) * channels, count=45)
    m.overwritten(state * state * value_heads, count=45)
    return m


def minimax_m2():
    """Q4_K_M."""
    m = Model("minimax-m2", layers=62)
    d, heads, kv, hd, experts, width = 3072, 48, 8, 128, 256, 1536
    m.common(196608, d, heads, kv, attention__key_length=hd, attention__value_length=hd, rope__dimension_count=hd // 2,
             rope__freq_base=5e6, feed_forward_length=width)
    m.experts(experts, 8, width, gating_func=2)
    m.vocabulary(200064, "minimax-m2", d, Q4_K, Q6_K)
    for i in range(m.layers):
        b, kind = f"blk.{i}.", Q6_K if more_bits(i, m.layers) else Q4_K
        m.vectors(b, **{"attn_norm": d, "ffn_norm": d, "attn_q_norm": heads * hd, "attn_k_norm": kv * hd,
                        "exp_probs_b.bias": experts, "ffn_gate_inp": (d, experts)})
        for name, n_in, n_out, of in (("q", d, heads * hd, Q4_K), ("k", d, kv * hd, Q4_K), ("v", d, kv * hd, kind),
                                      ("output", heads * hd, d, Q4_K)):
            m.add(f"{b}attn_{name}", of, n_in, n_out)
        for name, n_in, n_out, of in ("gate", d, width, Q4_K), ("up", d, width, Q4_K), ("down", width, d, kind):
            m.add(f"{b}ffn_{name}_exps", of, n_in, n_out, experts)
    m.rows(2 * kv * hd, count=m.layers)
    return m


def deepseek_v4_flash():
    """Experts MXFP4, the rest Q8_0; without the block for speculation."""
    m = Model("deepseek4", layers=43)
    d, heads, hd, rot, q_rank, o_rank, groups, window = 4096, 64, 512, 64, 1024, 1024, 8, 128
    experts, used, width, by_token, index_heads, index_dim, vocabulary = 256, 6, 2048, 3, 64, 128, 129280
    ratios = [0, 0] + [4, 128] * 20 + [4]
    m.common(1048576, d, heads, 1, attention__key_length=hd, attention__value_length=hd, rope__dimension_count=rot,
             rope__freq_base=1e4, attention__q_lora_rank=q_rank, attention__sliding_window=window,
             attention__output_group_count=groups, attention__output_lora_rank=o_rank, attention__compress_ratios=ratios,
             attention__compress_rope_freq_base=160000.0, attention__indexer__head_count=index_heads,
             attention__indexer__key_length=index_dim, attention__indexer__top_k=512, hyper_connection__count=4,
             hyper_connection__sinkhorn_iterations=20, hyper_connection__epsilon=1e-6, hash_layer_count=by_token,
             swiglu_clamp_exp=[10.0] * m.layers, swiglu_clamp_shexp=[10.0] * m.layers, rope__scaling__type="yarn",
             rope__scaling__factor=16.0, rope__scaling__original_context_length=65536, feed_forward_length=width)
    m.experts(experts, used, width, shared_count=1, gating_func=4, weights_norm=True, weights_scale=1.5)
    m.vocabulary(vocabulary, "joyai-llm", d, Q8_0, Q8_0)
    m.add("output_hc_fn", F32, 4 * d, 4)
    m.vectors("", output_hc_base=4, output_hc_scale=1)

    def compressor(name, of, ratio):
        n = 2 * of if ratio == 4 else of
        m.add(name + "_compressor_kv", Q8_0, d, n)
        m.add(name + "_compressor_gate", Q8_0, d, n)
        m.vectors(name, _compressor_ape=(n, ratio), _compressor_norm=of)
        m.blocks(ratio, of)
        m.window(2 * ratio if ratio == 4 else ratio, n, size=4, count=2)

    for i, ratio in enumerate(ratios):
        b = f"blk.{i}."
        m.vectors(b, attn_norm=d, ffn_norm=d, attn_sinks=heads, attn_q_a_norm=q_rank, attn_kv_a_norm=hd)
        for name, shape in (("q_a", (d, q_rank)), ("q_b", (q_rank, heads * hd)), ("kv", (d, hd)),
                            ("output_a", (heads * hd // groups, o_rank, groups)), ("output_b", (groups * o_rank, d))):
            m.add(f"{b}attn_{name}", Q8_0, *shape)
        for name in "attn", "ffn":
            m.vectors(f"{b}hc_{name}", _fn=(4 * d, 24), _base=24, _scale=3)
        m.window(window, hd)
        if ratio:
            compressor(b + "attn", hd, ratio)
        if ratio == 4:
            compressor(b + "indexer", index_dim, ratio)
            m.add(b + "indexer.proj", Q8_0, d, index_heads)
            m.add(b + "indexer.attn_q_b", Q8_0, q_rank, index_heads * index_dim)
        m.add(b + "ffn_gate_inp", F32, d, experts)
        if i < by_token:
            m.add(b + "ffn_gate_tid2eid", I32, used, vocabulary)
        else:
            m.add(b + "exp_probs_b.bias", F32, experts)
        for name, n_in, n_out in ("gate", d, width), ("up", d, width), ("down", width, d):
            m.add(f"{b}ffn_{name}_exps", MXFP4, n_in, n_out, experts)
            m.add(f"{b}ffn_{name}_shexp", Q8_0, n_in, n_out)
    return m


def kimi_k3():
    """Experts MXFP4, the rest Q8_0."""
    m = Model("kimi-k3", layers=93)
    d, heads, experts, width, latent, dense = 7168, 96, 896, 3072, 3584, 33792
    q_rank, kv_rank, nope, rot, value, hd, taps = 1536, 512, 128, 64, 128, 128, 4
    inner = heads * hd
    has_mla = [i % 4 == 3 or i == m.layers - 1 for i in range(m.layers)]
    m.common(1048576, d, heads, [int(mla) for mla in has_mla], 1e-5, attention__q_lora_rank=q_rank,
             attention__kv_lora_rank=kv_rank, attention__key_length=kv_rank + rot, attention__value_length=kv_rank,
             attention__key_length_mla=nope + rot, attention__value_length_mla=value, rope__dimension_count=rot,
             kda__head_dim=hd, ssm__conv_kernel=taps, kda__gate_lower_bound=-5.0, feed_forward_length=dense,
             leading_dense_block_count=1, attn_res__block_size=12, activation__situ_beta=4.0, activation__situ_linear_beta=25.0)
    m.experts(experts, 16, width, shared_count=2, gating_func=2, weights_norm=True, weights_scale=1.0, latent_length=latent)
    m.vocabulary(163840, "kimi-k2", d, Q8_0, Q8_0)
    m.add("output_res_score", F32, d)
    for i in range(m.layers):
        b = f"blk.{i}."
        m.vectors(b, attn_norm=d, ffn_norm=d, attn_res_score=d, ffn_res_score=d)
        if has_mla[i]:
            for name, shape in (("q_a", (d, q_rank)), ("q_b", (q_rank, heads * (nope + rot))), ("kv_a_mqa", (d, kv_rank + rot)),
                                ("k_b", (nope, kv_rank, heads)), ("v_b", (kv_rank, value, heads)), ("gate", (d, heads * value))):
                m.add(f"{b}attn_{name}", Q8_0, *shape)
            m.vectors(b, attn_q_a_norm=q_rank, attn_kv_a_norm=kv_rank)
        else:
            for name in "q", "k", "v":
                m.add(f"{b}attn_{name}", Q8_0, d, inner)
                m.add(f"{b}ssm_conv1d_{name}", F32, taps, 1, inner)
            for name, n_in, n_out in ("ssm_f_a", d, hd), ("ssm_f_b", hd, inner), ("ssm_g", d, inner), ("ssm_beta", d, heads):
                m.add(b + name, Q8_0, n_in, n_out)
            m.vectors(b, **{"ssm_dt.bias": inner, "ssm_a": heads, "ssm_norm": hd})
        m.add(b + "attn_output", Q8_0, inner, d)
        if i == 0:
            for name, n_in, n_out in ("gate", d, dense), ("up", d, dense), ("down", dense, d):
                m.add(f"{b}ffn_{name}", Q8_0, n_in, n_out)
            continue
        m.add(b + "ffn_routed_down", Q8_0, d, latent)
        m.add(b + "ffn_routed_up", Q8_0, latent, d)
        m.vectors(b, **{"ffn_routed_norm": latent, "ffn_gate_inp": (d, experts), "exp_probs_b.bias": experts})
        for name, n_in, n_out in ("gate", latent, width), ("up", latent, width), ("down", width, latent):
            m.add(f"{b}ffn_{name}_exps", MXFP4, n_in, n_out, experts)
        for name, n_in, n_out in ("gate", d, 2 * width), ("up", d, 2 * width), ("down", 2 * width, d):
            m.add(f"{b}ffn_{name}_shexp", Q8_0, n_in, n_out)
    m.rows(kv_rank + rot, count=sum(has_mla))
    m.overwritten((taps - 1) * inner, count=3 * (m.layers - sum(has_mla)))
    m.overwritten(hd * hd * heads, count=m.layers - sum(has_mla))
    return m


def deepseek2(context, heads, experts, lead, vocabulary, pre, eps, freq_base, factor, weights_scale, **groups):
    """Of two bits and a half: experts Q2_K, their down projections Q3_K; the rest Q4_K, Q6_K."""
    m = Model("deepseek2", layers=61)
    d, q_rank, kv_rank, nope, rot, value, width = 7168, 1536, 512, 128, 64, 128, 2048
    m.common(context, d, heads, 1, eps, attention__key_length=kv_rank + rot, attention__value_length=kv_rank,
             attention__key_length_mla=nope + rot, attention__value_length_mla=value, attention__q_lora_rank=q_rank,
             attention__kv_lora_rank=kv_rank, rope__dimension_count=rot, rope__freq_base=freq_base, rope__scaling__type="yarn",
             rope__scaling__factor=factor, rope__scaling__original_context_length=4096, rope__scaling__yarn_log_multiplier=0.1,
             feed_forward_length=18432, leading_dense_block_count=lead, vocab_size=vocabulary)
    m.experts(experts, 8, width, shared_count=1, gating_func=2, weights_norm=True, weights_scale=weights_scale, **groups)
    m.vocabulary(vocabulary, pre, d, Q4_K, Q6_K)
    for i in range(m.layers):
        b = f"blk.{i}."
        m.vectors(b, attn_norm=d, ffn_norm=d, attn_q_a_norm=q_rank, attn_kv_a_norm=kv_rank)
        for name, shape in (("q_a", (d, q_rank)), ("q_b", (q_rank, heads * (nope + rot))), ("kv_a_mqa", (d, kv_rank + rot)),
                            ("output", (heads * value, d))):
            m.add(f"{b}attn_{name}", Q4_K, *shape)
        m.add(b + "attn_k_b", Q8_0, nope, kv_rank, heads)
        m.add(b + "attn_v_b", Q8_0, kv_rank, value, heads)
        if i < lead:
            for name, n_in, n_out, kind in ("gate", d, 18432, Q4_K), ("up", d, 18432, Q4_K), ("down", 18432, d, Q6_K):
                m.add(f"{b}ffn_{name}", kind, n_in, n_out)
            continue
        m.add(b + "ffn_gate_inp", F32, d, experts)
        m.add(b + "exp_probs_b.bias", F32, experts)
        for name, n_in, n_out, kind, shared in (("gate", d, width, Q2_K, Q4_K), ("up", d, width, Q2_K, Q4_K),
                                                ("down", width, d, Q3_K, Q6_K)):
            m.add(f"{b}ffn_{name}_exps", kind, n_in, n_out, experts)
            m.add(f"{b}ffn_{name}_shexp", shared, n_in, n_out)
    m.rows(kv_rank + rot, count=m.layers)
    return m


def kimi_k25():
    return deepseek2(262144, 64, 384, 1, 163840, "kimi-k2", 1e-5, 50000.0, 64.0, 2.827)


def deepseek_v3():
    return deepseek2(163840, 128, 256, 3, 129280, "deepseek-v3", 1e-6, 10000.0, 40.0, 2.5, group_count=8, group_used_count=4)


MODELS = {"gpt-oss-120b": gpt_oss_120b, "Qwen2-57B-A14B": qwen2_57b, "GLM-4.6": glm_46, "Qwen3.5-397B-A17B": qwen35_397b, "MiniMax-M2": minimax_m2,
          "DeepSeek-V3": deepseek_v3, "DeepSeek-V4-Flash": deepseek_v4_flash, "Kimi-K2.5": kimi_k25, "Kimi-K3": kimi_k3}


def differences(model, said, context):
    """What inspect says that does not follow from the model."""
    of_experts = lambda name: name.endswith("_exps.weight")
    dense, experts, kv = model.bytes_of(lambda name: not of_experts(name)), model.bytes_of(of_experts), model.state_bytes(context)
    rest = said["dense_memory_bytes"] + said["kv_bytes"] + said["buffer_bytes"]
    one = max(layer["expert_bytes"] for layer in said["layers"])
    wanted = {"dense_bytes": dense, "expert_bytes": experts, "kv_bytes": kv, "context": context, "n_layer": model.layers}
    wrong = [f"{name} is {said[name]}, not {value}" for name, value in wanted.items() if said[name] != value]
    wrong += [f"{left['name']} is refused: {left['reason']}" for left in said["not_used"] if left["refused"]]
    # What kernels want beside the values: the most is an eighth, of Q8_0 for ggml's AMX.
    ranges = {"dense weights in memory": (said["dense_memory_bytes"], dense, dense * 1.125),
              "experts in memory": (said["budget_bytes"]["100%"] - rest, experts, experts * 1.01),
              "the least": (said["budget_bytes"]["minimum"] - rest, model.n_used * one, experts * 0.1)}
    return wrong + [f"{name}: {value} is not in {low} to {high}" for name, (value, low, high) in ranges.items()
                    if not low <= value <= high]


def check(odmoe, names, markdown):
    failed = False
    table = ["| model | dense weights | experts | context | KV cache, states | buffers | least that will do |", "|---|---|---|---|---|---|---|"]
    gib = lambda n: f"{n / 2**30:.1f} GiB"
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            path, model = Path(folder) / "model.gguf", MODELS[name]()
            model.write(path)
            for context in CONTEXTS:
                run = subprocess.run([odmoe, "inspect", path, "--json", "--context", str(context)], capture_output=True, text=True)
                if run.returncode != 0:
                    print(f"{name} at {context}: {run.stderr.strip()}", file=sys.stderr)
                    failed = True
                    break
                said = json.loads(run.stdout)
                for difference in differences(model, said, context):
                    print(f"{name} at {context}: {difference}", file=sys.stderr)
                    failed = True
                first = (name, gib(said["dense_bytes"]), gib(said["expert_bytes"])) if context == CONTEXTS[0] else ("", "", "")
                table.append("| " + " | ".join((*first, f"{context // 1024}K", gib(said["kv_bytes"]), gib(said["buffer_bytes"]),
                                                gib(said["budget_bytes"]["minimum"]))) + " |")
    if markdown:
        print("\n".join(table))
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make")
    make.add_argument("name", choices=MODELS)
    make.add_argument("file", type=Path)
    compare = commands.add_parser("check")
    compare.add_argument("odmoe")
    compare.add_argument("names", nargs="*", help="all of them without a name")
    compare.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    if options.command == "make":
        MODELS[options.name]().write(options.file)
        return 0
    return check(options.odmoe, options.names or MODELS, options.markdown)


if __name__ == "__main__":
    sys.exit(main())
