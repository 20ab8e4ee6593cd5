"""Makes the checkpoints in tests/data/hf: tiny random models saved by transformers, with its own logits.

    make_hf_models.py TOKENIZER_JSON OUT        needs torch, transformers, safetensors

Per model a folder with config.json, safetensors (in two shards with an index for one of them), tokenizer.json,
tokenizer_config.json, and reference.json: tokens and, in logits.f32, the float32 logits of the last of them.
The variants in fp8, int4 and MLX's form are the same weights quantised here by plain arithmetic, and their
logits are those of transformers with the dequantised weights: what a reader must arrive at.
"""
import json
import pathlib
import shutil
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (
    DeepseekV2Config, DeepseekV2ForCausalLM, DeepseekV3Config, DeepseekV3ForCausalLM, Qwen2MoeConfig,
    Qwen2MoeForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM)

TOKENS = [5, 17, 250, 3, 99, 1, 200, 42, 7, 180, 64, 31, 255, 12, 77, 150]
N_VOCAB = 320  # the 256 bytes, some merges, some rows without a token


def small_tokenizer(path):
    """The first merges of the demo vocabulary, so that it is a few KB."""
    tokenizer = json.loads(pathlib.Path(path).read_text())
    model = tokenizer["model"]
    keep = 300
    kept = {text: i for text, i in model["vocab"].items() if i < keep}
    model["merges"] = [m for m in model["merges"] if "".join(m) in kept and all(part in kept for part in m)]
    model["vocab"] = kept
    for i, token in enumerate(tokenizer["added_tokens"]):
        token["id"] = keep + i
    return tokenizer


def randomise(model):
    torch.manual_seed(1)
    for name, p in model.named_parameters():
        if "norm" in name:
            p.data = 1 + 0.1 * torch.randn_like(p)
        else:
            p.data = torch.randn_like(p) * (p.shape[-1] ** -0.5 if p.dim() > 1 else 0.1)
    for name, b in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            b.data = 0.1 * torch.randn_like(b)


def logits_of(model):
    with torch.no_grad():
        return model.float().eval()(torch.tensor([TOKENS])).logits[0, -1].numpy()


def write_side_files(folder, logits, tokenizer):
    (folder / "generation_config.json").unlink(missing_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "bos_token": None, "eos_token": {"content": "<|endoftext|>"}, "add_bos_token": False,
        "chat_template": "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"}))
    logits.astype("<f4").tofile(folder / "logits.f32")
    (folder / "reference.json").write_text(json.dumps({
        "tokens": TOKENS, "by": f"transformers {transformers.__version__}, float32"}))


def save(model, folder, tokenizer, dtype=torch.bfloat16, shard="1GB"):
    if folder.exists():
        shutil.rmtree(folder)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    # Read again: the conversion has rounded RoPE's frequencies too, which no checkpoint holds.
    write_side_files(folder, logits_of(type(model).from_pretrained(folder, dtype=torch.float32)), tokenizer)


DEEPSEEK = dict(
    vocab_size=N_VOCAB, hidden_size=64, intermediate_size=96, moe_intermediate_size=32, num_hidden_layers=3,
    num_attention_heads=2, num_key_value_heads=2, n_shared_experts=1, n_routed_experts=8, num_experts_per_tok=2,
    kv_lora_rank=32, q_lora_rank=32, qk_rope_head_dim=16, qk_nope_head_dim=32, v_head_dim=32,
    first_k_dense_replace=1, max_position_embeddings=256, rope_theta=10000.0)
YARN = dict(rope_type="yarn", type="yarn", factor=40.0, beta_fast=32.0, beta_slow=1.0, mscale=1.0,
            mscale_all_dim=1.0, original_max_position_embeddings=64)
QWEN = dict(
    vocab_size=N_VOCAB, hidden_size=64, intermediate_size=96, moe_intermediate_size=32, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, num_experts=8, num_experts_per_tok=2, rope_theta=1000000.0,
    max_position_embeddings=256)


def deepseek_v3(**more):
    config = DeepseekV3Config(**(DEEPSEEK | dict(n_group=4, topk_group=2, routed_scaling_factor=2.5,
                                                 rope_scaling=dict(YARN)) | more))
    model = DeepseekV3ForCausalLM(config)
    randomise(model)
    return model


# ------------------------------------------------------------- quantised variants


def fp8(weight, block=128):
    """DeepSeek-V3's: E4M3 with a factor per block of 128 x 128."""
    rows, columns = weight.shape
    scale = torch.zeros((rows + block - 1) // block, (columns + block - 1) // block)
    codes = torch.zeros(weight.shape, dtype=torch.float8_e4m3fn)
    for i in range(scale.shape[0]):
        for j in range(scale.shape[1]):
            at = (slice(i * block, (i + 1) * block), slice(j * block, (j + 1) * block))
            scale[i, j] = weight[at].abs().max() / 448
            codes[at] = (weight[at] / scale[i, j]).to(torch.float8_e4m3fn)
    wide = scale.repeat_interleave(block, 0).repeat_interleave(block, 1)[:rows, :columns]
    return {"weight": codes, "weight_scale_inv": scale}, codes.float() * wide


def int4(weight, group=32):
    """compressed-tensors pack-quantized: symmetric, bfloat16 scales, eight codes to an int32."""
    rows, columns = weight.shape
    grouped = weight.reshape(rows, columns // group, group)
    scale = (grouped.abs().amax(-1) / 7.5).bfloat16()
    codes = (grouped / scale.float()[..., None]).round().clamp(-8, 7)
    value = (codes * scale.float()[..., None]).reshape(rows, columns)
    unsigned = (codes.reshape(rows, columns // 8, 8) + 8).to(torch.int64)
    packed = (unsigned << (4 * torch.arange(8))).sum(-1)
    packed = torch.where(packed >= 2**31, packed - 2**32, packed).to(torch.int32)
    return {"weight_packed": packed, "weight_scale": scale,
            "weight_shape": torch.tensor([rows, columns], dtype=torch.int32)}, value


def mlx(weight, bits, group=32):
    """MLX's affine form: scale * code + bias, codes in a stream with the lowest bits first."""
    shape = weight.shape
    grouped = weight.reshape(*shape[:-1], shape[-1] // group, group)
    low, high = grouped.amin(-1), grouped.amax(-1)
    scale = ((high - low) / (2**bits - 1)).half()
    bias = low.half()
    codes = ((grouped - bias.float()[..., None]) / scale.float()[..., None]).round().clamp(0, 2**bits - 1)
    value = (codes * scale.float()[..., None] + bias.float()[..., None]).reshape(shape)
    stream = ((codes.reshape(-1, shape[-1], 1).to(torch.int64) >> torch.arange(bits)) & 1).reshape(-1, shape[-1] * bits)
    words = (stream.reshape(stream.shape[0], -1, 32) << torch.arange(32)).sum(-1)
    words = words.to(torch.uint32).reshape(*shape[:-1], shape[-1] * bits // 32)
    return {"weight": words, "scales": scale, "biases": bias}, value


def quantised(source, folder, tokenizer, model_class, quantise, config_change, rename=lambda name: name):
    """A copy of a saved model in which `quantise` has replaced what it wants."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    tensors = load_file(source / "model.safetensors")
    stored, plain = {}, {}
    for name, tensor in tensors.items():
        made = quantise(name, tensor.float())
        if made is None:
            stored[rename(name)] = plain[name] = tensor
            continue
        parts, plain[name] = made
        for suffix, part in parts.items():
            stored[rename(name).removesuffix("weight") + suffix] = part.contiguous()
    work = folder / "plain"
    work.mkdir()
    save_file(plain, work / "model.safetensors", {"format": "pt"})
    shutil.copy(source / "config.json", work)
    logits = logits_of(model_class.from_pretrained(work, dtype=torch.float32))
    shutil.rmtree(work)
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    config_change(config)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    write_side_files(folder, logits, tokenizer)


def make_quantised(out, tokenizer):
    source = out / "deepseek-v3"

    def kimi(config):
        text = dict(config)
        text["quantization_config"] = {
            "quant_method": "compressed-tensors", "format": "pack-quantized",
            "config_groups": {"group_0": {"weights": {
                "num_bits": 4, "group_size": 32, "symmetric": True, "type": "int", "strategy": "group",
                "actorder": None}}}}
        config.clear()
        config.update({"architectures": ["KimiK25ForConditionalGeneration"], "model_type": "kimi_k25",
                       "text_config": text, "tie_word_embeddings": False})

    quantised(source, out / "deepseek-v3-fp8", tokenizer, DeepseekV3ForCausalLM,
              lambda name, w: fp8(w) if name.endswith("_proj.weight") or "kv_a_proj" in name else None,
              lambda c: c.update(quantization_config={
                  "quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128],
                  "activation_scheme": "dynamic"}))
    quantised(source, out / "kimi-k2.5-int4", tokenizer, DeepseekV3ForCausalLM,
              lambda name, w: int4(w) if ".experts." in name else None, kimi, lambda name: "language_model." + name)

    make_mlx(out, tokenizer)


def make_mlx(out, tokenizer):
    # Four bits, but five for the attention, six for the head and three for down projections.
    def bits_of(name):
        return 5 if ".self_attn." in name else 6 if name.startswith("lm_head") else 3 if "down_proj" in name else 4

    def wanted(name):
        return name.endswith("_proj.weight") or "lm_head" in name

    source, folder = out / "qwen3moe", out / "qwen3moe-mlx"
    merged = load_file(source / "model.safetensors")
    names = [n.removesuffix(".weight") for n in merged if wanted(n) and ".experts." not in n]
    names += [n.removesuffix(".weight") for n in stacks_of(merged)]
    common = {"group_size": 32, "bits": 4, "mode": "affine"}
    config = common | {n: {"bits": bits_of(n), "group_size": 32} for n in names if bits_of(n) != 4}
    quantised(source, folder, tokenizer, Qwen3MoeForCausalLM,
              lambda name, w: mlx(w, bits_of(name)) if wanted(name) else None,
              lambda c: c.update(quantization=config, quantization_config=config))
    stack_experts(folder)

    # mlx-lm has kv_b in two parts, one matrix per head: nope -> kv_lora and kv_lora -> value.
    source, folder = out / "deepseek-v3", out / "deepseek-v3-mlx"
    heads, nope, value, lora = (DEEPSEEK[k] for k in
                                ("num_attention_heads", "qk_nope_head_dim", "v_head_dim", "kv_lora_rank"))

    def split_kv_b(name, weight):
        if "kv_b_proj" not in name:
            return mlx(weight, 4) if wanted(name) else None
        per_head = weight.reshape(heads, nope + value, lora)
        keys, keys_value = mlx(per_head[:, :nope].transpose(1, 2).contiguous(), 8)
        values, values_value = mlx(per_head[:, nope:].contiguous(), 8)
        parts = {f"embed_q.{k}": v for k, v in keys.items()} | {f"unembed_out.{k}": v for k, v in values.items()}
        return parts, torch.cat([keys_value.transpose(1, 2), values_value], 1).reshape(weight.shape)

    quantised(source, folder, tokenizer, DeepseekV3ForCausalLM, split_kv_b,
              lambda c: c.update(quantization=common, quantization_config=common),
              lambda name: name.replace("kv_b_proj.weight", "weight"))
    stack_experts(folder)


def stacks_of(tensors):
    """MLX's name of each stack of experts -> its parts' names in order."""
    stacks = {}
    for name in [n for n in tensors if ".experts." in n]:
        before, after = name.split(".experts.")
        number, rest = after.split(".", 1)
        stacks.setdefault(f"{before}.switch_mlp.{rest}", {})[int(number)] = name
    return {stack: [parts[i] for i in range(len(parts))] for stack, parts in stacks.items()}


def stack_experts(folder):
    stored = load_file(folder / "model.safetensors")
    for stack, parts in stacks_of(stored).items():
        stored[stack] = torch.stack([stored.pop(n) for n in parts])
    save_file(stored, folder / "model.safetensors", {"format": "mlx"})


def main():
    tokenizer = small_tokenizer(sys.argv[1])
    out = pathlib.Path(sys.argv[2])
    save(deepseek_v3(), out / "deepseek-v3", tokenizer)
    save(deepseek_v3(rope_interleave=False, rope_scaling=None, n_group=1, topk_group=1, num_hidden_layers=2),
         out / "deepseek-v3-halves", tokenizer)
    v2 = DeepseekV2ForCausalLM(DeepseekV2Config(**(DEEPSEEK | dict(
        q_lora_rank=None, n_shared_experts=2, num_hidden_layers=2, topk_method="greedy", norm_topk_prob=False,
        routed_scaling_factor=1.0, n_group=1, topk_group=1))))
    randomise(v2)
    save(v2, out / "deepseek-v2-lite", tokenizer, torch.float16)
    qwen2 = Qwen2MoeForCausalLM(Qwen2MoeConfig(**QWEN, shared_expert_intermediate_size=48, norm_topk_prob=False))
    randomise(qwen2)
    save(qwen2, out / "qwen2moe", tokenizer, shard="150KB")
    qwen3 = Qwen3MoeForCausalLM(Qwen3MoeConfig(**QWEN, head_dim=32, norm_topk_prob=True, tie_word_embeddings=False))
    randomise(qwen3)
    save(qwen3, out / "qwen3moe", tokenizer, torch.float32)
    make_quantised(out, tokenizer)


if __name__ == "__main__":
    main()
