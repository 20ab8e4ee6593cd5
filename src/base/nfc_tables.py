#!/usr/bin/env python3
"""Writes nfc_tables.h from Python's own copy of Unicode's data:  nfc_tables.py > nfc_tables.h"""
import sys
import unicodedata

HANGUL = range(0xAC00, 0xD7A4)
compositions, others, classes = [], [], []
for code in range(0x110000):
    c = chr(code)
    level = unicodedata.combining(c)
    if level:
        if classes and classes[-1][1] == code - 1 and classes[-1][2] == level:
            classes[-1][1] = code
        else:
            classes.append([code, code, level])
    decomposition = unicodedata.decomposition(c)
    if not decomposition or decomposition.startswith("<") or code in HANGUL:
        continue
    parts = [int(part, 16) for part in decomposition.split()]
    entry = (code, parts[0], parts[1] if len(parts) > 1 else 0)
    (compositions if unicodedata.normalize("NFC", c) == c else others).append(entry)
compositions.sort(key=lambda entry: entry[1:])


def array(kind, name, entries):
    print(f"inline constexpr {kind} {name}[] = {{")
    line = ""
    for entry in entries:
        text = "{" + ",".join(f"0x{value:X}" if i < 2 or kind == "Composition" else str(value)
                              for i, value in enumerate(entry)) + "},"
        if len(line) + len(text) > 108:
            print("  " + line)
            line = ""
        line += text
    print("  " + line)
    print("};")


print(f"""// Made by nfc_tables.py from Unicode {unicodedata.unidata_version}.
// clang-format off
#pragma once

#include <cstdint>

namespace odmoe::nfc {{

struct Composition {{
  uint32_t whole, first, second;  // second 0: it only stands for `first`
}};
struct CombiningClass {{
  uint32_t first, last;  // code points
  uint8_t level;
}};

// What two code points are composed to, by these two.""")
array("Composition", "kCompositions", compositions)
print("// What is decomposed and never composed again, by what it is.")
array("Composition", "kDecompositions", others)
print("// Code points whose combining class is not 0.")
array("CombiningClass", "kClasses", classes)
print("""
}  // namespace odmoe::nfc""")
