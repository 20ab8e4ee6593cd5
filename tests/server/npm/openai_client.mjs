// OpenAI's own npm client, as it is, against a server of the bundled model.
//
//   node openai_client.mjs FOLDER ODMOE MODEL     (FOLDER: where `npm ci` put the client)
//
// Ends with status 77 when the client is not there.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { createInterface } from "node:readline";

const [folder, odmoe, modelFile] = process.argv.slice(2);
const KEY = "a-key-of-the-test";

let OpenAI;
try {
  OpenAI = createRequire(resolve(folder, "package.json"))("openai").OpenAI;
} catch (error) {
  if (error.code !== "MODULE_NOT_FOUND") throw error;
  console.log("npm's openai is not installed: skipped (./dev clients installs it)");
  process.exit(77);
}

// odmoe serve on a free port: its process and address.
async function serve(...options) {
  const server = spawn(odmoe, ["serve", modelFile, "--port", "0", "--memory", "50%", "--context", "1024", ...options], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { OMP_WAIT_POLICY: "passive", PATH: "/usr/bin:/bin" },
  });
  for await (const line of createInterface({ input: server.stderr })) {
    const ready = line.match(/ready: (http:\S+)/);
    if (ready) {
      server.stderr.resume();
      return [server, ready[1]];
    }
  }
  throw new Error("the server ended before it was ready");
}

// What a promise fails with.
async function failure(kind, promise) {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof kind, `${error} is not ${kind.name}`);
    return error;
  }
  throw new Error(`it should fail with ${kind.name}`);
}

async function completions(client, model) {
  const request = { model, prompt: "KING RICHARD:", max_tokens: 12, temperature: 0 };
  const once = await client.completions.create(request);
  assert.equal(once.object, "text_completion");
  assert.equal(once.choices[0].finish_reason, "length");
  assert.equal(once.usage.completion_tokens, 12);
  let text = "";
  for await (const chunk of await client.completions.create({ ...request, stream: true })) text += chunk.choices[0].text;
  assert.equal(text, once.choices[0].text, "a stream says the same");
}

async function chat(client, model) {
  const request = {
    model, max_tokens: 10, temperature: 0,
    messages: [{ role: "system", content: "Speak." }, { role: "user", content: "Who are you?" }],
  };
  const once = await client.chat.completions.create(request);
  assert.equal(once.choices[0].message.role, "assistant");
  let text = "";
  let usage = null;
  const stream = await client.chat.completions.create({ ...request, stream: true, stream_options: { include_usage: true } });
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, once.choices[0].message.content, "a stream says the same");
  assert.equal(usage.total_tokens, once.usage.total_tokens, "and counts the same");
  const helped = client.chat.completions.stream(request);  // the client puts the chunks together itself
  assert.equal((await helped.finalChatCompletion()).choices[0].message.content, once.choices[0].message.content);
}

async function formats(client, model) {
  const schema = {
    type: "object", additionalProperties: false, required: ["name", "age", "kind"],
    properties: {
      name: { type: "string", maxLength: 8 },
      age: { type: "integer", minimum: 0, maximum: 120 },
      kind: { enum: ["king", "queen"] },
    },
  };
  const answer = await client.chat.completions.parse({
    model, max_tokens: 400, seed: 1, messages: [{ role: "user", content: "Describe a king." }],
    response_format: { type: "json_schema", json_schema: { name: "person", schema, strict: true } },
  });
  assert.equal(answer.choices[0].finish_reason, "stop");
  const person = JSON.parse(answer.choices[0].message.content);
  assert.deepEqual(Object.keys(person), ["name", "age", "kind"]);
  assert.ok(person.age >= 0 && person.age <= 120 && ["king", "queen"].includes(person.kind));
}

async function tools(client, model) {
  const tool = {
    type: "function",
    function: {
      name: "get_weather",
      parameters: {
        type: "object", required: ["city"], additionalProperties: false,
        properties: { city: { enum: ["Verona", "Venice"] } },
      },
    },
  };
  const request = { model, tools: [tool], tool_choice: "required", parallel_tool_calls: false, max_tokens: 200, seed: 3 };
  const messages = [{ role: "user", content: "Weather?" }];
  const once = await client.chat.completions.create({ ...request, messages });
  assert.equal(once.choices[0].finish_reason, "tool_calls");
  const [call] = once.choices[0].message.tool_calls;
  assert.equal(call.function.name, "get_weather");
  assert.ok(["Verona", "Venice"].includes(JSON.parse(call.function.arguments).city));
  const streamed = await client.chat.completions.stream({ ...request, messages }).finalChatCompletion();
  assert.deepEqual(streamed.choices[0].message.tool_calls[0].function.arguments, call.function.arguments);
  const after = await client.chat.completions.create({
    model, tools: [tool], max_tokens: 5,
    messages: [...messages, once.choices[0].message, { role: "tool", tool_call_id: call.id, content: "Rain." }],
  });
  assert.ok(after.usage.prompt_tokens > once.usage.prompt_tokens, "calls and results are read");
}

async function errors(client, model, url) {
  const messages = [{ role: "user", content: "x" }];
  const bad = await failure(OpenAI.BadRequestError, client.chat.completions.create({ model, messages, temperature: -1 }));
  assert.equal(bad.param, "temperature");
  const long = [{ role: "user", content: "long ".repeat(5000) }];
  const tooLong = await failure(OpenAI.BadRequestError, client.chat.completions.create({ model, messages: long }));
  assert.equal(tooLong.code, "context_length_exceeded");
  const wrong = new OpenAI({ baseURL: url + "/v1", apiKey: "wrong", maxRetries: 0 });
  assert.equal((await failure(OpenAI.AuthenticationError, wrong.models.list())).status, 401);
  assert.equal((await failure(OpenAI.NotFoundError, client.models.retrieve("other"))).code, "model_not_found");
}

async function cancels(client, model, url) {
  const running = async () => (await (await fetch(url + "/health")).json()).requests.running;
  const request = { model, max_tokens: 900, ignore_eos: true, messages: [{ role: "user", content: "Speak at length." }] };
  const stream = await client.chat.completions.create({ ...request, stream: true });
  let n = 0;
  for await (const _ of stream) if (++n === 3) break;  // leaving the loop cancels
  const abort = new AbortController();
  const whole = client.chat.completions.create(request, { signal: abort.signal });
  setTimeout(() => abort.abort(), 100);
  await failure(OpenAI.APIUserAbortError, whole);
  for (let i = 0; (await running()) > 0; ++i) {
    assert.ok(i < 200, "what was cancelled goes on");
    await new Promise((done) => setTimeout(done, 50));
  }
}

const [server, url] = await serve("--api-key", KEY);
try {
  const client = new OpenAI({ baseURL: url + "/v1", apiKey: KEY, maxRetries: 0 });
  const model = (await client.models.list()).data[0].id;
  for (const step of [completions, chat, formats, tools, errors, cancels]) await step(client, model, url);
  const ended = new Promise((done) => server.once("exit", done));
  server.kill("SIGTERM");
  assert.equal(await ended, 0, "the server ends in order");
  console.log("OpenAI's npm client works unchanged");
} finally {
  server.kill("SIGKILL");
}
