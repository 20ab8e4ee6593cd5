"""What transformers makes of the checkpoints of hf_from_gguf.py, beside llama.cpp's logits of the GGUFs they are made of.

    hf_families_peer.py SHARED CHECKPOINTS NAME...        needs torch, transformers 5, safetensors

SHARED is the reference data, CHECKPOINTS a folder with one of hf_from_gguf.py for each NAME: glm4moe.F32, glm4moe-355b.F32,
minimax-m2.F32, olmoe.F32, qwen35moe.F32, qwen3next.F32.  Fails where the relative L2 is above the tolerance.  So these
checkpoints are what Hugging Face has, and not what a converter takes for it.  Of gpt-oss.MXFP4 transformers' own reading of the
experts is compared with the GGUF's numbers: kernels that round leave logits little to say.
"""
import json
import pathlib
import sys

import numpy as np
import torch
import transformers
from safetensors.torch import load_file

from hf_from_gguf import Gguf

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def load(folder):
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    if "text_config" in config:
        text = transformers.Qwen3_5MoeTextConfig(**config["text_config"])
        model = transformers.Qwen3_5MoeForCausalLM(text)
        tensors = {name.replace("model.language_model.", "model."): it for name, it in tensors.items()}
        missing, _ = model.load_state_dict(tensors, strict=False)
        assert not missing, missing
        return model.float().eval()
    kind = getattr(transformers, config["architectures"][0])
    changes = {}
    if "rotary_dim" in config:  # which the model's own code reads, and transformers does not
        changes["partial_rotary_factor"] = config["rotary_dim"] / config["head_dim"]
    own = kind.config_class.from_pretrained(folder, **changes)
    if changes:
        own.rope_parameters["partial_rotary_factor"] = changes["partial_rotary_factor"]
    return kind.from_pretrained(folder, config=own, dtype=torch.float32, attn_implementation="eager").eval()


def logits_agree(shared, folder, name):
    reference = json.loads((shared / "models/families/reference.json").read_text())
    entry, model, good = reference["files"][name], load(folder), True
    for prompt in "short", "long":
        with torch.no_grad():
            found = model(torch.tensor([reference["prompts"][prompt]["tokens"]])).logits[0].numpy()
        positions = entry[prompt]["positions"]
        wanted = np.fromfile(shared / "models/families" / entry[prompt]["logits"], "<f4").reshape(len(positions), -1)
        errors = np.linalg.norm(found[positions] - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
        print(f"{name} {prompt}: relative L2 {np.median(errors):.1e} median, {errors.max():.1e} worst")
        good = good and np.median(errors) <= entry["tolerance"]["median"] and errors.max() <= entry["tolerance"]["worst"]
    return good


def experts_agree(shared, folder, name):
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors
    gguf, tensors = Gguf(shared / f"models/families/{name}.gguf"), load_file(folder / "model.safetensors")

    def read(layer, projection):
        start = f"model.layers.{layer}.mlp.experts.{projection}_"
        made = convert_moe_packed_tensors(tensors[start + "blocks"], tensors[start + "scales"], dtype=torch.float32)
        return made.numpy().transpose(0, 2, 1)

    def wanted(layer, projection):
        scales, codes = gguf.mxfp4(f"blk.{layer}.ffn_{projection}_exps.weight")
        values = E2M1[codes] * np.exp2(scales.astype(np.float32) - 127)[..., None]
        return values.reshape(*values.shape[:-2], -1)

    good = True
    for layer in range(gguf["block_count"]):
        both = read(layer, "gate_up_proj")
        for found, projection in (both[:, ::2], "gate"), (both[:, 1::2], "up"), (read(layer, "down_proj"), "down"):
            good = good and np.array_equal(found, wanted(layer, projection))
    print(f"{name}: the experts are {'the same' if good else 'others'}")
    return good


def main():
    shared, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    good = True
    for name in sys.argv[3:]:
        check = experts_agree if name.endswith("MXFP4") else logits_agree
        good = check(shared, folder / name, name) and good
    sys.exit(not good)


if __name__ == "__main__":
    main()
