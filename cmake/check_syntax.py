#!/usr/bin/env python3
"""Has Clang read sources without building them, and shows their errors and what does not hold to base/mutex.h.

    check_syntax.py [--darwin HEADERS] BUILD PATH...

With --darwin as for macOS on Apple silicon: HEADERS has macOS' own as Zig has them, by system; libc++ is this machine's, and of what is
in /usr/include only what belongs to the libraries that are used.

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


# Packages whose headers are used, by what begins their names.
LIBRARIES = ("libggml", "libspdlog", "libfmt", "nlohmann", "libcli11", "libftxui", "prometheus-cpp", "libcpp-httplib", "libssl", "libcurl4", "libedit",
             "libxxhash", "libpcre2", "liblzma", "zlib1g", "libbrotli", "libzstd", "libopenmpi", "libbsd")
TARGET = "arm64-apple-macos14"


def library_headers(folder):
    """A folder of links to the libraries' headers, without those of the C library of this machine."""
    listed = subprocess.run(["dpkg-query", "-W", "-f", "${Package}\\n"], capture_output=True, text=True, check=True).stdout.split()
    packages = [name for name in listed if name.startswith(LIBRARIES) and name.endswith("-dev")]
    files = subprocess.run(["dpkg-query", "-L", *packages], capture_output=True, text=True, check=True).stdout.split()
    for file in files:
        path = pathlib.Path(file)
        if not file.startswith("/usr/include/") or not path.is_file():
            continue
        inner = path.relative_to("/usr/include")
        if inner.parts[0].endswith("-linux-gnu"):
            inner = pathlib.Path(*inner.parts[1:])
        link = folder / inner
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(path)
    return folder


def darwin_flags(clang, headers, build):
    def said(*words):
        return subprocess.run([clang, *words], capture_output=True, text=True, check=True).stdout.strip()
    resources = pathlib.Path(said("-print-resource-dir"))
    libcxx = resources.parents[2] / "include/c++/v1"  # of /usr/lib/llvm-19/lib/clang/19
    folders = [libcxx, resources / "include", library_headers(pathlib.Path(build, "library_headers")),
               *sorted(pathlib.Path(headers).glob("aarch64-macos.13*")), pathlib.Path(headers, "any-macos.13-any"), pathlib.Path(headers, "any-macos-any")]
    flags = [f"--target={TARGET}", "-nostdinc", "-nostdinc++"]
    for folder in folders:
        flags += ["-isystem", str(folder)]
    return flags


def for_darwin(command, flags):
    """The command without what looks at this machine's headers."""
    kept, words = [], iter(command)
    for word in words:
        if word in ("-isystem", "-I") or word.startswith(("-I/usr", "-isystem/usr")):
            folder = next(words) if word in ("-isystem", "-I") else None
            if folder is not None and not folder.startswith("/usr"):
                kept += [word, folder]
        # Homebrew's cpp-httplib comes without what Debian's asks for.
        elif word not in ("-stdlib=libc++", "-fPIE") and not word.startswith(("-march", "-DCPPHTTPLIB_")):
            kept.append(word)
    return [*kept, *flags]


def read(entry, flags):
    command = [*shlex.split(entry["command"]), "-fsyntax-only", "-Wno-everything", "-Werror=thread-safety"]
    if flags:
        command = for_darwin(command, flags)
    done = subprocess.run(command, cwd=entry["directory"], capture_output=True, text=True)
    return done.returncode, done.stderr


def main():
    headers = sys.argv[2] if sys.argv[1] == "--darwin" else None
    build, *paths = sys.argv[3:] if headers else sys.argv[1:]
    paths = [pathlib.Path(root, path).resolve() for path in paths for root in (".", build)]
    entries = json.loads(pathlib.Path(build, "compile_commands.json").read_text())
    entries = [entry for entry in entries
               if os.path.exists(entry["file"]) and any(pathlib.Path(entry["file"]).resolve().is_relative_to(path) for path in paths)]
    if not entries:
        sys.exit(f"{build}/compile_commands.json has no source in {', '.join(map(str, paths))}")
    flags = darwin_flags(shlex.split(entries[0]["command"])[0], pathlib.Path(headers).resolve(), pathlib.Path(build).resolve()) if headers else []
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()) as pool:
        for code, said in pool.map(lambda entry: read(entry, flags), entries):
            failed += code != 0
            sys.stderr.write(said)
    print(f"{len(entries)} sources read, {failed} with errors")
    sys.exit(failed > 0)


main()
