"""Turns the GGUF of a tiny model into the checkpoint that Hugging Face would have of it: what a converter must undo.

    hf_from_gguf.py GGUF FOLDER [fp8]

Written after the modelling files of transformers and the published checkpoints, not after a converter: names and
layouts are those of Glm4Moe, GptOss, Qwen3Next, Qwen3_5Moe, MiniMaxM2, Olmoe.  `fp8` stores matrices as MiniMax-M2
publishes them.  Needs python3-numpy and python3-safetensors.
"""
import json
import math
import pathlib
import struct
import sys

import numpy as np
from safetensors import serialize_file

QWEN2_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
               r"|\s*[\r\n]+|\s+(?!\S)|\s+")
F32, F16, Q8_0, MXFP4 = 0, 1, 8, 39  # ggml's numbers


class Gguf:
    """Keys without the architecture, tensors as float32 in numpy's order (the last dimension is the fastest)."""

    SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

    def __init__(self, path):
        self.data = pathlib.Path(path).read_bytes()
        self.at = 8
        n_tensor, n_key = self.take("Q"), self.take("Q")
        self.keys = {}
        for _ in range(n_key):
            name = self.text()
            self.keys[name] = self.value(self.take("I"))
        self.arch = self.keys["general.architecture"]
        self.infos = {}
        for _ in range(n_tensor):
            name = self.text()
            shape = [self.take("Q") for _ in range(self.take("I"))]
            self.infos[name] = (shape[::-1], self.take("I"), self.take("Q"))
        alignment = self.keys.get("general.alignment", 32)
        self.begin = (self.at + alignment - 1) // alignment * alignment

    def take(self, kind):
        value, = struct.unpack_from("<" + kind, self.data, self.at)
        self.at += struct.calcsize("<" + kind)
        return value

    def text(self):
        n = self.take("Q")
        self.at += n
        return self.data[self.at - n:self.at].decode()

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind != 9:
            return self.take(self.SCALARS[kind])
        kind, n = self.take("I"), self.take("Q")
        return [self.value(kind) for _ in range(n)]

    def __getitem__(self, key):
        return self.keys[f"{self.arch}.{key}"]

    def get(self, key, otherwise):
        return self.keys.get(f"{self.arch}.{key}", otherwise)

    def raw(self, name, kind):
        shape, found, offset = self.infos[name]
        assert found == kind, (name, found)
        n = math.prod(shape)
        size = {F32: 4 * n, F16: 2 * n, Q8_0: n // 32 * 34, MXFP4: n // 32 * 17}[kind]
        return shape, np.frombuffer(self.data, np.uint8, size, self.begin + offset)

    def tensor(self, name):
        shape, raw = self.raw(name, self.infos[name][1])
        kind = self.infos[name][1]
        if kind == Q8_0:
            blocks = raw.reshape(-1, 34)
            scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
            return (scale * blocks[:, 2:].view(np.int8)).astype(np.float32).reshape(shape)
        return raw.view({F32: np.float32, F16: np.float16}[kind]).astype(np.float32).reshape(shape)

    def mxfp4(self, name):
        """Scales [..., blocks] and codes [..., blocks, 32]."""
        shape, raw = self.raw(name, MXFP4)
        blocks = raw.reshape(*shape[:-1], shape[-1] // 32, 17)
        return blocks[..., 0], np.concatenate([blocks[..., 1:] & 15, blocks[..., 1:] >> 4], -1)


class Checkpoint:
    """Tensors by their names in safetensors."""

    def __init__(self, gguf, prefix="model."):
        self.gguf, self.prefix, self.tensors = gguf, prefix, {}

    def put(self, name, array):
        self.tensors[name] = np.ascontiguousarray(array)

    def take(self, name, source):
        self.put(name, self.gguf.tensor(source))

    def common(self, norms=0.0):
        """Embedding, head and the norms of all layers, whose weights are stored less `norms`."""
        self.take(self.prefix + "embed_tokens.weight", "token_embd.weight")
        self.put(self.prefix + "norm.weight", self.gguf.tensor("output_norm.weight") - np.float32(norms))
        self.take("lm_head.weight", "output.weight")
        for i in range(self.gguf["block_count"]):
            after = f"blk.{i}.post_attention_norm.weight"
            after = after if after in self.gguf.infos else f"blk.{i}.ffn_norm.weight"
            before = self.gguf.tensor(f"blk.{i}.attn_norm.weight")
            self.put(self.layer(i) + "input_layernorm.weight", before - np.float32(norms))
            self.put(self.layer(i) + "post_attention_layernorm.weight", self.gguf.tensor(after) - np.float32(norms))

    def layer(self, i):
        return f"{self.prefix}layers.{i}."

    def attention(self, i):
        for own, their in ("q", "q_proj"), ("k", "k_proj"), ("v", "v_proj"), ("output", "o_proj"):
            for part in "weight", "bias":
                if f"blk.{i}.attn_{own}.{part}" in self.gguf.infos:
                    self.take(f"{self.layer(i)}self_attn.{their}.{part}", f"blk.{i}.attn_{own}.{part}")
        for own, their in ("attn_q_norm", "q_norm"), ("attn_k_norm", "k_norm"):
            if f"blk.{i}.{own}.weight" in self.gguf.infos:
                self.take(f"{self.layer(i)}self_attn.{their}.weight", f"blk.{i}.{own}.weight")

    def experts(self, i, mlp="mlp", gate="gate_proj", up="up_proj", down="down_proj"):
        self.take(f"{self.layer(i)}{mlp}.gate.weight", f"blk.{i}.ffn_gate_inp.weight")
        for own, their in ("gate", gate), ("up", up), ("down", down):
            stack = self.gguf.tensor(f"blk.{i}.ffn_{own}_exps.weight")
            for expert, matrix in enumerate(stack):
                self.put(f"{self.layer(i)}{mlp}.experts.{expert}.{their}.weight", matrix)

    def ffn(self, i, module, suffix=""):
        for part in "gate", "up", "down":
            self.take(f"{self.layer(i)}{module}.{part}_proj.weight", f"blk.{i}.ffn_{part}{suffix}.weight")

    def shared_with_gate(self, i):
        self.ffn(i, "mlp.shared_expert", "_shexp")
        self.put(f"{self.layer(i)}mlp.shared_expert_gate.weight",
                 self.gguf.tensor(f"blk.{i}.ffn_gate_inp_shexp.weight").reshape(1, -1))


def common_config(g, name, model_type):
    return {
        "architectures": [name], "model_type": model_type, "vocab_size": g["vocab_size"],
        "hidden_size": g["embedding_length"], "num_hidden_layers": g["block_count"],
        "num_attention_heads": g["attention.head_count"], "num_key_value_heads": g["attention.head_count_kv"],
        "max_position_embeddings": g["context_length"], "rms_norm_eps": g["attention.layer_norm_rms_epsilon"],
        "rope_theta": g["rope.freq_base"], "hidden_act": "silu", "tie_word_embeddings": False, "use_cache": True,
        "bos_token_id": g.keys["tokenizer.ggml.bos_token_id"],
    }


def glm4moe(g):
    n_mtp = g.get("nextn_predict_layers", 0)
    n_layer, n_dense = g["block_count"], g["leading_dense_block_count"]
    norms = "blk.0.attn_q_norm.weight" in g.infos
    config = common_config(g, "Glm4MoeForCausalLM", "glm4_moe") | {
        "num_hidden_layers": n_layer - n_mtp, "num_nextn_predict_layers": n_mtp, "attention_bias": True,
        "use_qk_norm": norms, "head_dim": g["attention.key_length"], "rope_scaling": None,
        "partial_rotary_factor": g["rope.dimension_count"] / g["attention.key_length"],
        "intermediate_size": g["feed_forward_length"], "moe_intermediate_size": g["expert_feed_forward_length"],
        "n_routed_experts": g["expert_count"], "num_experts_per_tok": g["expert_used_count"],
        "n_shared_experts": g["expert_shared_count"], "first_k_dense_replace": n_dense, "n_group": 1, "topk_group": 1,
        "norm_topk_prob": g["expert_weights_norm"], "routed_scaling_factor": g["expert_weights_scale"],
    }
    c = Checkpoint(g)
    c.common()
    for i in range(n_layer):
        c.attention(i)
        if i < n_dense:
            c.ffn(i, "mlp")
            continue
        c.experts(i)
        c.take(f"{c.layer(i)}mlp.gate.e_score_correction_bias", f"blk.{i}.exp_probs_b.bias")
        c.ffn(i, "mlp.shared_experts", "_shexp")
    for i in range(n_layer - n_mtp, n_layer):
        for own, their in (("eh_proj", "eh_proj"), ("enorm", "enorm"), ("hnorm", "hnorm"),
                           ("shared_head_norm", "shared_head.norm")):
            c.take(f"{c.layer(i)}{their}.weight", f"blk.{i}.nextn.{own}.weight")
        c.take(c.layer(i) + "embed_tokens.weight", "token_embd.weight")
        c.take(c.layer(i) + "shared_head.head.weight", "output.weight")
    return config, c


def gpt_oss(g):
    config = common_config(g, "GptOssForCausalLM", "gpt_oss") | {
        "head_dim": g["attention.key_length"], "attention_bias": True, "swiglu_limit": 7.0,
        "intermediate_size": g["expert_feed_forward_length"], "num_local_experts": g["expert_count"],
        "num_experts_per_tok": g["expert_used_count"], "experts_per_token": g["expert_used_count"],
        "sliding_window": g["attention.sliding_window"], "initial_context_length": 64,
        "layer_types": [("sliding" if i % 2 == 0 else "full") + "_attention" for i in range(g["block_count"])],
        "rope_scaling": {
            "rope_type": "yarn", "factor": g["rope.scaling.factor"], "beta_fast": 32.0, "beta_slow": 1.0,
            "truncate": False, "original_max_position_embeddings": g["rope.scaling.original_context_length"]},
        "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": [
            "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]},
    }

    def packed(scales, codes):
        return scales, codes[..., ::2] | codes[..., 1::2] << 4

    def alternating(first, second):
        return np.stack([first, second], 2).reshape(first.shape[0], -1, *first.shape[2:])

    c = Checkpoint(g)
    c.common()
    for i in range(g["block_count"]):
        block, mlp = f"blk.{i}.", c.layer(i) + "mlp."
        c.attention(i)
        c.take(c.layer(i) + "self_attn.sinks", block + "attn_sinks.weight")
        for part in "weight", "bias":
            c.take(f"{mlp}router.{part}", f"{block}ffn_gate_inp.{part}")
        gate, up, down = (g.mxfp4(f"{block}ffn_{part}_exps.weight") for part in ("gate", "up", "down"))
        both = [alternating(one, other) for one, other in zip(gate, up)]
        for name, projection in ("gate_up_proj", both), ("down_proj", down):
            scales, blocks = packed(*projection)
            c.put(f"{mlp}experts.{name}_scales", scales)
            c.put(f"{mlp}experts.{name}_blocks", blocks)
        c.put(mlp + "experts.gate_up_proj_bias",
              alternating(*(g.tensor(f"{block}ffn_{part}_exps.bias") for part in ("gate", "up"))))
        c.take(mlp + "experts.down_proj_bias", block + "ffn_down_exps.bias")
    return config, c


def delta_net_config(g):
    interval = g["full_attention_interval"]
    return {
        "head_dim": g["attention.key_length"], "attention_bias": False,
        "partial_rotary_factor": g["rope.dimension_count"] / g["attention.key_length"],
        "intermediate_size": g["feed_forward_length"], "moe_intermediate_size": g["expert_feed_forward_length"],
        "shared_expert_intermediate_size": g["expert_shared_feed_forward_length"], "num_experts": g["expert_count"],
        "num_experts_per_tok": g["expert_used_count"], "full_attention_interval": interval,
        "layer_types": ["linear_attention" if (i + 1) % interval else "full_attention"
                        for i in range(g["block_count"])],
        "linear_conv_kernel_dim": g["ssm.conv_kernel"], "linear_key_head_dim": g["ssm.state_size"],
        "linear_num_key_heads": g["ssm.group_count"], "linear_num_value_heads": g["ssm.time_step_rank"],
        "linear_value_head_dim": g["ssm.inner_size"] // g["ssm.time_step_rank"],
    }


def delta_net_parts(g, i):
    """Queries, keys, values and gates by head and element; taps by channel."""
    keys, values, d = g["ssm.group_count"], g["ssm.time_step_rank"], g["ssm.state_size"]
    qkv = g.tensor(f"blk.{i}.attn_qkv.weight")
    width = qkv.shape[-1]
    q, k, v = np.split(qkv, [keys * d, 2 * keys * d])
    z = g.tensor(f"blk.{i}.attn_gate.weight")
    return (q.reshape(keys, d, width), k.reshape(keys, d, width), v.reshape(values, d, width),
            z.reshape(values, d, width))


def gated_attention(c, i):
    """Norms are stored less one."""
    c.attention(i)
    for name in "q_norm", "k_norm":
        c.tensors[f"{c.layer(i)}self_attn.{name}.weight"] = c.tensors[f"{c.layer(i)}self_attn.{name}.weight"] - 1


def qwen3next(g):
    config = common_config(g, "Qwen3NextForCausalLM", "qwen3_next") | delta_net_config(g) | {
        "decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": True, "rope_scaling": None}
    c = Checkpoint(g)
    c.common(norms=1)
    width = g["embedding_length"]
    for i in range(g["block_count"]):
        if f"blk.{i}.ssm_a" in g.infos:
            to = c.layer(i) + "linear_attn."
            q, k, v, z = delta_net_parts(g, i)
            n_key = q.shape[0]
            # Of each key head all that belongs to it.
            joint = np.concatenate([it.reshape(n_key, -1, width) for it in (q, k, v, z)], 1)
            c.put(to + "in_proj_qkvz.weight", joint.reshape(-1, width))
            c.take(to + "in_proj_ba.weight", f"blk.{i}.ssm_ba.weight")
            c.put(to + "conv1d.weight", g.tensor(f"blk.{i}.ssm_conv1d.weight")[:, None, :])
            c.take(to + "dt_bias", f"blk.{i}.ssm_dt.bias")
            c.put(to + "A_log", np.log(-g.tensor(f"blk.{i}.ssm_a")))
            c.take(to + "norm.weight", f"blk.{i}.ssm_norm.weight")
            c.take(to + "out_proj.weight", f"blk.{i}.ssm_out.weight")
        else:
            gated_attention(c, i)
        c.experts(i)
        c.shared_with_gate(i)
    # Layers for speculation, which nothing is made of.
    for name in "mtp.fc.weight", "mtp.layers.0.self_attn.q_proj.weight", "mtp.norm.weight":
        c.put(name, np.ones((2, 2), np.float32))
    return config, c


def qwen35moe(g):
    text = common_config(g, "", "qwen3_5_moe_text") | delta_net_config(g) | {
        "attn_output_gate": True, "mamba_ssm_dtype": "float32", "mtp_num_hidden_layers": 1,
        "rope_parameters": {
            "rope_type": "default", "rope_theta": g["rope.freq_base"], "mrope_interleaved": True,
            "mrope_section": g["rope.dimension_sections"][:3],
            "partial_rotary_factor": g["rope.dimension_count"] / g["attention.key_length"]}}
    for name in "architectures", "rope_theta", "partial_rotary_factor":
        del text[name]
    config = {"architectures": ["Qwen3_5MoeForConditionalGeneration"], "model_type": "qwen3_5_moe",
              "text_config": text, "vision_config": {"depth": 1}, "tie_word_embeddings": False}
    c = Checkpoint(g, "model.language_model.")
    c.common(norms=1)
    width = g["embedding_length"]
    n_key, n_value, d = g["ssm.group_count"], g["ssm.time_step_rank"], g["ssm.state_size"]

    def by_key_head(heads):
        """GGUF has value heads v, v + n_key, ... of key head v; here they stand together."""
        return np.concatenate([heads[key::n_key] for key in range(n_key)])

    for i in range(g["block_count"]):
        if f"blk.{i}.ssm_a" in g.infos:
            to = c.layer(i) + "linear_attn."
            q, k, v, z = delta_net_parts(g, i)
            c.put(to + "in_proj_qkv.weight",
                  np.concatenate([it.reshape(-1, width) for it in (q, k, by_key_head(v))]))
            c.put(to + "in_proj_z.weight", by_key_head(z).reshape(-1, width))
            c.put(to + "in_proj_a.weight", by_key_head(g.tensor(f"blk.{i}.ssm_alpha.weight")))
            c.put(to + "in_proj_b.weight", by_key_head(g.tensor(f"blk.{i}.ssm_beta.weight")))
            taps = g.tensor(f"blk.{i}.ssm_conv1d.weight")
            values = taps[2 * n_key * d:].reshape(n_value, d, -1)
            taps = np.concatenate([taps[:2 * n_key * d], by_key_head(values).reshape(n_value * d, -1)])
            c.put(to + "conv1d.weight", taps[:, None, :])
            c.put(to + "dt_bias", by_key_head(g.tensor(f"blk.{i}.ssm_dt.bias")))
            c.put(to + "A_log", by_key_head(np.log(-g.tensor(f"blk.{i}.ssm_a"))))
            c.take(to + "norm.weight", f"blk.{i}.ssm_norm.weight")
            columns = g.tensor(f"blk.{i}.ssm_out.weight").T.reshape(n_value, d, width)
            c.put(to + "out_proj.weight", by_key_head(columns).reshape(n_value * d, width).T)
        else:
            gated_attention(c, i)
        c.take(f"{c.layer(i)}mlp.gate.weight", f"blk.{i}.ffn_gate_inp.weight")
        c.take(f"{c.layer(i)}mlp.experts.gate_up_proj", f"blk.{i}.ffn_gate_up_exps.weight")
        c.take(f"{c.layer(i)}mlp.experts.down_proj", f"blk.{i}.ffn_down_exps.weight")
        c.shared_with_gate(i)
    for name in "mtp.fc.weight", "model.visual.patch_embed.proj.weight":
        c.put(name, np.ones((2, 2), np.float32))
    return config, c


def minimax_m2(g):
    config = common_config(g, "MiniMaxM2ForCausalLM", "minimax_m2") | {
        "head_dim": g["attention.key_length"], "rotary_dim": g["rope.dimension_count"],
        "intermediate_size": g["expert_feed_forward_length"], "num_local_experts": g["expert_count"],
        "num_experts_per_tok": g["expert_used_count"], "scoring_func": "sigmoid", "use_routing_bias": True,
        "use_qk_norm": True, "qk_norm_type": "per_layer", "shared_intermediate_size": 0, "use_mtp": True,
        "num_mtp_modules": 3, "mtp_transformer_layers": 1, "attn_type_list": [1] * g["block_count"]}
    c = Checkpoint(g)
    c.common()
    for i in range(g["block_count"]):
        c.attention(i)
        c.experts(i, "block_sparse_moe", "w1", "w3", "w2")
        c.take(f"{c.layer(i)}block_sparse_moe.e_score_correction_bias", f"blk.{i}.exp_probs_b.bias")
    return config, c


def olmoe(g):
    config = common_config(g, "OlmoeForCausalLM", "olmoe") | {
        "attention_bias": False, "clip_qkv": None, "intermediate_size": g["feed_forward_length"],
        "num_experts": g["expert_count"], "num_experts_per_tok": g["expert_used_count"], "norm_topk_prob": False,
        "rope_scaling": None}
    c = Checkpoint(g)
    c.common()
    for i in range(g["block_count"]):
        c.attention(i)
        c.experts(i)
    return config, c


FAMILIES = {"glm4moe": glm4moe, "gpt-oss": gpt_oss, "qwen3next": qwen3next, "qwen35moe": qwen35moe,
            "minimax-m2": minimax_m2, "olmoe": olmoe}


def e4m3_values():
    code = np.arange(256)
    exponent, mantissa = (code >> 3 & 15).astype(np.float64), (code & 7) / 8
    value = np.where(exponent == 0, mantissa * 2.0**-6, (1 + mantissa) * 2.0**(exponent - 7))
    value[(code & 127) == 127] = np.nan
    return np.where(code < 128, value, -value)


def to_fp8(c, config, block=128):
    """Attention's and the experts' matrices, with a factor for each block."""
    values = e4m3_values()
    positive = values[:127]
    for name in [n for n in c.tensors if "_proj." in n or ".experts." in n]:
        matrix = c.tensors.pop(name)
        rows, columns = (-(-n // block) for n in matrix.shape)
        scales = np.zeros((rows, columns), np.float32)
        codes = np.zeros(matrix.shape, np.uint8)
        for r in range(rows):
            for s in range(columns):
                at = np.s_[r * block:(r + 1) * block, s * block:(s + 1) * block]
                scales[r, s] = np.abs(matrix[at]).max() / 448
                wanted = matrix[at] / scales[r, s]
                nearest = np.abs(np.abs(wanted)[..., None] - positive).argmin(-1)
                codes[at] = nearest + np.where(wanted < 0, 128, 0)
        c.tensors[name] = ("float8_e4m3fn", codes)
        c.put(name + "_scale_inv", scales)
    config["quantization_config"] = {
        "activation_scheme": "dynamic", "fmt": "float8_e4m3fn", "quant_method": "fp8",
        "weight_block_size": [block, block], "modules_to_not_convert": ["gate", "e_score_correction_bias", "lm_head"]}


def write_tokenizer(g, folder):
    tokens, types = g.keys["tokenizer.ggml.tokens"], g.keys["tokenizer.ggml.token_type"]
    added = [{"id": i, "content": token, "special": kind == 3, "normalized": False}
             for i, (token, kind) in enumerate(zip(tokens, types)) if kind in (3, 4)]
    (folder / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "normalizer": None, "added_tokens": added,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": QWEN2_SPLIT}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}]},
        "post_processor": {"type": "ByteLevel"}, "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "byte_fallback": False, "ignore_merges": False,
                  "vocab": {token: i for i, (token, kind) in enumerate(zip(tokens, types)) if kind == 1},
                  "merges": [merge.split(" ") for merge in g.keys["tokenizer.ggml.merges"]]}}))
    ids = [g.keys[f"tokenizer.ggml.{kind}_token_id"] for kind in ("bos", "eos", "eot")]
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "bos_token": tokens[ids[0]], "eos_token": tokens[ids[1]], "add_bos_token": g.keys["tokenizer.ggml.add_bos_token"],
        "chat_template": g.keys["tokenizer.chat_template"]}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ids[1:]}))


def main():
    g = Gguf(sys.argv[1])
    folder = pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    config, c = FAMILIES[g.arch](g)
    if sys.argv[3:] == ["fp8"]:
        to_fp8(c, config)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    tensors = {}
    for name, it in c.tensors.items():
        kind, array = it if isinstance(it, tuple) else (str(it.dtype), it)
        tensors[name] = {"dtype": kind, "shape": list(array.shape), "data": np.ascontiguousarray(array).tobytes()}
    serialize_file(tensors, str(folder / "model.safetensors"), {"format": "pt"})
    write_tokenizer(g, folder)


if __name__ == "__main__":
    main()
