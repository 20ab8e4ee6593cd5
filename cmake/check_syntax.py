#!/usr/bin/env python3
"""Has Clang read sources without building them, and shows their errors and what does not hold to base/mutex.h.

    check_syntax.py BUILD PATH...

BUILD has a compile_commands.json; its sources that are or lie below one of the PATHs, or of the same folders in BUILD,
where CMake puts those that include others (CMAKE_UNITY_BUILD), are read, several at once.  Exit code 1, after all have
been read, where a source has an error.  What the build makes and has not made yet is passed over; precompiled headers
must have been made.
"""
import concurrent.futures
import json
import os
import pathlib
import shlex
import subprocess
import sys


def read(entry):
    command = [*shlex.split(entry["command"]), "-fsyntax-only", "-Wno-everything", "-Werror=thread-safety"]
    done = subprocess.run(command, cwd=entry["directory"], capture_output=True, text=True)
    return done.returncode, done.stderr


def main():
    build, *paths = sys.argv[1:]
    paths = [pathlib.Path(root, path).resolve() for path in paths for root in (".", build)]
    entries = json.loads(pathlib.Path(build, "compile_commands.json").read_text())
    entries = [entry for entry in entries
               if os.path.exists(entry["file"]) and any(pathlib.Path(entry["file"]).resolve().is_relative_to(path) for path in paths)]
    if not entries:
        sys.exit(f"{build}/compile_commands.json has no source in {', '.join(map(str, paths))}")
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()) as pool:
        for code, said in pool.map(read, entries):
            failed += code != 0
            sys.stderr.write(said)
    print(f"{len(entries)} sources read, {failed} with errors")
    sys.exit(failed > 0)


main()
