// Anthropic's own npm client, as it is, against a server of the bundled model.
//
//   node anthropic_client.mjs FOLDER ODMOE MODEL     (FOLDER: where `npm ci` put the client)
//
// Ends with status 77 when the client is not there.
import assert from "node:assert/strict";
import { client as packageOf, comesToRest, failure, KEY, withServer } from "./harness.mjs";

const [folder, odmoe, modelFile] = process.argv.slice(2);
const { Anthropic } = packageOf(folder, "@anthropic-ai/sdk");
const { jsonSchemaOutputFormat } = packageOf(folder, "@anthropic-ai/sdk/helpers/json-schema");

const tool = {
  name: "get_weather",
  description: "The weather of a city.",
  input_schema: {
    type: "object", required: ["city"], additionalProperties: false,
    properties: { city: { enum: ["Verona", "Venice"] } },
  },
};

async function messages(client, model) {
  const request = {
    model, max_tokens: 10, temperature: 0,
    system: [{ type: "text", text: "Speak.", cache_control: { type: "ephemeral" } }],
    messages: [{ role: "user", content: "Who are you?" }],
  };
  const once = await client.messages.create(request);
  assert.equal(once.type, "message");
  assert.equal(once.stop_reason, "max_tokens");
  assert.equal(once.usage.output_tokens, 10);
  let text = "";
  const order = [];
  for await (const event of await client.messages.create({ ...request, stream: true })) {
    if (order.at(-1) !== event.type) order.push(event.type);
    if (event.type === "content_block_delta") text += event.delta.text;
  }
  assert.deepEqual(order, ["message_start", "content_block_start", "content_block_delta", "content_block_stop",
                           "message_delta", "message_stop"]);
  assert.equal(text, once.content[0].text, "a stream says the same");
  const helped = client.messages.stream(request);  // the client puts the events together itself
  const whole = await helped.finalMessage();
  assert.equal(whole.content[0].text, once.content[0].text);
  assert.equal(whole.usage.output_tokens, once.usage.output_tokens, "and counts the same");
  assert.equal(whole.stop_reason, once.stop_reason);
  const counted = await client.messages.countTokens({ model, system: request.system, messages: request.messages });
  assert.equal(counted.input_tokens, once.usage.input_tokens + once.usage.cache_read_input_tokens);
}

async function continues(client, model) {
  const begun = [{ role: "user", content: "Who are you?" }, { role: "assistant", content: "I am the king of" }];
  const request = { model, max_tokens: 12, temperature: 0, messages: begun };
  const once = await client.messages.create(request);
  const word = once.content[0].text.slice(3, 8);
  const stopped = await client.messages.create({ ...request, stop_sequences: [word] });
  assert.equal(stopped.stop_reason, "stop_sequence");
  assert.equal(stopped.stop_sequence, word);
}

async function formats(client, model) {
  const schema = {
    type: "object", additionalProperties: false, required: ["kind", "crowned"],
    properties: { kind: { type: "string", enum: ["king", "queen"] }, crowned: { type: "boolean" } },
  };
  const answer = await client.messages.parse({
    model, max_tokens: 600, temperature: 0, messages: [{ role: "user", content: "Describe a king." }],
    output_config: { format: jsonSchemaOutputFormat(schema) },
  });
  assert.ok(["king", "queen"].includes(answer.parsed_output.kind), JSON.stringify(answer));
  assert.equal(typeof answer.parsed_output.crowned, "boolean");
}

async function tools(client, model) {
  const request = {
    model, tools: [tool], tool_choice: { type: "any", disable_parallel_tool_use: true }, max_tokens: 200,
    temperature: 0, messages: [{ role: "user", content: "Weather?" }],
  };
  const once = await client.messages.create(request);
  assert.equal(once.stop_reason, "tool_use");
  const use = once.content.find((block) => block.type === "tool_use");
  assert.equal(use.name, "get_weather");
  assert.ok(["Verona", "Venice"].includes(use.input.city));
  const streamed = await client.messages.stream(request).finalMessage();
  assert.deepEqual(streamed.content.find((block) => block.type === "tool_use").input, use.input);
  const after = await client.messages.create({
    ...request, tool_choice: { type: "none" }, max_tokens: 5,
    messages: [
      ...request.messages, { role: "assistant", content: once.content },
      { role: "user", content: [{ type: "tool_result", tool_use_id: use.id, content: "No such city.", is_error: true }] },
    ],
  });
  assert.equal(after.role, "assistant");
}

async function errors(client, model, url) {
  const request = { model, max_tokens: 5, messages: [{ role: "user", content: "x" }] };
  const bad = await failure(Anthropic.BadRequestError, client.messages.create({ ...request, temperature: -1 }));
  assert.equal(bad.type, "invalid_request_error");
  assert.match(bad.message, /temperature/);
  const long = [{ role: "user", content: "long ".repeat(5000) }];
  await failure(Anthropic.BadRequestError, client.messages.create({ ...request, messages: long }));
  await failure(Anthropic.BadRequestError, client.messages.stream({ ...request, messages: long }).finalMessage());
  const wrong = new Anthropic({ baseURL: url, apiKey: "wrong", maxRetries: 0 });
  const refused = await failure(Anthropic.AuthenticationError, wrong.messages.create(request));
  assert.equal(refused.type, "authentication_error");
}

async function cancels(client, model, url) {
  const request = { model, max_tokens: 900, ignore_eos: true, messages: [{ role: "user", content: "Speak at length." }] };
  let n = 0;
  for await (const _ of await client.messages.create({ ...request, stream: true })) if (++n === 5) break;
  const abort = new AbortController();
  const whole = client.messages.create(request, { signal: abort.signal });
  setTimeout(() => abort.abort(), 100);
  await failure(Anthropic.APIUserAbortError, whole);
  await comesToRest(url);
}

await withServer(odmoe, modelFile, async (url) => {
  const client = new Anthropic({ baseURL: url, apiKey: KEY, maxRetries: 0 });
  const model = (await client.models.list()).data[0].id;
  for (const step of [messages, continues, formats, tools, errors, cancels]) await step(client, model, url);
  console.log("Anthropic's npm client works unchanged");
});
