"""Reads an expert directory with the reference implementation of safetensors, for convert_test.cc.

    read_expert_directory.py DIR    compares what the package sees with what model.json says; prints how many
                                    projections there were and how many dense tensors
"""
import json
import pathlib
import sys

from safetensors import deserialize, safe_open


def tensors_of(path):
    with safe_open(path, framework="numpy") as file:  # as tools open it
        names, metadata = set(file.keys()), file.metadata()
    found = {name: it for name, it in deserialize(path.read_bytes())}
    assert names == set(found), path
    for name in names:
        assert name.startswith("padding") or f"ggml:{name}" in metadata, (path, name)
    return found


def main(root):
    model = json.loads((root / "model.json").read_text())
    n_projection = 0
    for layer in model["layers"]:
        number, packed = layer["layer"], model["layout"] == "packed"
        for expert in range(len(layer["xxh3"]["down"])):
            name = f"layer_{number:02}.experts" if packed else f"layer_{number:02}_expert_{expert:03}.safetensors"
            path = root / "experts" / name
            if not packed or expert == 0:
                tensors, raw = tensors_of(path), path.read_bytes()
            begin = layer["first_offset"] + expert * layer["stride"]
            assert begin % model["page_bytes"] == 0
            assert layer["slices"][-1]["offset"] % model["page_bytes"] == 0
            for part in layer["slices"]:
                tensor = tensors[part["tensor"].removesuffix("weight") + f"{expert}.weight"]
                at = begin + part["offset"]
                assert bytes(tensor["data"]) == raw[at:at + part["bytes"]], (path, part)
                assert tensor["shape"][0] == part["ne"][1]
                n_projection += 1
    n_dense = sum(len(tensors_of(root / file["path"])) for file in model["files"]
                  if file["path"].endswith(".safetensors"))
    print(n_projection, n_dense)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
