#!/usr/bin/env python3
"""Writes unicode_tables.h from Python's own copy of Unicode's data:  unicode_tables.py > unicode_tables.h"""
import unicodedata

PROPERTIES = [
    ("kAlpha", str.isalpha),
    ("kDecimal", str.isdecimal),
    ("kDigit", str.isdigit),
    ("kNumeric", str.isnumeric),
    ("kPrintable", str.isprintable),
    ("kSpace", str.isspace),
    ("kUpper", str.isupper),
    ("kLower", str.islower),
    ("kTitle", lambda c: c.istitle() and not c.isupper()),
    ("kIdStart", str.isidentifier),
    ("kIdContinue", lambda c: ("a" + c).isidentifier()),
    ("kLineEnd", lambda c: len(("a" + c + "a").splitlines()) == 2),
    # Passed over where it is asked whether a sigma ends a word.
    ("kCaseIgnorable", lambda c: ("A" + c + "Σ").lower()[-1] == "ς" and ("." + c + "Σ").lower()[-1] == "σ"),
]
CODES = [code for code in range(0x80, 0x110000) if not 0xD800 <= code <= 0xDFFF]


def emit(kind, name, entries):
    print(f"inline constexpr {kind} {name}[] = {{")
    line = ""
    for entry in entries:
        if len(line) + len(entry) > 108:
            print("  " + line)
            line = ""
        line += entry + ","
    print("  " + line)
    print("};")


def properties():
    ranges = []
    for code in range(0x110000):
        c = chr(code)
        mask = 0
        if not 0xD800 <= code <= 0xDFFF:
            for bit, (_, test) in enumerate(PROPERTIES):
                mask |= bool(test(c)) << bit
        if not mask:
            continue
        if ranges and ranges[-1][1] == code - 1 and ranges[-1][2] == mask:
            ranges[-1][1] = code
        else:
            ranges.append([code, code, mask])
    return ["{0x%X,0x%X,0x%X}" % tuple(entry) for entry in ranges]


def mappings(name, function):
    """Code points above ASCII that become another: runs of every or every other one, and those that become several."""
    runs, several = [], []
    for code in CODES:
        mapped = function(chr(code))
        if mapped == chr(code):
            continue
        if len(mapped) > 1:
            several.append("{0x%X,\"%s\"}" % (code, "".join("\\x%02x" % byte for byte in mapped.encode())))
            continue
        delta = ord(mapped) - code
        if runs and runs[-1][3] == delta:
            first, last, step, _ = runs[-1]
            if code - last == (step or code - last) and code - last in (1, 2):
                runs[-1][1:3] = [code, code - last]
                continue
        runs.append([code, code, 0, delta])
    emit("CaseRun", f"k{name}Runs", ["{0x%X,0x%X,%d,%d}" % (f, l, s or 1, d) for f, l, s, d in runs])
    emit("CaseWord", f"k{name}Words", several)


print(f"""// Made by unicode_tables.py from Unicode {unicodedata.unidata_version}.
// clang-format off
#pragma once

#include <cstdint>

namespace odmoe::jinja {{

struct PropertyRange {{
  uint32_t first, last;  // code points
  uint16_t mask;         // 1 << Property
}};
// Every `step`-th code point of a range becomes another.
struct CaseRun {{
  uint32_t first, last;
  uint8_t step;
  int32_t delta;
}};
struct CaseWord {{
  uint32_t code_point;
  const char* becomes;  // UTF-8
}};
enum Property : uint8_t {{ {", ".join(name for name, _ in PROPERTIES)} }};
""")
emit("PropertyRange", "kProperties", properties())
print("// What is not ASCII and changes.")
mappings("Upper", str.upper)
mappings("Lower", lambda c: c.lower())
mappings("Title", str.title)
mappings("Fold", str.casefold)
print("""
}  // namespace odmoe::jinja""")
