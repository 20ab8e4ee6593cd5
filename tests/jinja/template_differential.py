#!/usr/bin/env python3
"""What generated templates come out as, against python3-jinja2.

    template_differential.py RENDER_TEMPLATE [--seed N] [--templates N] [--show]

Where jinja2 (set up as transformers sets it up) renders a template, RENDER_TEMPLATE must give the same text; where it
raises, RENDER_TEMPLATE must give an error.  Not compared: what needs integers of more than 64 bits or complex numbers,
and how objects print that Python shows with an address.  Ends with status 77 where jinja2 is not installed.
"""

import argparse
import copy
import functools
import json
import random
import subprocess
import sys
import warnings

try:
    import jinja2
    import jinja2.ext
    import jinja2.sandbox
except ImportError:
    print("python3-jinja2 is not installed: skipped")
    sys.exit(77)

from template_cases import VARIABLES, Templates

# What a bounded interpreter may say in place of a text.
NOT_COMPUTED = ("64 bits", "complex numbers", "takes more than", "too much memory", "characters", "2^53")
NO_REFERENCE = (" at 0x", "<bound method", "<built-in", "<class '", "<function ", "<macro ", "<method")


class Generator:
    """What lazy filters give, printed without an address."""

    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return self.items

    def __next__(self):
        return next(self.items)

    def __repr__(self):
        return f"<{type(self.items).__name__} object>"


def lazy(filter_function):
    @functools.wraps(filter_function)
    def wrapped(*args, **kwargs):
        result = filter_function(*args, **kwargs)
        return Generator(result) if hasattr(result, "__next__") else result

    return wrapped


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                       extensions=[jinja2.ext.loopcontrols])

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env.filters["tojson"] = tojson
    for name in ("batch", "items", "map", "reject", "rejectattr", "reverse", "select", "selectattr", "slice", "unique"):
        env.filters[name] = lazy(env.filters[name])
    return env


def reference(env, source):
    """The text, or None where jinja2 raises."""
    try:
        return env.from_string(source).render(**copy.deepcopy(VARIABLES))
    except RecursionError:
        raise
    except Exception:  # whatever Python raises is an error of the template's
        return None


class Evaluates:
    """Whether an expression has a value, with names of loops and the like undefined."""

    def __init__(self, env):
        self.env = env
        self.known = {}

    def __call__(self, expression):
        if expression not in self.known:
            try:
                str(self.env.compile_expression(expression, undefined_to_none=False)(**copy.deepcopy(VARIABLES)))
                self.known[expression] = True
            except RecursionError:
                raise
            except Exception:  # whatever Python raises
                self.known[expression] = False
        return self.known[expression]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--templates", type=int, default=400)
    parser.add_argument("--show", action="store_true", help="show each template that differs")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    env = environment()
    program = subprocess.Popen([options.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    evaluates = Evaluates(env)
    n_text = n_error = n_differ = 0
    for number in range(options.templates):
        source = Templates(random.Random(f"{options.seed}-{number}"), evaluates).template()
        expected = reference(env, source)
        try:
            (expected or "").encode()
        except UnicodeEncodeError:
            continue
        program.stdin.write(json.dumps({"source": source, "variables": VARIABLES}) + "\n")
        program.stdin.flush()
        line = program.stdout.readline()
        if not line:
            print(f"template {number}: the program ended\n{source}")
            return 1
        answer = json.loads(line)
        found = answer.get("text")
        if expected is not None and any(sign in expected.lower() for sign in NO_REFERENCE):
            continue
        if found is None and any(word in answer["error"] for word in NOT_COMPUTED):
            continue
        if found == expected:
            n_text += expected is not None
            n_error += expected is None
            continue
        n_differ += 1
        if n_differ <= 5 or options.show:
            print(f"-- template {number}\n{source}\n-- jinja2\n{expected!r}\n-- here\n{found!r} {answer.get('error', '')}")
            if expected is None:
                try:
                    env.from_string(source).render(**copy.deepcopy(VARIABLES))
                except Exception as error:
                    print(f"-- jinja2 raises {type(error).__name__}: {error}")
    program.stdin.close()
    program.wait()
    print(f"{n_text} texts and {n_error} errors agree, {n_differ} differ")
    # Templates that mostly raise would compare nothing.
    return 1 if n_differ or n_text < options.templates / 4 else 0


sys.exit(main())
