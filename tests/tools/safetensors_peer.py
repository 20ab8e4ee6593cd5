"""Reads and writes safetensors files with the reference implementation, for safetensors_peer_test.cc.

    safetensors_peer.py write FILE    three tensors that the test knows, and metadata
    safetensors_peer.py list FILE     per tensor: NAME DTYPE SHAPE SHA256, then KEY=VALUE, as the package sees them
"""
import hashlib
import sys

from safetensors import deserialize, safe_open, serialize_file


def write(path):
    tensors = {
        "b": {"dtype": "float32", "shape": [2, 3], "data": bytes(range(24))},
        "a.weight": {"dtype": "bfloat16", "shape": [5], "data": bytes(range(100, 110))},
        "empty": {"dtype": "uint8", "shape": [0, 7], "data": b""},
    }
    serialize_file(tensors, path, {"format": "pt", "quote": 'a "b"'})


def list_file(path):
    with open(path, "rb") as file:
        tensors = deserialize(file.read())
    for name, it in sorted(tensors, key=lambda pair: pair[0]):
        shape = ",".join(map(str, it["shape"]))
        print(name, it["dtype"], f"[{shape}]", hashlib.sha256(bytes(it["data"])).hexdigest()[:16])
    with safe_open(path, framework="numpy") as file:
        for key, value in sorted((file.metadata() or {}).items()):
            print(f"{key}={value}")


if __name__ == "__main__":
    {"write": write, "list": list_file}[sys.argv[1]](sys.argv[2])
