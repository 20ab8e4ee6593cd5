// Ollama's own npm client, as it is, against a server of the bundled model.
//
//   node ollama_client.mjs FOLDER ODMOE MODEL     (FOLDER: where `npm ci` put the client)
//
// Ends with status 77 when the client is not there.
import assert from "node:assert/strict";
import { client as packageOf, comesToRest, failure, KEY, withServer } from "./harness.mjs";

const [folder, odmoe, modelFile] = process.argv.slice(2);
const { Ollama } = packageOf(folder, "ollama");
const options = { temperature: 0, num_predict: 12 };

async function models(client) {
  const [listed] = (await client.list()).models;
  assert.match(listed.name, /^demo:/);
  assert.equal(listed.details.format, "gguf");
  const [running] = (await client.ps()).models;
  assert.equal(running.digest, listed.digest);
  const shown = await client.show({ model: listed.name });
  assert.ok(shown.capabilities.includes("completion"));
  assert.match((await client.version()).version, /^\d+\.\d+\.\d+$/);
}

async function chat(client, model) {
  const request = { model, options, messages: [{ role: "system", content: "Speak." }, { role: "user", content: "Who are you?" }] };
  const once = await client.chat(request);
  assert.equal(once.message.role, "assistant");
  assert.equal(once.done_reason, "length");
  assert.equal(once.eval_count, 12);
  let text = "";
  let last;
  for await (const part of await client.chat({ ...request, stream: true })) {
    text += part.message.content;
    last = part;
  }
  assert.equal(text, once.message.content, "a stream says the same");
  assert.equal(last.prompt_eval_count, once.prompt_eval_count, "and counts the same");
}

async function generate(client, model) {
  const request = { model, options, prompt: "KING RICHARD:", raw: true };
  const once = await client.generate(request);
  let text = "";
  for await (const part of await client.generate({ ...request, stream: true })) text += part.response;
  assert.equal(text, once.response, "a stream says the same");
  assert.equal((await client.generate({ model, prompt: "" })).done_reason, "load");
}

async function formats(client, model) {
  const format = {
    type: "object", additionalProperties: false, required: ["age", "kind"],
    properties: { age: { type: "integer", minimum: 0, maximum: 120 }, kind: { enum: ["king", "queen"] } },
  };
  const messages = [{ role: "user", content: "Describe a king." }];
  const answer = await client.chat({ model, messages, format, options: { seed: 1, num_predict: 400 } });
  const person = JSON.parse(answer.message.content);
  assert.ok(person.age >= 0 && person.age <= 120 && ["king", "queen"].includes(person.kind));
}

async function tools(client, model) {
  const tool = {
    type: "function",
    function: {
      name: "get_weather",
      parameters: { type: "object", required: ["city"], properties: { city: { type: "string", enum: ["Verona"] } } },
    },
  };
  const messages = [{ role: "user", content: "Weather?" }];
  const request = { model, messages, tools: [tool], tool_choice: "required", parallel_tool_calls: false, options: { ...options, num_predict: 200 } };
  const once = await client.chat(request);
  assert.deepEqual(once.message.tool_calls.map((call) => [call.function.name, call.function.arguments]),
                   [["get_weather", { city: "Verona" }]]);
  const calls = [];
  for await (const part of await client.chat({ ...request, stream: true })) calls.push(...(part.message.tool_calls ?? []));
  assert.deepEqual(calls[0].function.arguments, { city: "Verona" });
  const after = await client.chat({
    model, tools: [tool], options: { num_predict: 5 },
    messages: [...messages, once.message, { role: "tool", tool_name: "get_weather", content: "Rain." }],
  });
  assert.ok(after.prompt_eval_count > once.prompt_eval_count, "calls and results are read");
}

async function errors(client, model, url) {
  const messages = [{ role: "user", content: "x" }];
  const status = async (code, words, promise) => {
    const error = await failure(Error, promise);
    assert.equal(error.status_code, code, `${error}`);
    assert.match(error.message, words);
  };
  await status(400, /options\.mirostat/, client.chat({ model, messages, options: { mirostat: 2 } }));
  await status(400, /context/, client.chat({ model, messages: [{ role: "user", content: "long ".repeat(5000) }] }));
  await status(404, /not found/, client.show({ model: "other" }));
  await status(501, /embeddings/, client.embed({ model, input: "x" }));
  await status(501, /one model/, client.pull({ model: "other" }));
  await status(501, /one model/, client.delete({ model }));
  await status(401, /key/, new Ollama({ host: url }).list());
}

async function cancels(client, model, url) {
  const request = { model, messages: [{ role: "user", content: "Speak at length." }], options: { ignore_eos: true }, stream: true };
  const stream = await client.chat(request);
  const reading = (async () => {
    let n = 0;
    for await (const _ of stream) if (++n === 3) stream.abort();
  })();
  assert.equal((await failure(Error, reading)).name, "AbortError");
  await comesToRest(url);
}

await withServer(odmoe, modelFile, async (url) => {
  const client = new Ollama({ host: url, headers: { Authorization: `Bearer ${KEY}` } });
  const model = (await client.list()).models[0].name;
  for (const step of [models, chat, generate, formats, tools, errors, cancels]) await step(client, model, url);
  console.log("Ollama's npm client works unchanged");
});
