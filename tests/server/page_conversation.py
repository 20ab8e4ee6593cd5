"""Steps of page_test.py: the conversation.  Where an answer has to be a certain one, a stage takes the server's place: the
test itself says, piece by piece, what the model streams."""

import json

from markdown_cases import CASES
from served import check

STAGE = r"""(() => {
  globalThis.realFetch ??= fetch;
  globalThis.asked = [];
  globalThis.fetch = (path, options) => {
    if (!String(path).startsWith("v1/chat/")) return realFetch(path, options);
    asked.push(JSON.parse(options.body));
    let out;
    const body = new ReadableStream({start(controller) { out = controller; }});
    options.signal.addEventListener("abort", () => out.error(new DOMException("stopped", "AbortError")));
    const send = (event) => out.enqueue(new TextEncoder().encode("data: " + JSON.stringify(event) + "\n\n"));
    globalThis.model = {
      say(delta) { send({choices: [{delta}]}); },
      end(reason = "stop") {
        send({choices: [{delta: {}, finish_reason: reason}]});
        send({choices: [], usage: {completion_tokens: 42}});
        out.close();
      },
      fail(message) { send({error: {message}}); },
    };
    return Promise.resolve(new Response(body));
  };
  return 0;
})()"""

# What a view shows, as markdown_cases.py writes it.
SHOWN = r"""globalThis.shown = (root) => {
  const copy = root.cloneNode(true);
  for (const code of copy.querySelectorAll(".code")) {
    const language = code.querySelector(".code-head span").textContent;
    code.replaceWith(`[code ${language === "text" ? "" : language}|${code.querySelector("pre").textContent}]`);
  }
  for (const table of copy.querySelectorAll(".table")) table.replaceWith(...table.childNodes);
  return copy.innerHTML;
}; 0"""


def value(browser, name, text):
    browser.get(f"document.querySelector('{name}').value = {json.dumps(text)}; document.querySelector('{name}').dispatchEvent(new Event('change')); 0")


def idle(browser):
    browser.wait("document.querySelector('#send').offsetParent !== null", 300)


def ask(browser, text):
    """Sends the message; the stage waits for what the model says."""
    browser.get("globalThis.model = null; document.querySelector('#say').focus(); 0")
    browser.type(text)
    browser.press("Enter", 13)
    browser.wait("globalThis.model")


def say(browser, **delta):
    browser.get(f"model.say({json.dumps(delta)}); 0")


def end(browser, reason="stop"):
    browser.get(f"model.end({json.dumps(reason)}); 0")
    idle(browser)


def last(what):
    return f"[...document.querySelectorAll('.said.model')].at(-1)?.querySelector('{what}')"


def reads_markdown(browser):
    browser.get(SHOWN)
    for about, text, html in CASES:
        got = browser.get(f"(() => {{ const root = document.createElement('div'); new MarkdownView(root).show({json.dumps(text)}); return shown(root); }})()")
        check(got == html, f"{about}:\n  {got}\nrather than\n  {html}")


def streams_as_it_reads(browser):
    """However a text is cut, in the end it is what it would have been at once; and what is finished is not made again."""
    text = "\n\n".join(text for _, text, _ in CASES if "has no end" not in _) + "\n"
    cases = [text for _, text, _ in CASES] + [text]
    wrong = browser.get(f"""(() => {{
      const wrong = [];
      for (const text of {json.dumps(cases)}) {{
        const whole = document.createElement("div");
        new MarkdownView(whole).show(text);
        for (const step of text.length < 400 ? [1, 2, 7] : [5, 61]) {{
          const root = document.createElement("div");
          const view = new MarkdownView(root);
          for (let end = 0; end < text.length + step; end += step) view.show(text.slice(0, end));
          if (root.innerHTML !== whole.innerHTML) wrong.push([text, step, shown(root), shown(whole)]);
        }}
      }}
      return wrong;
    }})()""")
    check(not wrong, f"streamed it differs: {wrong[:1]}")
    check(browser.get("""(() => {
      const root = document.createElement("div");
      const view = new MarkdownView(root);
      view.show("one\\n\\n```c\\na\\n");
      const [paragraph, code] = root.children;
      view.show("one\\n\\n```c\\na\\nb\\n");
      view.show("one\\n\\n```c\\na\\nb\\n```\\n\\nthree\\n\\nfour");
      return root.children[0] === paragraph && root.children[1] === code && code.querySelector("pre").textContent === "a\\nb" && root.children.length === 4;
    })()"""), "blocks that are finished stay, and code that grows is the same element")


def shows_an_answer(browser):
    """Thought, text, figures; stop, regenerate, edit."""
    browser.click("#new")
    browser.get(STAGE)
    ask(browser, "Count\nwords?")
    check(browser.get("asked.at(-1).messages") == [{"role": "user", "content": "Count\nwords?"}], "the message is sent as it is")
    say(browser, reasoning_content="Let me *see*.")
    browser.wait(last(".thought") + ".open && " + last(".thought em") + ".offsetParent !== null")  # it is read while it is written
    say(browser, reasoning_content="\n\nYes.")
    say(browser, content="With **this**:\n\n```py\nlen(t.spl")
    browser.wait(f"!{last('.thought')}.open && {last('.code pre')}?.textContent === 'len(t.spl'")  # folded when the answer begins
    check(re_match(browser, last("summary"), r"Thought for [\d.]+ s"), "it says how long it took")
    say(browser, content="it())\n```\n")
    end(browser)
    check(browser.get(last(".code pre") + ".textContent") == "len(t.split())", "the code is whole")
    check(browser.get(last(".code-head span") + ".textContent") == "py", "its language stands above it")
    check(re_match(browser, last(".facts"), r"42 tokens, [\d.]+ tokens/s, first after [\d.]+ s"), "figures stand below")
    browser.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    browser.click(".code-head button")
    browser.wait("document.querySelector('.code-head button').textContent === 'Copied'")
    check(browser.get("navigator.clipboard.readText()") == "len(t.split())", "the button copies the code and nothing else")

    browser.get("globalThis.model = null; 0")
    browser.click(".again")
    browser.wait("globalThis.model")
    check(len(browser.get("asked.at(-1).messages")) == 1, "the answer is asked for again")
    say(browser, content="Another, and ")
    browser.wait(last(".words") + "?.textContent === 'Another, and'")
    browser.press("Escape", 27)
    idle(browser)
    check(browser.get(last(".facts") + ".textContent").endswith("stopped"), "Escape stops")
    check(browser.get("document.querySelectorAll('.said.model').length") == 1, "there is one answer, the new one")

    browser.get("globalThis.model = null; 0")
    browser.click(".again")
    browser.wait("globalThis.model")
    browser.get("model.fail('out of luck'); 0")
    idle(browser)
    check(browser.get("document.querySelector('.said.error').textContent") == "out of luck", "an error is said")
    check(browser.get(last(".words") + ".textContent.trim()") == "Another, and", "and leaves the answer of before")

    ask(browser, "And lines?")
    check([m["role"] for m in browser.get("asked.at(-1).messages")] == ["user", "assistant", "user"], "the conversation goes on")
    say(browser, content="So.")
    end(browser, "length")
    check("cut at the most tokens" in browser.get(last(".facts") + ".textContent"), "it says that an answer was cut")
    browser.click(".said.user .actions button")
    check(browser.get("document.querySelector('#say').value") == "Count\nwords?", "one's own message can be taken up again")
    check(browser.get("document.querySelectorAll('.leaving').length") == 4, "what follows it will go")
    browser.press("Escape", 27)
    check(browser.get("document.querySelector('#say').value + document.querySelectorAll('.leaving').length") == "0", "or not after all")
    browser.click(".said.user .actions button")
    browser.get("document.querySelector('#say').value = ''; globalThis.model = null; 0")
    browser.type("Count bytes?")
    browser.click("#send")
    browser.wait("globalThis.model")
    check(browser.get("asked.at(-1).messages") == [{"role": "user", "content": "Count bytes?"}], "the other takes its place")
    say(browser, content="4")
    end(browser)
    check(browser.get("document.querySelectorAll('.said').length") == 2, "and nothing else is left")


def re_match(browser, node, expression):
    return browser.get(f"new RegExp({json.dumps('^' + expression + '$')}).test({node}.textContent)")


def takes_settings(browser):
    tool = {"type": "function", "function": {"name": "get_weather"}}
    browser.click("#new")
    browser.click("#settings-open")
    for name, text in (("#system", "Be brief."), ("#temperature", "0.5"), ("#top-p", "0.9"), ("#max-tokens", ""), ("#thinking", "off"),
                       ("#tools", "[oh")):
        value(browser, name, text)
    browser.click("#settings-open")
    browser.click("#say")
    browser.type("Warm?")
    browser.press("Enter", 13)
    browser.wait("document.querySelector('.said.error')?.textContent.startsWith('the tools in the settings are not JSON')")
    check(browser.get("document.querySelector('#say').value") == "Warm?", "what could not be sent is back in the field")
    value(browser, "#tools", json.dumps(tool))
    browser.get("document.querySelector('#say').value = ''; 0")
    ask(browser, "Warm?")
    check(browser.get("asked.at(-1)") == {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Warm?"}], "stream": True,
        "stream_options": {"include_usage": True}, "temperature": 0.5, "top_p": 0.9, "max_tokens": 512,
        "chat_template_kwargs": {"enable_thinking": False}, "tools": [tool]}, f"all of it is sent: {browser.get('asked.at(-1)')}")
    say(browser, tool_calls=[{"index": 0, "id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":'}}])
    say(browser, tool_calls=[{"index": 0, "function": {"arguments": '"Rome"}'}},
                             {"index": 1, "id": "c2", "function": {"name": "get_time", "arguments": "{}"}}])
    end(browser, "tool_calls")
    check(browser.get("[...document.querySelectorAll('.call')].map((c) => c.textContent)") ==
          ['Calls get_weather{\n  "city": "Rome"\n}', "Calls get_time{}"], "calls are shown")
    label = "document.querySelector('#say-label').textContent"
    check(browser.get(label) == "Result of get_weather", "one writes what the tool answers")
    browser.type("24")
    browser.press("Enter", 13)
    browser.wait(f"{label} === 'Result of get_time'")
    ask(browser, "noon")
    sent = browser.get("asked.at(-1).messages")
    check([m["role"] for m in sent] == ["system", "user", "assistant", "tool", "tool"], f"calls and results: {sent}")
    check(sent[2]["tool_calls"][0]["function"]["arguments"] == '{"city":"Rome"}' and sent[4]["tool_call_id"] == "c2", f"calls and results: {sent}")
    say(browser, content="Warm.")
    end(browser)
    check(browser.get(label) == "Message", "then one talks again")
    browser.reload()
    check(browser.get("document.querySelector('#temperature').value + document.querySelector('#thinking').value") == "0.5off",
          "the settings are kept")
    check(browser.get("document.querySelector('#system').value") == "Be brief.", "the system prompt with its conversation")
    check(browser.get("document.querySelectorAll('.said').length") == 5, "the conversation is there again")
    check(browser.get("document.querySelectorAll('.call').length") == 2, "with its calls")
    for name, text in (("#system", ""), ("#temperature", "0.8"), ("#top-p", ""), ("#thinking", ""), ("#tools", "")):
        value(browser, name, text)


def titles(browser):
    return browser.get("[...document.querySelectorAll('#history-list .open span')].map((e) => e.textContent)")


def keeps_conversations(browser):
    browser.get(STAGE)
    browser.get("localStorage.clear(); chat.startNew(); 0")
    for text in ("First one", "Second one"):
        browser.click("#new")
        ask(browser, text)
        say(browser, reasoning_content="Hm.")
        say(browser, content=f"*{text}*")
        end(browser)
    browser.click("#history-open")
    check(titles(browser) == ["Second one", "First one"], f"the latest comes first: {titles(browser)}")
    browser.click("#history-list li:nth-child(2) .open")
    check(browser.get(last(".words em") + ".textContent") == "First one", "an earlier one is opened")
    check(browser.get(f"!{last('.thought')}.open && {last('.thought')}.textContent.includes('Hm.')"), "with its thought, folded")
    browser.click("#history-open")
    browser.click("#history-list li:nth-child(2) .actions button")
    browser.get("document.activeElement.value = ''; 0")
    browser.type("Renamed")
    browser.press("Enter", 13)
    check(titles(browser) == ["Second one", "Renamed"], f"it has another name: {titles(browser)}")
    check(browser.get("document.querySelector('#chat-title').textContent") == "Renamed", "above as well")
    browser.click("#history-list li:nth-child(2) .actions button + button")
    check(len(titles(browser)) == 2, "deleting asks first")
    browser.click("#history-list li:nth-child(2) .actions button + button")
    check(titles(browser) == ["Second one"], "then it is gone")
    check(browser.get("document.querySelectorAll('.said').length") == 0, "from the page too")
    browser.press("Escape", 27)
    check(browser.get("document.querySelector('#history').hidden"), "Escape closes the list")

    # What is written while one goes to another conversation stays with its own.
    ask(browser, "Third one")
    say(browser, content="Half")
    browser.wait(last(".words") + "?.textContent === 'Half'")
    browser.click("#new")
    idle(browser)
    check(browser.get("document.querySelectorAll('.said').length") == 0, "a new one is empty")
    kept = browser.get("chat.kept.list().map((c) => [c.title, c.messages.at(-1).content])")
    check(kept == [["Third one", "Half"], ["Second one", "*Second one*"]], f"what was said so far is kept: {kept}")
    # And so it is when the page is left.
    ask(browser, "Fourth one")
    say(browser, content="Part")
    browser.wait(last(".words") + "?.textContent === 'Part'")
    browser.reload()
    browser.wait(last(".words") + "?.textContent === 'Part'")

    # There are limits.
    bounded = browser.get("""(() => {
      localStorage.clear();
      const all = new Conversations();
      const make = (title, at, length) => ({...Conversations.make(""), title, at, messages: [{role: "user", content: "x".repeat(length)}]});
      for (let i = 0; i < 70; ++i) all.keep(make("c" + i, i, 10));
      const many = all.list().map(({title}) => title);
      const large = [all.keep(make("large", 100, kMostKept - 5000)), all.list().length < 60, all.keep(make("larger", 101, kMostKept))];
      localStorage.setItem(kKeptPrefix + "damaged", "{\\"id\\": 7}");
      localStorage.setItem("other", "y".repeat(5 * 1024 * 1024 - JSON.stringify({...localStorage}).length - 2000));
      const full = [all.keep(make("new", 102, 100000)), all.list().map(({title}) => title)];
      localStorage.clear();
      return [many, large, full];
    })()""")
    check(bounded[0] == [f"c{i}" for i in range(69, 9, -1)], f"the oldest are forgotten: {bounded[0]}")
    check(bounded[1] == [True, True, False], f"all together have a limit: {bounded[1]}")
    check(bounded[2] == [True, ["new"]], f"where the browser has no room the oldest go too: {bounded[2]}")


HOSTILE = {
    "scripts": "<img src=x onerror='pwned=1'><script>pwned=1</script></script><svg onload=pwned=1>\n\n[a](javascript:pwned=1) "
               "<a href='javascript:pwned=1'>b</a>\n\n```html\n</code></pre><script>pwned=1</script>\n```\n\n| <img onerror=pwned=1> |\n|---|\n"
               "| <iframe srcdoc='<script>top.pwned=1</script>'> |\n\n![x](javascript:pwned=1) <style>*{display:none}</style>",
    "marks": "*" * 20000 + "a" + "_*" * 20000 + "[" * 20000 + "`" * 5000 + "](" * 5000 + "<" * 5000 + "&" * 5000 + "\\(" * 5000,
    "nested marks": "*a **b " * 3000 + "c** d*" * 3000,
    "ticks": "".join("`" * n + " " for n in range(1, 500)),
    "links": "[a](" * 10000 + "https://" * 5000 + "[![b](http://c)](http://d)" * 1000,
    "white space": "a" + " " * 50000 + "b\n" + " " * 50000 + "\n\n|" + " " * 50000 + "\n-|-\n# c" + " " * 50000 + "#d",
    "quotes": ">" * 50000 + " a",
    "lists": "- " * 20000 + "a\n\n" + "\n".join(" " * n + "- b" for n in range(300)),
    "a table of 1000 columns": "|" + "h|" * 1000 + "\n|" + "-|" * 1000 + "\n" + ("|" + "*c*|" * 1000 + "\n") * 3,
    "a table of 1000 columns and rows": "|" + "h|" * 1000 + "\n|" + "-|" * 1000 + "\n" + ("|" + "c|" * 1000 + "\n") * 1000,
    "10000 lines of code": "```c\n" + "".join(f"int line_{i} = {i}; // <b>\n" for i in range(10000)) + "```\n",
    "a fence without end": "```\n" + "a b c d e f g h\n" * 20000,
    "a long line": "word " * 60000,
}


def survives(browser):
    """Whatever a model writes: nothing of it runs, and the page goes on."""
    browser.get(STAGE)
    browser.get("globalThis.pwned = 0; 0")
    for about, text in HOSTILE.items():
        browser.click("#new")
        browser.get(f"globalThis.hostile = {json.dumps(text)}; 0")
        ask(browser, "Go on")
        # In pieces, as a model writes, with the page drawing between them.
        browser.get("""(async () => {
          const step = Math.ceil(hostile.length / 40);
          for (let at = 0; at < hostile.length; at += step) {
            model.say({content: hostile.slice(at, at + step)});
            await new Promise(requestAnimationFrame);
          }
        })()""")
        end(browser)
        check(browser.get("pwned") == 0, f"{about}: it ran")
        check(browser.get("document.querySelectorAll('#log :is(img, script, iframe, svg, style, object, form)').length") == 0, f"{about}: elements of it are there")
        check(browser.get("[...document.querySelectorAll('#log a')].every((a) => /^(https?|mailto):$/.test(a.protocol))"), f"{about}: a link")
        check(browser.get("document.querySelector('#chat').scrollWidth <= document.querySelector('#chat').clientWidth"), f"{about}: it sticks out")
        check(browser.get("""(() => { let most = 0; const walk = document.createTreeWalker(document.querySelector('#log'));
            for (let n; (n = walk.nextNode());) { let d = 0; for (let p = n; p; p = p.parentNode) d++; most = Math.max(most, d); }
            return most; })()""") < 80, f"{about}: elements in each other have no end")
        if about == "10000 lines of code":
            check(browser.get(last(".code pre") + ".textContent.split('\\n').length") == 10000, "all of the code is there")
        if about == "a table of 1000 columns":
            check(browser.get("document.querySelectorAll('#log td').length") == 3000, "all of the table is there")
    browser.click("#new")
    ask(browser, "Still there?")
    say(browser, content="Yes.")
    end(browser)
    check(browser.get(last(".words") + ".textContent") == "Yes.", "it goes on")


# For the pictures: the bundled model writes pastiche of old plays, without Markdown.
QUESTION = "How do I count the words of a file in Python?"
THOUGHT = "A short script will do. `Counter` is the idiomatic way; a plain *dict* for comparison."
ANSWER = """`collections.Counter` does it in **three lines**:

```python
from collections import Counter

with open("play.txt", encoding="utf-8") as file:
    words = Counter(file.read().lower().split())
print(words.most_common(3))
```

It compares well with what else there is:

| Way | Lines | Ties are |
|---|--:|---|
| `Counter` | 3 | kept in order |
| a `dict` | 6 | yours to settle |

1. Split at *white space* first, and look at the result.
2. Then strip signs: `word.strip(".,;:!?")`.
"""


def plays_the_picture(browser):
    browser.get(STAGE)
    ask(browser, QUESTION)
    say(browser, reasoning_content=THOUGHT)
    browser.wait(last(".thought") + "?.open")
    for begin in range(0, len(ANSWER), 12):
        say(browser, content=ANSWER[begin:begin + 12])
    end(browser)
    browser.get("globalThis.fetch = realFetch; document.querySelector('#log').scrollTop = 0; document.activeElement.blur(); 0")
    browser.get("document.querySelector('.said.model .facts').textContent = 'this answer was put in by a test'; 0")
