import { describe, expect, test } from "bun:test"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as Effect from "effect/Effect"
import { dirname, join } from "node:path"
import { catalogue } from "../../src/cluster/catalogue.ts"
import { commandLine } from "../../src/cluster/cli/commandLine.ts"
import {
  configuredOptions,
  ownedCommand,
  readOwned,
  type WorkerOptions
} from "../../src/cluster/cli/WorkerOptions.ts"
import manifest from "../../package.json" with { type: "json" }
import { FakeBalancer } from "../client/support/FakeBalancer.ts"
import { root } from "../support/repository.ts"
import { Reason } from "../../src/domain/Outcome.ts"
import { resolveConfig } from "../../src/domain/config/resolveConfig.ts"
import { nodeCredential } from "../../src/protocol/credentials.ts"
import { assert } from "../../src/structures/assert.ts"
import { noInput, run, spawn } from "./support/commands.ts"

describe("the command line", () => {
  test.each([
    [[], /^DESCRIPTION/],
    [
      ["clutser"],
      /^Unknown subcommand "clutser".* Did you mean this\? cluster\nCommands: cluster, balancer, worker, client, status, drain, explain, replay-live, simulate, trace, policies, config\n$/
    ],
    [
      ["cluster", "--prot", "1"],
      /^Unrecognized flag: --prot.* Did you mean this\? --port\nTry: bun run cluster --help\n$/
    ],
    [
      ["simulate", "--polices", "simple"],
      /^Unrecognized flag: --polices.* Did you mean this\? --policies\nTry: bun run simulate --help\n$/
    ],
    [
      ["simulate", "trace.jsonl", "--polices", "simple"],
      /^Unknown subcommand "trace.jsonl".*\nUnrecognized flag: --polices.*\nTry: bun run simulate --help\n$/
    ],
    [["client"], /^Missing required argument: prompt\nTry: bun run client --help\n$/],
    [["client", "--timeout", "5", "hello"], /^--timeout must be a time with its unit/],
    [["client", "--timeout", "0 seconds", "hello"], /^--timeout must be a time .* from "1 milli"/],
    [
      ["client", "--timeout", "100000 weeks", "hello"],
      /^--timeout must be .*\(millis, seconds, minutes, hours\)/
    ],
    [
      ["client", "--max-tokens", "99999999999", "hello"],
      /^Invalid value for flag --max-tokens: .* 1000000\n/
    ],
    [["client", ""], /^The prompt is empty\.\n$/],
    [["status", "--name", "o p s"], /^Invalid value for flag --name: "o p s"/],
    [["client", "--name", "", "hi"], /^Missing value for flag --name\. Expected: 1 to 128 letters/],
    [["worker", "--name", ""], /^Missing value for flag --name\. Expected: 1 to 128 letters/],
    [
      ["replay-live", "--address", "nowhere", "test/fixtures/small.jsonl"],
      /^--address: "nowhere" is not an address/
    ],
    [
      ["client", "--address", "nowhere", "hello"],
      /^--address: "nowhere" is not an address: expected host:port/
    ],
    [
      ["client", "--max-tokens", "0", "hello"],
      /^Invalid value for flag --max-tokens: "0". Expected: at least 1 and at most 1000000\n/
    ],
    [["replay-live"], /^Missing required argument: trace\n/],
    [["replay-live", "absent.jsonl"], /^absent.jsonl cannot be read: /],
    [
      ["replay-live", "--speed", "0", "x"],
      /^Invalid value for flag --speed: "0". Expected: at least 0\.001 and at most 1000\n/
    ],
    [
      ["cluster", "--port", "70000", "--workers", "many"],
      /^listen.port must be .*\(--port\).*\nmodels\[0\].workers must be .*\(--workers\)/
    ],
    [["worker", "--model", "absent"], /^--model must be one of sim\.\n$/],
    [
      ["worker", "--name", "my worker"],
      /^Invalid value for flag --name: "my worker"\. Expected: 1 to 128 letters, digits and /
    ],
    [["worker", "--time-scale", "0"], /^models\[0\].engine.timeScale must be .*\(--time-scale\)/],
    [["config", "check", "--config", "absent.ts"], /^absent.ts does not exist/],
    [
      ["policies", "show", "rond-robin"],
      /^There is no policy "rond-robin"\. Did you mean "round-robin"\?\n$/
    ],
    [["policies", "show", "fair"], /^"fair" is a pipeline, a preset of several policies: /],
    [
      ["replay-live", "x", "--slo-ttft", "0"],
      /^Invalid value for flag --slo-ttft: "0".*a time above 0, as in 5s/
    ],
    [
      ["simulate", "--slo-ttft", "soon"],
      /^Invalid value for flag --slo-ttft: "soon".*a time of at least 1 ms, as in 5s/
    ]
  ])("%j is refused on standard error with exit code 2", async (args, err) => {
    const ran = await run(args)
    expect(ran).toMatchObject({ exitCode: 2, out: "" })
    expect(ran.err).toMatch(err)
  })

  test("--version and --help are data", () => {
    expect(spawn(["--version"])).toEqual({ exitCode: 0, out: `parallax ${manifest.version}\n`, err: "" })
    const help = spawn(["cluster", "--help"], { NO_COLOR: "1" })
    expect(help).toMatchObject({ exitCode: 0, err: "" })
    expect(help.out).toContain("--http-port")
    expect(help.out).not.toContain("\u001B[")
  })

  test("config print is a document that checks out, and says where values come from", async () => {
    const printed = await run(["config", "print"], { PARALLAX_LISTEN_PORT: "7777" })
    expect(printed).toMatchObject({ exitCode: 0, err: "" })
    expect(JSON.parse(printed.out)).toMatchObject({ listen: { port: 7777 }, models: [{ name: "sim" }] })
    const origins = await run(["config", "print", "--origin"], { PARALLAX_LISTEN_PORT: "7777" })
    expect(origins.out).toMatch(/^listen\.port = 7777 +# PARALLAX_LISTEN_PORT$/m)
    expect(await run(["config", "check"])).toMatchObject({ exitCode: 0, err: "" })
    const broken = spawn(["config", "check"], { PARALLAX_LISTEN_PORT: "many" })
    expect(broken).toMatchObject({
      exitCode: 2,
      out: "",
      err: expect.stringMatching(/^listen\.port must be /)
    })
  })

  test("config check says what has no effect, of what is valid", async () => {
    expect(await run(["config", "check"], { PARALLAX_MODELS_0_WORKERS_MAX: "8" })).toEqual({
      exitCode: 0,
      out: "The configuration is valid; cluster.config.ts was read.\n",
      err: "models[0].workersMax has no effect: the policy of pipeline.scaling does not follow the load (PARALLAX_MODELS_0_WORKERS_MAX). Name one there that does (`bun run policies list`), or leave this out.\n"
    })
  })

  test("config key is the credential of one node, and wants a secret to make it of", async () => {
    const secret = "0123456789abcdef"
    const claim = { role: "worker", identity: "w1" } as const
    expect(await run(["config", "key", "worker", "w1"], { PARALLAX_AUTH_WORKERS: secret })).toMatchObject({
      exitCode: 0,
      err: "",
      out: `${nodeCredential(secret, claim)}\n`
    })
    const key = nodeCredential(secret, { role: "worker", identity: "w1" })
    expect(await run(["config", "key", "worker", "w2"], { PARALLAX_AUTH_WORKERS: key })).toMatchObject({
      exitCode: 2,
      err: "auth.workers holds the key of one peer: give the secret that keys are made of.\n"
    })
    expect(await run(["config", "key", "worker", "w 2"], { PARALLAX_AUTH_WORKERS: secret })).toMatchObject({
      exitCode: 2,
      err: expect.stringMatching(/^The name must be 1 to 128 letters/)
    })
    expect(await run(["config", "key", "admin", "x"])).toMatchObject({
      exitCode: 2,
      out: "",
      err: "auth.admins is empty: every admin is let in without a credential.\n"
    })
  })

  test("nobody is let in by the key of one peer: a cluster and a balancer say so, and do not start", async () => {
    const key = nodeCredential("0123456789abcdef", { role: "client", identity: "c1" })
    for (const command of ["cluster", "balancer"])
      expect(
        await run([command, "--port", "0", "--http-port", "0"], { PARALLAX_AUTH_CLIENTS: key })
      ).toMatchObject({
        exitCode: 2,
        out: "",
        err: expect.stringContaining(
          "auth.clients holds the key of one peer: give the secret that keys are made of."
        )
      })
  })

  test("a client without a cluster fails with exit code 1, and with --json says so in one document", async () => {
    const address = ["--address", "127.0.0.1:1"]
    const failed = /^cannot connect to the balancer at 127\.0\.0\.1:1: .* Start it with: bun run cluster\n$/
    expect(await run(["client", ...address, "hello"])).toEqual({
      exitCode: 1,
      out: "",
      err: expect.stringMatching(failed)
    })
    expect(await run(["replay-live", "test/fixtures/conversations.jsonl.gz", ...address])).toMatchObject({
      exitCode: 1,
      err: expect.stringMatching(failed)
    })
    const json = spawn(["client", ...address, "--json", "hello"])
    expect(json).toMatchObject({ exitCode: 1, err: expect.stringMatching(failed) })
    expect(JSON.parse(json.out)).toMatchObject({ outcome: "error", reason: "not_connected", tokens: 0 })
  })

  test("what a client asks wrongly is no failure to connect", async () => {
    const balancer = new FakeBalancer()
    const { host, port } = balancer.address
    const asked = ["client", "--json", "--address", `${host}:${port}`, "--tenant", "a b", "hello"]
    expect(await run(asked)).toEqual({
      exitCode: 2,
      out: "",
      err: "tenant must be 1 to 128 visible ASCII characters\n"
    })
    await balancer.close()
  })

  test("a client that is turned away is not told to start a cluster", async () => {
    const balancer = new FakeBalancer({ refuse: { refuse: "unauthorized", message: "who are you" } })
    const address = `127.0.0.1:${balancer.address.port}`
    expect(await run(["client", "--address", address, "hello"])).toEqual({
      exitCode: 1,
      out: "",
      err: `cannot connect to the balancer at ${address}: goodbye: unauthorized (who are you). Set PARALLAX_AUTH_CLIENTS, or for an administrator PARALLAX_AUTH_ADMINS, to a credential that it knows.\n`
    })
    await balancer.close()
  })

  test("a client of the HTTP listener is told which address to use", async () => {
    await using server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("") })
    expect(await run(["client", "--address", `127.0.0.1:${server.port}`, "hello"])).toEqual({
      exitCode: 1,
      out: "",
      err: `cannot connect to the balancer at 127.0.0.1:${server.port}: an HTTP server answers there, use the TCP address of the cluster.\n`
    })
  })

  test("a client that is interrupted in the middle of its answer ends the line", async () => {
    const begun = Promise.withResolvers<void>()
    const ended = Promise.withResolvers<void>()
    const balancer = new FakeBalancer({
      onRequest: (received, balancer) => {
        balancer.accept(received)
        balancer.token(received, "a")
      }
    })
    let err = ""
    const shell = {
      environment: {},
      directory: root,
      input: noInput,
      out: async () => {
        begun.resolve()
        return true
      },
      err: (text: string) => void (err += text),
      errColumns: undefined
    }
    const { host, port } = balancer.address
    const fiber = Effect.runFork(commandLine(["client", "--address", `${host}:${port}`, "hello"], shell))
    await begun.promise
    fiber.addObserver(() => ended.resolve())
    fiber.interruptUnsafe()
    await ended.promise
    await balancer.close()
    expect(err).toBe("\n")
  })

  test("a client whose reader went away calls its request off, and has not failed", async () => {
    const balancer = new FakeBalancer({
      onRequest: (received, balancer) => {
        balancer.accept(received)
        balancer.token(received, "a")
        balancer.token(received, "b")
        void balancer
          .until(() => received.cancels === 1)
          .then(() => balancer.error(received, Reason.cancelled))
      }
    })
    let err = ""
    const read: Array<string> = []
    const shell = {
      environment: {},
      directory: root,
      input: noInput,
      out: async (text: string) => read.push(text) < 1,
      err: (text: string) => void (err += text),
      errColumns: undefined
    }
    const { host, port } = balancer.address
    await Effect.runPromise(commandLine(["client", "--address", `${host}:${port}`, "hello"], shell))
    await balancer.close()
    expect(read).toEqual(["a"])
    expect(err).toBe("")
  })

  test.each([[["policies", "list"]], [["cluster", "--help"]], [["--version"]], [["--completions", "bash"]]])(
    "output of %j that cannot be written is a failure",
    (args) => {
      const { exitCode, stderr } = Bun.spawnSync([process.execPath, "src/cluster/main.ts", ...args], {
        cwd: root,
        stdout: Bun.file("/dev/full")
      })
      expect(stderr.toString()).toStartWith("Standard output cannot be written: ENOSPC")
      expect(exitCode).toBe(1)
    }
  )

  test("progress is shown on a terminal that does not know its size", async () => {
    let shown = ""
    const decoder = new TextDecoder()
    const told = Promise.withResolvers<void>()
    const simulate = 'simulate --generate rate=20,requests=30 --policies random --jobs 1; echo "exit code $?"'
    const child = Bun.spawn(
      ["sh", "-c", `stty cols 0 rows 0; "$0" src/cluster/main.ts ${simulate}`, process.execPath],
      {
        cwd: root,
        terminal: {
          data: (_, bytes) => {
            shown += decoder.decode(bytes, { stream: true })
            if (shown.includes("exit code")) told.resolve()
          }
        }
      }
    )
    await Promise.all([child.exited, told.promise])
    child.terminal?.close()
    expect(shown).toContain("\r1/2 replays  random: ")
    expect(shown).toEndWith("exit code 0\r\n")
  }, 20_000)

  test("a command that waits for nothing does not end as if all were well", () => {
    const program = `import * as Effect from "effect/Effect"
      import { runMain } from "./src/cluster/cli/runMain.ts"
      runMain(Effect.never, { endless: false, orderly: false })`
    const { exitCode, stderr } = Bun.spawnSync([process.execPath, "-e", program], { cwd: root })
    expect(stderr.toString()).toContain("The command waits for nothing.")
    expect(exitCode).toBe(1)
  })

  test("a worker that finds no balancer says where it looked", async () => {
    const child = Bun.spawn(
      [process.execPath, "src/cluster/main.ts", "worker", "--name", "w1", "--address", "127.0.0.1:1"],
      { cwd: root, stderr: "pipe", stdout: "ignore" }
    )
    const { value } = await child.stderr.getReader().read()
    child.kill("SIGKILL")
    expect(new TextDecoder().decode(value)).toStartWith("worker w1 lost the balancer at 127.0.0.1:1: ")
  })
})

describe("worker", () => {
  test("says that its credential is refused, and what to mend, also when a cluster has started it", async () => {
    const refuse = { refuse: "unauthorized", message: "not authorised as worker" } as const
    const balancer = new FakeBalancer({ refuse })
    const { host, port } = balancer.address
    const address = `${host}:${port}`
    const { config } = configOf({})
    const { command, env } = ownedCommand({
      ...configuredOptions(config, config.models[0]!),
      name: "w1",
      role: "both",
      address,
      credential: "another one"
    })
    const child = Bun.spawn([...command], {
      cwd: root,
      env: { ...process.env, ...env },
      stdin: "pipe",
      stderr: "pipe",
      stdout: "ignore"
    })
    const { value } = await child.stderr.getReader().read()
    child.kill("SIGKILL")
    await balancer.close()
    expect(new TextDecoder().decode(value)).toBe(
      `worker w1 lost the balancer at ${address}: goodbye: unauthorized (not authorised as worker); the first credential of auth.workers (PARALLAX_AUTH_WORKERS) must be one of that balancer\n`
    )
  })

  test("does not listen, and is not held to the rules for who does", async () => {
    const ran = await run(["worker", "--address", "nowhere"], { PARALLAX_LISTEN_HOST: "0.0.0.0" })
    expect(ran).toMatchObject({ exitCode: 2, out: "", err: expect.stringMatching(/^--address: /) })
  })

  test("has its flags checked against the model that it serves", async () => {
    const file = join(mkdtempSync(join(tmpdir(), "parallax-worker-")), "two.json")
    writeFileSync(file, JSON.stringify({ models: [{}, { name: "b", engine: { maxSequences: 64 } }] }))
    const worker = ["worker", "--config", file, "--batch-tokens", "100", "--address", "nowhere"]
    expect((await run([...worker, "--model", "b"])).err).toMatch(/^--address: /)
    expect((await run(worker)).err).toMatch(/^models\[0\]\.engine\.batchTokens must be more/)
    rmSync(dirname(file), { recursive: true })
  })
})

describe("replay-live", () => {
  test("sends a trace through a cluster of its own, whose workers counted the same, and every figure is explained", async () => {
    const flags = ["--limit", "60", "--time-scale", "20", "--workers", "2", "--slo-ttft", "60000"]
    const { exitCode, out, err } = await run([
      "replay-live",
      "test/fixtures/small.jsonl",
      ...flags,
      "--against-replay",
      "--json"
    ])
    expect({ exitCode, err }).toEqual({ exitCode: 0, err: "" })
    expect(out.trimEnd()).not.toContain("\n")
    const report = JSON.parse(out)
    expect(report).toMatchObject({
      sent: 60,
      done: 60,
      failed: 0,
      rejected: 0,
      ttftMs: { count: 60 },
      goodput: { met: 60, share: 1 },
      agreement: { equal: true, differences: [], surplus: [], lost: [] },
      againstReplay: { live: { done: 60, goodput: 1 }, replayed: { done: 60, goodput: 1 } }
    })
    expect(Object.keys(report.workers)).toHaveLength(2)
    expect(report.tenants.map(({ tenant }: { readonly tenant: string }) => tenant).toSorted()).toEqual([
      "t0",
      "t1",
      "t2"
    ])
    expect(report.prefixHitRate).toBeWithin(0.01, 1)
    const page = await Bun.file(join(root, "docs/replay.md")).text()
    const keys = keysIn({ ...report, workers: Object.values(report.workers) })
    expect(keys.filter((key) => !page.includes(`\`${key}\``))).toEqual([])
  })

  test.each([
    [
      "test/fixtures/broken.jsonl",
      1,
      /^test\/fixtures\/broken\.jsonl:2:in: must be a whole number from 1 to 4294967295\n$/
    ],
    [
      "test/fixtures/small.jsonl --against-replay --address 127.0.0.1:1",
      2,
      /^--against-replay is for a cluster/
    ],
    [
      "test/fixtures/small.jsonl --address 127.0.0.1:1 --preset 8b-h100 --workers 8 --config cluster.config.ts",
      2,
      /^--config, --workers, --preset: for a cluster started for the purpose\. The one at 127\.0\.0\.1:1 is/
    ],
    [
      "test/fixtures/broken.jsonl --skip-bad",
      2,
      /^test\/fixtures\/broken\.jsonl: skipped 1 line that did not keep to the format\.\ntest\/fixtures\/broken\.jsonl has no requests\.\n$/
    ],
    ["test/fixtures/small.jsonl --workers 0", 2, /^A cluster started for a replay needs workers/],
    ["test/fixtures/small.jsonl --workers 1 --model absent", 2, /^--model must be one of sim\.\n$/],
    [
      "test/fixtures/small.jsonl --placement nearest",
      2,
      /^pipeline\.placement\.policy must be the name of a policy.*\(--placement\)/
    ]
  ])("%s fails", async (args, exitCode, err) => {
    const ran = await run(["replay-live", ...args.split(" ")])
    expect(ran).toMatchObject({ exitCode, out: "" })
    expect(ran.err).toMatch(err)
  })
})

test("what a parent hands to a worker arrives as it was, and not on the command line", () => {
  const options: Omit<WorkerOptions, "owned" | "json"> = {
    name: "sim-0",
    model: "sim",
    role: "both",
    address: "127.0.0.1:7420",
    credential: "0123456789abcdef",
    engine: {
      kind: "simulated",
      preset: "8b-h100",
      timeScale: 30,
      burnCpu: false,
      maxSequences: 128,
      batchTokens: 2048,
      kvCapacityTokens: undefined,
      transferGbps: 100,
      capacity: 7,
      faults: {
        slowFactor: 1,
        failFastShare: 0,
        loseHeartbeats: false,
        stallAfterMs: undefined,
        stallForMs: 5000,
        crashAfterMs: 10
      }
    },
    heartbeatMs: 250,
    lostMs: 2000,
    drainTimeoutMs: 30_000,
    log: { level: "info", format: "text" }
  }
  const { name, command, env } = ownedCommand(options)
  expect(name).toBe("sim-0")
  expect(command).toEqual([process.execPath, join(root, "src/cluster/main.ts"), "worker", "--owned"])
  expect(readOwned(env)).toEqual({ ...options, owned: true, json: false })
  expect(readOwned({})).toBeUndefined()
})

test("workers beat at the pace of their cluster, whoever starts them", () => {
  const { config } = configOf({ cluster: { timeScale: 5 } })
  expect(configuredOptions(config, config.models[0]!).heartbeatMs).toBe(50)
})

const configOf = (values: unknown) => {
  const resolved = resolveConfig(catalogue, [{ values, origin: () => "" }], false)
  assert(resolved._tag === "Valid", "the configuration is valid")
  return resolved
}

/** Every key of a document, at any depth. */
const keysIn = (value: unknown): ReadonlyArray<string> =>
  typeof value !== "object" || value === null
    ? []
    : Object.entries(value).flatMap(([key, inner]) => [
        ...(Array.isArray(value) ? [] : [key]),
        ...keysIn(inner)
      ])
