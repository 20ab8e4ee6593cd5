#!/usr/bin/env python3
"""What models say, through the whole server: tiny models whose greedy decoding says a given text.

    puppet_outputs.py ODMOE        (needs ODMOE_SHARED, whose tools/puppet.py makes them)

Ends with status 77 without it.
"""

import http.client
import json
import os
import pathlib
import sys
import tempfile

SHARED = os.environ.get("ODMOE_SHARED", "")
if not SHARED or not (pathlib.Path(SHARED) / "tools" / "puppet.py").exists():
    print("ODMOE_SHARED does not name the folder with tools/puppet.py: skipped")
    sys.exit(77)
sys.path.insert(0, os.path.join(SHARED, "tools"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from puppet import Ctl, puppet
from served import Server, check



def chatml(opened, words):
    """A template that opens an answer with this and has these words in it, by which its format is known."""
    return ("{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
            "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n" + opened + "' }}{%- endif %}"
            "{# " + words + " #}")


TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]}}}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}


class Puppet:
    """A server of a model with these scripts."""

    def __init__(self, odmoe, scripts, **how):
        self.folder = tempfile.TemporaryDirectory()
        path = os.path.join(self.folder.name, "puppet.gguf")
        self.firsts = puppet(path, scripts, **how)
        self.server = Server(odmoe, path, context=4096)

    def __enter__(self):
        self.server.__enter__()
        return self

    def __exit__(self, *what):
        self.server.__exit__(*what)
        self.folder.cleanup()

    def said(self, path, body, status=200, headers=()):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        text = body if isinstance(body, str) else json.dumps(body)
        connection.request("POST", path, text, {"Content-Type": "application/json", **dict(headers)})
        answer = connection.getresponse()
        said = answer.read().decode()
        check(answer.status == status, f"{answer.status} rather than {status}: {said}")
        return said

    def post(self, *request, **more):
        said = self.said(*request, **more)
        return json.loads(said) if said else {}

    def chat(self, script, status=200, **more):
        body = {"messages": [{"role": "user", "content": "Well?"}], "temperature": 0, "max_tokens": 400,
                "logit_bias": {str(self.firsts[script]): 100 if script else 0}, **more}
        answer = self.post("/v1/chat/completions", body, status)
        return answer["choices"][0] if status == 200 else answer["error"]


def call_of(choice):
    calls = choice["message"].get("tool_calls") or []
    check(len(calls) == 1, f"one call: {choice}")
    check(calls[0]["function"]["name"] == "get_weather", f"of get_weather: {choice}")
    return json.loads(calls[0]["function"]["arguments"])


def always_thinking(odmoe):
    call = '{"name": "get_weather", "arguments": {"city": "Rome"}}'
    scripts = [
        ["I think", " so.", "</think>", "\n\n", '{"a"', ":", " ", "1", "}"],
        ["Call", " it.", "</think>", "\n\n", "<tool_call>\n", '{"name": "get_weather", ', '"arguments": ', '{"city"', ":",
         ' "Rome"', "}", "}\n", "</tool_call>"],
        ["Hm.\n", "<tool_call>\n", call.replace("Rome", "</tool_call>"), "\n</tool_call>"],
        ["on "] * 12 + ["</think>", "late"],
        ["No", " tool.", "</think>", "\n\n", "It is 4."],
    ]
    with Puppet(odmoe, scripts, template=chatml("<think>\\n", "<tool_call>")) as model:
        schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
        choice = model.chat(0, response_format=schema)
        check(json.loads(choice["message"]["content"]) == {"a": 1}, f"the JSON is the content: {choice}")
        check(choice["message"]["reasoning_content"] == "I think so.", f"the thought is free: {choice}")
        choice = model.chat(1, tools=TOOLS, tool_choice="required")
        check(call_of(choice) == {"city": "Rome"}, f"the call: {choice}")
        check(choice["message"]["reasoning_content"] == "Call it.", f"the thought is free: {choice}")
        choice = model.chat(2, tools=TOOLS)
        check(call_of(choice) == {"city": "</tool_call>"}, "a call in a thought that does not end")
        check(choice["finish_reason"] == "tool_calls", f"it called: {choice}")
        choice = model.chat(3, thinking_budget=5)
        check(choice["message"]["reasoning_content"] == "on " * 5, f"five tokens of thought: {choice}")
        check(choice["message"]["content"].startswith("on on"), f"then it answers: {choice}")
        choice = model.chat(3, thinking_budget=5, response_format=schema, max_tokens=40)
        check(choice["message"]["reasoning_content"] == "on " * 5, f"five tokens of thought: {choice}")
        check(choice["message"]["content"].lstrip().startswith("{"), f"then the form: {choice}")
        choice = model.chat(4, tools=TOOLS)
        check(choice["message"]["content"] == "It is 4.", f"no call: {choice}")
        # One that was cut is a thought, whatever it was to become.
        choice = model.chat(3, max_tokens=4)
        check(choice["message"]["content"] == "" and choice["finish_reason"] == "length", f"cut: {choice}")
        strict = [{"type": "function", "function": {**TOOLS[0]["function"], "strict": True}}]
        choice = model.chat(1, tools=strict)
        check(call_of(choice) == {"city": "Rome"}, f"a strict tool may be called: {choice}")
        choice = model.chat(4, tools=strict)
        check(choice["message"]["content"] == "It is 4.", f"or not: {choice}")
        # Half a character in the history.
        model.post("/v1/chat/completions", '{"max_tokens": 1, "messages": [{"role": "user", "content": "\\ud83d"}]}')


def qwen3_coder(odmoe):
    call = "<tool_call>\n<function=get_weather>\n<parameter=city>\n12\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>"
    scripts = [["Let me see.\n"] + [call[i:i + 7] for i in range(0, len(call), 7)],
               ["\n", "<tool_call>", "\n", "<function=", "get_weather", ">", "\n", "<parameter=", "city", ">", "\n", "Rome", "\n",
                "</parameter>", "\n", "</function>", "\n", "</tool_call>"]]
    with Puppet(odmoe, scripts, template=chatml("", "<tool_call><function=a><parameter=b>")) as model:
        choice = model.chat(0, tools=TOOLS)
        check(call_of(choice) == {"city": "12", "days": 3}, f"types are the schema's: {choice}")
        check(choice["message"]["content"] == "Let me see.", f"the text before: {choice}")
        check(call_of(model.chat(0, tools=TOOLS, tool_choice="required"))["city"] is not None, "held to a call")


KIMI = """{%- if tools %}{{- '<|im_system|>tool_declare<|im_middle|>' + tools | tojson + '<|im_end|>' }}{% endif %}
{%- for message in messages %}
    {{- '<|im_' + message.role + '|>' + message.role + '<|im_middle|>' + message.content }}
    {%- for call in message.tool_calls or [] %}
        {{- '<|tool_call_begin|>' + call.id + '<|tool_call_argument_begin|>' + call.function.arguments | tojson }}
    {%- endfor %}
    {{- '<|im_end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_assistant|>assistant<|im_middle|>' }}{% endif %}"""


def kimi(odmoe):
    scripts = [["Sure.", Ctl("<|tool_calls_section_begin|>"), Ctl("<|tool_call_begin|>"), "functions.get_weather:0",
                Ctl("<|tool_call_argument_begin|>"), '{"city"', ":", ' "Rome"', "}", Ctl("<|tool_call_end|>"),
                Ctl("<|tool_calls_section_end|>")],
               ["Hm", "</think>", Ctl("<|tool_calls_section_begin|>"), Ctl("<|tool_call_begin|>"), "functions.get_weather:1",
                Ctl("<|tool_call_argument_begin|>"), '{"city"', ":", ' "Rome"', "}", Ctl("<|tool_call_end|>")]]
    with Puppet(odmoe, scripts, template=KIMI,
                controls=("<|im_end|>", "<|im_system|>", "<|im_user|>", "<|im_assistant|>", "<|im_middle|>")) as model:
        choice = model.chat(0, tools=TOOLS)
        check(call_of(choice) == {"city": "Rome"}, f"control tokens are read as marks: {choice}")
        check(choice["message"]["tool_calls"][0]["id"] == "functions.get_weather:0", f"the model's own id: {choice}")
        check(choice["message"]["content"] == "Sure.", f"and are not content: {choice}")


def unknown_format(odmoe):
    template = "{% for m in messages %}{{ 'User: ' + m.content }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
    with Puppet(odmoe, [["Hello."]], template=template) as model:
        check(model.chat(0)["message"]["content"] == "Hello.", "it talks")
        error = model.chat(0, status=400, tools=TOOLS)
        check(error["param"] == "tools" and "not known" in error["message"], f"how it calls is not known: {error}")
        check(model.chat(0, tools=TOOLS, tool_choice="none")["message"]["content"] == "Hello.", "none are to be called")


# A call of get_weather as models of these published templates write it.
PUBLISHED = {
    "openai-gpt-oss-120b": [Ctl("<|channel|>"), "analysis", Ctl("<|message|>"), "I look.", Ctl("<|end|>"), Ctl("<|start|>"),
                            "assistant", Ctl("<|channel|>"), "commentary", " to=functions.get_weather ", Ctl("<|constrain|>"),
                            "json", Ctl("<|message|>"), '{"city": ', '"Rome"}'],
    "gemma-4-E2B": [Ctl("<|tool_call>"), "call:get_weather{city:", Ctl('<|"|>'), "Rome", Ctl('<|"|>'), "}", Ctl("<tool_call|>")],
    "Mistral-Small-3.2-24B-Instruct-2506": [Ctl("[TOOL_CALLS]"), "get_weather", Ctl("[ARGS]"), '{"city": ', '"Rome"}'],
    "meta-llama-Llama-3.1-8B-Instruct": ['{"name": "get_weather", ', '"parameters": {"city": "Rome"}}'],
    "GLM-4.6": ["<tool_call>get_weather\n", "<arg_key>city</arg_key>\n", "<arg_value>Rome</arg_value>\n", "</tool_call>"],
    "MiniMax-M2": ["I look.", "</think>", "\n\n", '<minimax:tool_call>\n<invoke name="get_weather">\n',
                   '<parameter name="city">Rome</parameter>\n', "</invoke>\n</minimax:tool_call>"],
    "Qwen-Qwen3-0.6B": ["<think>", "\nI look.\n", "</think>", "\n\n", '<tool_call>\n{"name": "get_weather", ',
                        '"arguments": {"city": "Rome"}}', "\n</tool_call>"],
    "Qwen3-Coder": ["<tool_call>\n<function=get_weather>\n", "<parameter=city>\nRome\n</parameter>\n", "</function>\n</tool_call>"],
}


def published_templates(odmoe):
    """What was called goes back through the model's own template, with what the tool answered."""
    for name, script in PUBLISHED.items():
        template = (pathlib.Path(SHARED) / "chat" / "templates" / f"{name}.jinja").read_text(encoding="utf-8")
        controls = ("<|return|>", "<|call|>") if "gpt-oss" in name else ("<|im_start|>", "<|im_end|>")
        with Puppet(odmoe, [script], template=template, controls=controls) as model:
            question = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Weather?"}]
            answer = model.chat(0, tools=TOOLS, messages=question)
            check(call_of(answer) == {"city": "Rome"}, f"{name}: {answer}")
            if any("I look." in piece for piece in script):
                check(answer["message"]["reasoning_content"].strip() == "I look.", f"{name}: the thought: {answer}")
            result = {"role": "tool", "tool_call_id": answer["message"]["tool_calls"][0]["id"], "content": "Rain."}
            model.chat(0, tools=TOOLS, messages=[*question, answer["message"], result])
            model.chat(0, tools=TOOLS, messages=[*question, {**answer["message"], "content": "So: "}, result])


def other_faults(odmoe):
    with Puppet(odmoe, [["a", b"\xe2\x82", b"\xac", "b"]], template=chatml("", "")) as model:
        body = {"prompt": "x", "max_tokens": 4, "temperature": 0, "logprobs": 0}
        choice = model.post("/v1/completions", body)["choices"][0]
        check(choice["text"] == "a\u20acb", f"the text: {choice}")
        check(choice["logprobs"]["text_offset"] == [0, 1, 1, 2], f"offsets are of characters: {choice}")
        for header in ("x" * 9000, "%" * 7000):
            error = model.post("/v1/completions", body, status=431, headers={"X-Large": header}.items())["error"]
            check("header" in error["message"], f"it says what is too large: {error}")


def other_dialects(odmoe):
    """Thoughts and calls in the words of Anthropic's and Ollama's APIs."""
    call = '{"name": "get_weather", "arguments": {"city": "Rome"}}'
    scripts = [
        ["I think", " so.", "</think>", "\n\n", "It is", " 4."],
        ["Call", " it.", "</think>", "\n\n", "<tool_call>\n", call, "\n</tool_call>"],
        ["on "] * 12 + ["</think>", "late"],
        ["No", " more.", "</think>", "\n\n", "It rains."],
    ]
    with Puppet(odmoe, scripts, template=chatml("<think>\\n", "<tool_call>")) as model:
        def asked(script, **more):
            return {"max_tokens": 400, "temperature": 0, "messages": [{"role": "user", "content": "Well?"}],
                    "logit_bias": {str(model.firsts[script]): 100 if script else 0}, **more}

        answer = model.post("/v1/messages", asked(0))
        check([block["type"] for block in answer["content"]] == ["thinking", "text"], f"a thought, then text: {answer}")
        check(answer["content"][0]["thinking"] == "I think so." and answer["content"][1]["text"] == "It is 4.", f"as said: {answer}")
        check(answer["stop_reason"] == "end_turn", f"it ended: {answer}")
        events = [json.loads(line[6:]) for line in model.said("/v1/messages", asked(0, stream=True)).splitlines() if line.startswith("data: ")]
        kinds = [event.get("delta", event.get("content_block", event)).get("type", event["type"]) for event in events if event["type"] != "ping"]
        kinds = [kind for i, kind in enumerate(kinds) if i == 0 or kinds[i - 1] != kind]
        check(kinds == ["message_start", "thinking", "thinking_delta", "signature_delta", "content_block_stop", "text", "text_delta",
                        "content_block_stop", "message_delta", "message_stop"], f"the order of events: {kinds}")
        answer = model.post("/v1/messages", asked(2, thinking={"type": "enabled", "budget_tokens": 5}))
        check(answer["content"][0]["thinking"] == "on " * 5, f"five tokens of thought: {answer}")
        tools = [{"name": "get_weather", "input_schema": TOOLS[0]["function"]["parameters"]}]
        answer = model.post("/v1/messages", asked(1, tools=tools))
        check([block["type"] for block in answer["content"]] == ["thinking", "tool_use"], f"a thought, then a call: {answer}")
        check(answer["content"][1]["input"] == {"city": "Rome"} and answer["stop_reason"] == "tool_use", f"the call: {answer}")
        result = {"type": "tool_result", "tool_use_id": answer["content"][1]["id"], "content": "Rain.", "is_error": False}
        history = [{"role": "user", "content": "Well?"}, {"role": "assistant", "content": answer["content"]},
                   {"role": "user", "content": [result]}]
        answer = model.post("/v1/messages", asked(3, tools=tools, messages=history))
        check(answer["content"][-1]["text"] == "It rains.", f"results are read: {answer}")

        def ollama(script, **more):
            body = asked(script, **more)
            options = {name: body.pop(name) for name in ("temperature", "logit_bias")}
            del body["max_tokens"]
            return {**body, "options": options}

        answer = model.post("/api/chat", ollama(0, stream=False))
        check(answer["message"] == {"role": "assistant", "content": "It is 4.", "thinking": "I think so."}, f"as said: {answer}")
        check(answer["done_reason"] == "stop", f"it ended: {answer}")
        lines = [json.loads(line) for line in model.said("/api/chat", ollama(1, tools=TOOLS)).splitlines()]
        thought = "".join(line["message"].get("thinking", "") for line in lines)
        calls = [call for line in lines for call in line["message"].get("tool_calls", [])]
        check(thought == "Call it.", f"the thought: {lines}")
        check([call["function"]["arguments"] for call in calls] == [{"city": "Rome"}], f"the call: {lines}")
        shown = model.post("/api/show", {"model": "puppet"})
        check(shown["capabilities"] == ["completion", "tools", "thinking"], f"what it can: {shown}")


def main():
    for test in (always_thinking, qwen3_coder, kimi, published_templates, unknown_format, other_faults, other_dialects):
        test(sys.argv[1])
        print(f"{test.__name__}: as it should be")


main()
