#!/usr/bin/env python3
"""Renders conversations with the chat templates of tests/data/templates, as transformers does: what the C++
rendering must equal is written beside them, to goldens.json.

    render_templates.py tests/data/templates        (needs python3-jinja2)

BOS is rendered as nothing: the tokenizer adds it.  Where the templates are from: demo is that of the bundled
models; qwen2, qwen2.5, qwen3, kimi-k2*, deepseek-v2, -r1, -r1-0528 and -v3 are the published ones, without the
tool calls where they are long (r1-0528); deepseek-v3.1 and -v3.2 are llama.cpp's versions, -v3.1-original has
the published marker; kimi-k2.5 is kimi-k2-thinking with the published changes: no default system prompt, and
the answer begins inside <think>.
"""

import datetime
import json
import pathlib
import sys

from jinja2.sandbox import SandboxedEnvironment

EOS = {"deepseek": "<｜end▁of▁sentence｜>", "kimi": "[EOS]", "qwen": "<|im_end|>", "demo": "<|endoftext|>"}


def say(*turns):
    return [{"role": role, "content": content} for role, content in turns]


CONVERSATIONS = [
    say(("user", "Hello")),
    say(("system", "Be brief."), ("user", "Hello")),
    say(("user", "Hello"), ("assistant", "Hi there.")),
    say(("user", "Hello"), ("assistant", "Hi there."), ("user", "Who are you?")),
    say(("system", "Be brief."), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")),
    say(("system", "First."), ("user", "a"), ("system", "Second."), ("user", "b")),
    say(("user", "a"), ("assistant", "<think>\nhm, </think> no\n</think>\n\nb\n"), ("user", "c")),
    say(("user", "a"), ("assistant", "<think>\nhm\n</think>\n\nb")),
    say(("user", "a"), ("assistant", "  spaces\n\n"), ("user", "\n around \n")),
    say(("user", "a"), ("user", "b"), ("assistant", "c"), ("assistant", "d")),
    say(("user", "it's \"quoted\" {{ not jinja }} <|im_end|> 人工智能 🚀"), ("assistant", ""), ("user", "")),
    say(("assistant", "I begin."), ("user", "a")),
    say(("system", "Alone.")),
    say(("user", "a"), ("assistant", "b"), ("user", "<tool_response>x</tool_response>")),
    say(("user", "a"), ("assistant", "<think>x</think>b"), ("user", "<tool_response>x</tool_response>"), ("assistant", "c")),
]

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather \u2014 \"now\", in <b>a place</b>.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 1}, "units": {"enum": ["C", "F", None]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}


def call(name, id, **arguments):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calling(content, *calls, **more):
    return {"role": "assistant", "content": content, "tool_calls": list(calls), **more}


def result(id, content, **more):
    return {"role": "tool", "tool_call_id": id, "content": content, **more}


ASK = {"role": "user", "content": "Weather in K\u00f6ln?"}
ONE = calling("", call("get_weather", "call_1", city="K\u00f6ln", days=2))
TWO = calling(
    "Let me look.",
    call("get_weather", "call_1", city='"quoted"\n', days=-1.5, deep={"a": [1, True, None], "b": {}}),
    call("clock", "call_2"),
)
TOOL_CONVERSATIONS = [
    [ASK],
    [{"role": "system", "content": "Be brief."}, ASK],
    [ASK, ONE],
    [ASK, ONE, result("call_1", '{"t": 3}')],
    [{"role": "system", "content": "Be brief."}, ASK, TWO, result("call_1", "3 degrees"), result("call_2", "noon")],
    [ASK, TWO, result("call_1", "3"), result("call_2", "4"), {"role": "assistant", "content": "Cold."}, ASK, ONE,
     result("call_1", "5"), {"role": "assistant", "content": "Warmer."}, {"role": "user", "content": "Thanks"}],
    [ASK, calling("", call("get_weather", "c", city="x"), reasoning_content="I must look."), result("c", "y")],
    [ASK, {"role": "assistant", "content": "Why?", "reasoning_content": "Odd."}, ASK,
     calling("Hm.", call("clock", "d"), reasoning_content="Again."), result("d", "z"),
     {"role": "assistant", "content": "So.", "reasoning_content": "Done."}],
]
# Those that have words for tools.
TOOL_TEMPLATES = ["qwen2.5", "qwen3", "kimi-k2", "kimi-k2-instruct", "kimi-k2-thinking", "deepseek-v3.1",
                  "deepseek-v3.1-original", "deepseek-v3.2"]
# Where a template leaves the tools to the system prompt, only the calls and their results can be compared.
DECLARES = ["qwen2.5", "qwen3", "kimi-k2", "kimi-k2-instruct", "kimi-k2-thinking", "deepseek-v3.2"]
THINKING = {"qwen3": "enable_thinking", "deepseek-v3.1": "thinking", "deepseek-v3.1-original": "thinking",
            "deepseek-v3.2": "thinking", "kimi-k2.5": "thinking"}


def main():
    folder = pathlib.Path(sys.argv[1])
    environment = SandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda x, **_: json.dumps(x, ensure_ascii=False)
    environment.filters["from_json"] = json.loads
    environment.globals["strftime_now"] = lambda f: datetime.datetime(2025, 1, 1).strftime(f)
    goldens = []
    for path in sorted(folder.glob("*.jinja")):
        eos = next(text for family, text in EOS.items() if path.name.startswith(family))
        template = environment.from_string(path.read_text(encoding="utf-8"))
        for messages in CONVERSATIONS:
            for add in (False, True):
                text = template.render(messages=messages, add_generation_prompt=add, bos_token="", eos_token=eos)
                goldens.append(
                    {"template": path.name, "messages": messages, "add_generation_prompt": add, "text": text}
                )
        name = path.stem
        cases = []
        if name in TOOL_TEMPLATES:
            for messages in TOOL_CONVERSATIONS:
                for tools in ([], [WEATHER], [WEATHER, CLOCK]) if name in DECLARES else ([],):
                    cases.append((messages, tools, None))
        if name in THINKING:
            for messages in CONVERSATIONS[:8] + (TOOL_CONVERSATIONS if name in TOOL_TEMPLATES else []):
                cases += [(messages, [], False), (messages, [], True)]
        for messages, tools, thinking in cases:
            for add in (False, True):
                more = {} if thinking is None else {THINKING[name]: thinking}
                text = template.render(messages=messages, tools=tools, add_generation_prompt=add, bos_token="",
                                       eos_token=eos, **more)
                golden = {"template": path.name, "messages": messages, "add_generation_prompt": add, "text": text}
                if tools:
                    golden["tools"] = tools
                if thinking is not None:
                    golden["thinking"] = thinking
                goldens.append(golden)
    lines = ",\n".join(json.dumps(golden, ensure_ascii=True) for golden in goldens)
    (folder / "goldens.json").write_text(f"[\n{lines}\n]\n")


main()
