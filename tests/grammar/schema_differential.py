#!/usr/bin/env python3
"""What grammars of JSON schemas allow, against python3-jsonschema.

    schema_differential.py WALK_GRAMMAR [--seed N] [--texts N]

Everything that is written by chance under a schema's grammar must be JSON that the schema allows, and nothing may end
where no byte fits; values that the schema allows must be allowed.  The schemas are schema_cases.py's and, where
ODMOE_SHARED names the folder, those of schemas/generated.json.  Ends with status 77 where jsonschema is not installed.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

try:
    import jsonschema
except ImportError:
    print("python3-jsonschema is not installed: skipped")
    sys.exit(77)

from schema_cases import CASES

# Schemas that no value, or no finite one, is valid under.
IMPOSSIBLE = {
    "other ref self only",
    "other ref cycle",
    "other recursive required (no end)",
    "other allOf two (inheritance)",
    "other required missing props closed",
}
# The validator divides doubles here: 4249.36 is no multiple of 0.01 to it.  And its \\s knows U+0085, which ECMA-262's
# does not.
NOT_COMPARED = {"zod v4 draft7 multipleOf 0.01", "zod v4 openapi multipleOf 0.01", "zod v4 multipleOf 0.01",
                "other pattern \\/"}
MAPS = {"properties", "$defs", "definitions", "patternProperties", "dependentSchemas"}
VALUES = {"enum", "const", "default", "examples", "required"}


def modern(schema):
    """The schema as the validator's draft 2020-12 has it, from drafts 4 and 7, OpenAPI and what others write."""
    if isinstance(schema, list):
        return [modern(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    result = {}
    for key, value in schema.items():
        if value is None and key not in ("const", "default"):
            continue
        if key in MAPS and isinstance(value, dict):
            result[key] = {name: modern(one) for name, one in value.items()}
        elif key == "dependencies":
            for name, one in value.items():
                kind = "dependentRequired" if isinstance(one, list) else "dependentSchemas"
                result.setdefault(kind, {})[name] = modern(one)
        else:
            result[key] = value if key in VALUES else modern(value)
    kind = result.get("type")
    if isinstance(kind, str):
        result["type"] = kind.lower()
        if kind == "any":
            del result["type"]
    for plain, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if result.get(exclusive) is True:
            result[exclusive] = result.pop(plain)
    if isinstance(result.get("items"), list):
        result["prefixItems"] = result.pop("items")
        if "additionalItems" in result:
            result["items"] = result["additionalItems"]
    result.pop("additionalItems", None)
    result.pop("$schema", None)
    if result.get("id") == "x":
        del result["id"]
    if "pattern" in result:
        result["pattern"] = result["pattern"].replace("(?<y>", "(?P<y>").replace("\\p{L}", "[^\\W\\d_]")
    if result.pop("nullable", False):
        result = {"anyOf": [result, {"type": "null"}]}
    return result


def wrong(schema, texts):
    draft = jsonschema.Draft202012Validator
    # jsonschema takes a zero within the number of a relative JSON pointer for one at its beginning.
    formats = jsonschema.FormatChecker([])
    formats.checkers = {f: c for f, c in draft.FORMAT_CHECKER.checkers.items() if f != "relative-json-pointer"}
    validator = draft(modern(schema), format_checker=formats)
    for text in texts:
        if not isinstance(text, str):
            yield f"nothing fits behind {text['stuck_behind'][-200:]!r}"
            continue
        try:
            value = json.loads(text)
        except ValueError as error:
            yield f"{text[:200]!r} is not JSON: {error}"
            continue
        for error in validator.iter_errors(value):
            yield f"{text[:200]!r} is not valid: {error.message[:200]}"
            break


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("walk_grammar")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--texts", type=int, default=12)
    options = parser.parse_args()
    cases = dict(CASES)
    shared = os.environ.get("ODMOE_SHARED")
    generated = pathlib.Path(shared or "", "schemas/generated.json")
    if shared and generated.exists():
        for name, schema in json.loads(generated.read_text()).items():
            cases[name] = (schema, [])
    lines = [json.dumps({"schema": schema, "seed": options.seed, "texts": options.texts, "valid": valid})
             for schema, valid in cases.values()]
    walked = subprocess.run([options.walk_grammar], input="\n".join(lines) + "\n", capture_output=True, text=True,
                            check=True)
    n_wrong = n_text = 0
    for (name, (schema, _)), line in zip(cases.items(), walked.stdout.rstrip("\n").split("\n"), strict=True):
        answer = json.loads(line)
        faults = [f"{json.dumps(value)[:200]} is not allowed" for value in answer.get("refused", [])]
        if ("error" in answer) != (name in IMPOSSIBLE):
            faults.append(answer.get("error", "it was compiled, but nothing is valid under it"))
        texts = answer.get("texts", [])
        n_text += len(texts)
        if name not in NOT_COMPARED:
            faults += list(wrong(schema, texts))[:3]
        for fault in faults:
            print(f"{name}: {fault}")
        n_wrong += len(faults)
    print(f"{len(cases)} schemas, {n_text} texts, {n_wrong} faults")
    return 1 if n_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
