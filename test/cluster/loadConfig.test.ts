import { afterAll, beforeAll, describe, expect, test } from "bun:test"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import { TestClock } from "effect/testing"
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Shell } from "../../src/cluster/cli/Shell.ts"
import { it } from "../support/effectTest.ts"
import { noInput, spawn } from "./support/commands.ts"
import { type ConfigSources, loadConfig } from "../../src/cluster/loadConfig.ts"

const SECRET = "0123456789abcdef0123"
const modes: Readonly<Record<string, number>> = { "private.ts": 0o600, "group.ts": 0o640 }
let directory: string

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "parallax-config-"))
  const secret = `export default { auth: { clients: ["${SECRET}"] } }`
  const files: Record<string, string> = {
    "cluster.config.ts": 'export default { cluster: { name: "ts" }, listen: { port: 1 as number } }',
    "a.json": '{ "cluster": { "name": "json" } }',
    "a.yaml": "cluster:\n  name: yaml\nlisten:\n  port: 3\n",
    "marked.json": '\ufeff{ "cluster": { "name": "marked" } }',
    "marked.yaml": "\ufeffcluster:\n  name: marked\n",
    "broken.json": "{",
    "broken.ts": "export default {\n  cluster: [ }\n",
    "getter.ts": 'export default { get listen() { throw new Error("out of tea") } }',
    "never.ts": "await new Promise(() => {}); export default {}",
    "long.json": "{}",
    "exits.ts": "process.exit(0)",
    "throws.ts": 'throw new Error("out of coffee")',
    "empty.ts": "export const config = {}",
    "wrong.ts": "export default { lisen: {}, drain: { timeout: 5 } }",
    "secret.ts": secret,
    "escaped.json": '{ "auth": { "clients": ["\\"quoted\\"-0123456789"] } }',
    "salt.ts": `export default { prefixes: { salt: ["${SECRET}"] } }`,
    "private.ts": secret,
    "group.ts": secret,
    "fromEnvironment.ts": 'export default { auth: { clients: ["0123456789abcdef" + "0123"] } }'
  }
  for (const [name, text] of Object.entries(files))
    writeFileSync(join(directory, name), text, { mode: modes[name] ?? 0o644 })
  mkdirSync(join(directory, "within"))
  truncateSync(join(directory, "long.json"), 2 ** 24 + 1)
  symlinkSync("/dev/null", join(directory, "device.json"))
})
afterAll(() => rmSync(directory, { recursive: true }))

const loading = (sources: ConfigSources, environment: Record<string, string>, at: string) => {
  const shell = {
    environment,
    directory: at,
    input: noInput,
    out: async () => true,
    err: () => undefined,
    errColumns: undefined
  }
  return Effect.result(Effect.provideService(loadConfig(sources), Shell, shell))
}

const load = async (sources: ConfigSources, environment: Record<string, string> = {}, at = directory) => {
  const result = await Effect.runPromise(loading(sources, environment, at))
  return Result.isSuccess(result) ? result.success : result.failure
}

describe("the file", () => {
  test.each([
    [undefined, {}, "ts"],
    ["a.json", {}, "json"],
    ["a.yaml", {}, "yaml"],
    ["marked.json", {}, "marked"],
    ["marked.yaml", {}, "marked"],
    [undefined, { PARALLAX_CONFIG: "a.json" }, "json"],
    ["a.yaml", { PARALLAX_CONFIG: "a.json" }, "yaml"],
    ["a.yaml", { PARALLAX_CLUSTER_NAME: "variable" }, "variable"]
  ])("%p with %j gives the cluster the name %p", async (file, environment, name) => {
    expect(await load({ file }, environment)).toMatchObject({ config: { cluster: { name } } })
  })

  test("need not be there when nobody named it", async () => {
    expect(await load({}, {}, tmpdir())).toMatchObject({ config: { cluster: { name: "parallax" } } })
  })

  test.each([
    ["absent.ts", "absent.ts does not exist. Give --config the path of a file that does."],
    ["broken.json", expect.stringMatching(/^broken\.json cannot be read: JSON/)],
    ["broken.ts", "broken.ts:2:14 cannot be read: Unexpected }"],
    ["throws.ts", "throws.ts cannot be read: out of coffee"],
    ["getter.ts", "getter.ts cannot be read: out of tea"],
    ["within", "within is a directory. Give --config the path of a file."],
    ["device.json", "device.json is a pipe or a device. Give --config the path of a file."],
    ["long.json", "long.json is longer than 16 MiB. Give --config the path of a configuration."],
    ["", "--config is empty. Give it the path of a file, or leave it out."],
    ["empty.ts", "empty.ts exports no configuration. Write: export default defineConfig({ … })"],
    [
      "wrong.ts",
      'lisen is not an option (wrong.ts). Did you mean listen?\ndrain.timeout must be a time with its unit from "0 millis" to "1 hour", got the number 5 (wrong.ts). Say which unit: "5 millis" or "5 seconds".'
    ],
    [
      "secret.ts",
      "secret.ts holds a secret and others may read it. Run chmod 600 secret.ts, or set the variable of the option in its place, as PARALLAX_AUTH_CLIENTS."
    ],
    ["group.ts", expect.stringMatching(/^group\.ts holds a secret and others may read it/)],
    ["escaped.json", expect.stringMatching(/^escaped\.json holds a secret and others may read it/)],
    ["salt.ts", expect.stringMatching(/^salt\.ts holds a secret and others may read it/)]
  ])("%s is refused with exit code 2", async (file, message) => {
    expect(await load({ file })).toMatchObject({ _tag: "CliFailure", exitCode: 2, message })
  })

  test.each([
    ["absent.ts", "absent.ts does not exist. Give PARALLAX_CONFIG the path of a file that does."],
    ["", "PARALLAX_CONFIG is empty. Give it the path of a file, or leave it out."]
  ])("that PARALLAX_CONFIG=%s names is refused by this name", async (PARALLAX_CONFIG, message) => {
    expect(await load({}, { PARALLAX_CONFIG })).toMatchObject({ exitCode: 2, message })
  })

  it(
    "that does not finish loading is refused",
    Effect.fnUntraced(function* () {
      const waiting = yield* Effect.forkChild(loading({ file: "never.ts" }, {}, directory))
      yield* TestClock.adjust("10 seconds")
      const result = yield* Fiber.join(waiting)
      expect(Result.isFailure(result) && result.failure).toMatchObject({
        exitCode: 2,
        message: "never.ts did not finish loading within 10 seconds. It awaits something that does not come."
      })
    })
  )

  test("that ends the process does not pass for a valid one", () => {
    const file = join(directory, "exits.ts")
    expect(spawn(["config", "check", "--config", file])).toEqual({
      exitCode: 2,
      out: "",
      err: `${file} ended the process while it was loaded. Leave out what calls process.exit.\n`
    })
  })

  test("may hold a credential that only its owner can read, or that comes from elsewhere", async () => {
    expect(await load({ file: "private.ts" })).toHaveProperty("config")
    expect(await load({ file: "fromEnvironment.ts" })).toHaveProperty("config")
  })
})

test("a flag goes before a variable, and a variable before the file", async () => {
  const flags = [{ keys: ["cluster", "name"], value: "flag", origin: "--name" }]
  const environment = { PARALLAX_CLUSTER_NAME: "variable", PARALLAX_LISTEN_PORT: "2" }
  const loaded = await load({ file: "a.yaml", flags }, environment)
  expect(loaded).toMatchObject({ config: { cluster: { name: "flag" }, listen: { port: 2 } } })
})

test("a slip in a variable is reported beside what is wrong in the file", async () => {
  const failure = await load({ file: "wrong.ts" }, { PARALLAX_LISTEN_PROT: "1" })
  expect(failure).toMatchObject({
    exitCode: 2,
    message: expect.stringMatching(/^PARALLAX_LISTEN_PROT .*\nlisen .*\ndrain/)
  })
})
