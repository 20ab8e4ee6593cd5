// OpenAI's own npm client, as it is, against a server of the bundled model.
//
//   node openai_client.mjs FOLDER ODMOE MODEL     (FOLDER: where `npm ci` put the client)
//
// Ends with status 77 when the client is not there.
import assert from "node:assert/strict";
import { client as packageOf, comesToRest, failure, KEY, withServer } from "./harness.mjs";

const [folder, odmoe, modelFile] = process.argv.slice(2);
const { OpenAI, toFile } = packageOf(folder, "openai");

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

async function responses(client, model) {
  const request = { model, input: "Who are you?", instructions: "Speak.", max_output_tokens: 10, temperature: 0 };
  const once = await client.responses.create(request);
  assert.equal(once.object, "response");
  assert.equal(once.status, "incomplete");
  assert.equal(once.incomplete_details.reason, "max_output_tokens");
  assert.equal(once.usage.output_tokens, 10);
  assert.ok(once.output_text.length > 0);
  let text = "";
  const types = [];
  for await (const event of await client.responses.create({ ...request, stream: true })) {
    assert.equal(event.sequence_number, types.length, "events are numbered");
    types.push(event.type);
    if (event.type === "response.output_text.delta") text += event.delta;
  }
  assert.equal(text, once.output_text, "a stream says the same");
  assert.deepEqual(types.slice(0, 4),
    ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]);
  assert.deepEqual(types.slice(-4),
    ["response.output_text.done", "response.content_part.done", "response.output_item.done", "response.incomplete"]);
  const helped = client.responses.stream(request);  // the client puts the events together itself
  let snapshot = "";
  helped.on("response.output_text.delta", (event) => { snapshot = event.snapshot; });
  assert.equal((await helped.finalResponse()).output_text, once.output_text);
  assert.equal(snapshot, once.output_text);

  const next = await client.responses.create({ model, input: "And then?", previous_response_id: once.id, max_output_tokens: 5 });
  assert.equal(next.previous_response_id, once.id);
  const told = [{ role: "user", content: "Who are you?" }, ...once.output, { role: "user", content: "And then?" }];
  const same = await client.responses.create({ model, input: told, max_output_tokens: 5, store: false });
  assert.equal(same.usage.input_tokens, next.usage.input_tokens, "what is told again is the same conversation");
  assert.equal((await client.responses.retrieve(once.id)).output_text, once.output_text);
  const items = [];
  for await (const item of client.responses.inputItems.list(next.id, { limit: 1, order: "asc" })) items.push(item);
  assert.deepEqual(items.map((item) => item.role), ["user", "assistant", "user"]);
  const refused = await failure(OpenAI.BadRequestError, client.responses.cancel(once.id));
  assert.match(refused.message, /synchronous/);
  await client.responses.delete(once.id);
  await failure(OpenAI.NotFoundError, client.responses.retrieve(once.id));
}

async function responsesInForm(client, model) {
  const format = {
    type: "json_schema", name: "person", strict: true,
    schema: {
      type: "object", additionalProperties: false, required: ["name", "kind"],
      properties: { name: { type: "string", maxLength: 8 }, kind: { enum: ["king", "queen"] } },
    },
  };
  const answer = await client.responses.parse({
    model, input: "Describe a king.", max_output_tokens: 400, seed: 1, text: { format },
  });
  assert.equal(answer.status, "completed");
  assert.deepEqual(Object.keys(answer.output_parsed), ["name", "kind"]);
  assert.ok(["king", "queen"].includes(answer.output_parsed.kind));

  const tool = {
    type: "function", name: "get_weather", strict: true,
    parameters: {
      type: "object", required: ["city"], additionalProperties: false,
      properties: { city: { enum: ["Verona", "Venice"] } },
    },
  };
  const request = {
    model, input: [{ role: "user", content: "Weather?" }], tools: [tool], tool_choice: "required",
    parallel_tool_calls: false, max_output_tokens: 200, seed: 3,
  };
  const once = await client.responses.parse(request);
  const [call] = once.output;
  assert.equal(call.type, "function_call");
  assert.ok(["Verona", "Venice"].includes(call.parsed_arguments.city));
  const streamed = client.responses.stream(request);
  let snapshot = "";
  streamed.on("response.function_call_arguments.delta", (event) => { snapshot = event.snapshot; });
  assert.equal((await streamed.finalResponse()).output[0].arguments, call.arguments);
  assert.equal(snapshot, call.arguments);
  const result = { type: "function_call_output", call_id: call.call_id, output: "Rain." };
  const after = await client.responses.create({
    model, tools: [tool], input: [result], previous_response_id: once.id, max_output_tokens: 5,
  });
  assert.ok(after.usage.input_tokens > once.usage.input_tokens, "calls and results are read");
}

async function responsesFail(client, model) {
  const bad = await failure(OpenAI.BadRequestError, client.responses.create({ model, input: "x", temperature: -1 }));
  assert.equal(bad.param, "temperature");
  const gone = await failure(OpenAI.BadRequestError,
    client.responses.create({ model, input: "x", previous_response_id: "resp_none" }));
  assert.equal(gone.code, "previous_response_not_found");
  const search = await failure(OpenAI.BadRequestError,
    client.responses.create({ model, input: "x", tools: [{ type: "web_search" }] }));
  assert.equal(search.param, "tools[0].type");
  await failure(OpenAI.BadRequestError, client.responses.create({ model, input: "x", background: true }));
}

async function batches(client, model) {
  const line = (id, body) => JSON.stringify({ custom_id: id, method: "POST", url: "/v1/chat/completions", body });
  const body = { model, messages: [{ role: "user", content: "Who are you?" }], max_tokens: 6, temperature: 0 };
  const text = [line("a", body), line("b", { messages: 7 })].join("\n");
  const file = await client.files.create({ file: await toFile(Buffer.from(text), "in.jsonl"), purpose: "batch" });
  assert.equal(file.filename, "in.jsonl");
  assert.equal(file.bytes, text.length);
  assert.equal(await (await client.files.content(file.id)).text(), text);
  const ids = [];
  for await (const listed of client.files.list({ limit: 1 })) ids.push(listed.id);
  assert.deepEqual(ids, [file.id]);
  let batch = await client.batches.create({ input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h" });
  for (let i = 0; !["completed", "failed", "expired", "cancelled"].includes(batch.status); ++i) {
    assert.ok(i < 1200, `the batch is ${batch.status}`);
    await new Promise((done) => setTimeout(done, 50));
    batch = await client.batches.retrieve(batch.id);
  }
  assert.equal(batch.status, "completed");
  assert.deepEqual(batch.request_counts, { total: 2, completed: 1, failed: 1 });
  const answer = JSON.parse(await (await client.files.content(batch.output_file_id)).text());
  const alone = await client.chat.completions.create(body);
  assert.equal(answer.response.body.choices[0].message.content, alone.choices[0].message.content);
  const error = JSON.parse(await (await client.files.content(batch.error_file_id)).text());
  assert.equal(error.response.status_code, 400);
  const all = [];
  for await (const listed of client.batches.list()) all.push(listed.id);
  assert.deepEqual(all, [batch.id]);
  await failure(OpenAI.ConflictError, client.batches.cancel(batch.id));
  assert.equal((await client.files.delete(file.id)).deleted, true);
  await failure(OpenAI.NotFoundError, client.files.retrieve(file.id));
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
  const request = { model, max_tokens: 900, ignore_eos: true, messages: [{ role: "user", content: "Speak at length." }] };
  const stream = await client.chat.completions.create({ ...request, stream: true });
  let n = 0;
  for await (const _ of stream) if (++n === 3) break;  // leaving the loop cancels
  const events = await client.responses.create(
    { model, max_output_tokens: 900, ignore_eos: true, input: "Speak at length.", stream: true });
  for await (const event of events) if (event.type === "response.output_text.delta") break;
  const abort = new AbortController();
  const whole = client.chat.completions.create(request, { signal: abort.signal });
  setTimeout(() => abort.abort(), 100);
  await failure(OpenAI.APIUserAbortError, whole);
  await comesToRest(url);
}

await withServer(odmoe, modelFile, async (url) => {
  const client = new OpenAI({ baseURL: url + "/v1", apiKey: KEY, maxRetries: 0 });
  const model = (await client.models.list()).data[0].id;
  for (const step of [completions, chat, formats, tools, responses, responsesInForm, responsesFail, batches, errors, cancels]) await step(client, model, url);
  console.log("OpenAI's npm client works unchanged");
});
