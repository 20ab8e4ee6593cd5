// What the scripts of this folder share: the client's package, a server of the bundled model, and failures.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

export const KEY = "a-key-of-the-test";

// The package from the folder where `npm ci` put it; ends with status 77 when it is not there.
export function client(folder, name) {
  try {
    return createRequire(resolve(folder, "package.json"))(name);
  } catch (error) {
    if (error.code !== "MODULE_NOT_FOUND") throw error;
    console.log(`npm's ${name} is not installed: skipped (./dev clients installs it)`);
    process.exit(77);
  }
}

// odmoe serve on a free port: its process and address.
export async function serve(odmoe, modelFile, ...options) {
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
export async function failure(kind, promise) {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof kind, `${error} is not ${kind.name}`);
    return error;
  }
  throw new Error(`it should fail with ${kind.name}`);
}

// Waits until nothing is generated any more.
export async function comesToRest(url) {
  const running = async () => (await (await fetch(url + "/health")).json()).requests.running;
  for (let i = 0; (await running()) > 0; ++i) {
    assert.ok(i < 200, "what was cancelled goes on");
    await new Promise((done) => setTimeout(done, 50));
  }
}

// A server with the key, the steps with its address one after the other, and its end in order.
export async function withServer(odmoe, modelFile, run) {
  const folder = await mkdtemp(join(tmpdir(), "odmoe-batches-"));
  const [server, url] = await serve(odmoe, modelFile, "--api-key", KEY, "--batch-dir", folder);
  try {
    await run(url);
    const ended = new Promise((done) => server.once("exit", done));
    server.kill("SIGTERM");
    assert.equal(await ended, 0, "the server ends in order");
  } finally {
    server.kill("SIGKILL");
    await rm(folder, { recursive: true, force: true });
  }
}
