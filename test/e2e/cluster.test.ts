import { afterAll, beforeAll, describe, expect, test } from "bun:test"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import {
  type Client,
  connect,
  connectAdmin,
  type Done,
  type Ending,
  type Generation
} from "../../src/client/index.ts"
import { presets } from "../../src/engines/simulated/CostModel.ts"
import { systemTimers } from "../../src/protocol/Timers.ts"
import { run } from "../cluster/support/commands.ts"
import { ClusterProcess, eventually } from "../support/ClusterProcess.ts"
import { elapse } from "../support/elapse.ts"
import { root } from "../support/repository.ts"

/** What a caller saw of one request. */
interface Seen {
  readonly indices: ReadonlyArray<number>
  readonly ending: Ending
}

const consume = async (generation: Generation, streams: () => void = () => {}): Promise<Seen> => {
  const indices: Array<number> = []
  for await (const token of generation) {
    if (indices.length === 0) streams()
    for (let i = 0; i < token.count; i++) indices.push(token.index + i)
  }
  return { indices, ending: await generation.ended }
}

/**
 * Every request ended exactly once, no token is missing or repeated, an answer that is complete has all of them, and only one that had
 * begun ends in an error.
 */
const expectNothingLost = (seen: ReadonlyArray<Seen>, maxTokens: number): void => {
  for (const { indices, ending } of seen) {
    expect(indices).toEqual(indices.map((_, index) => index))
    if (ending.outcome === "done") expect([ending.tokens, indices.length]).toEqual([maxTokens, maxTokens])
    else {
      expect(ending).toMatchObject({ outcome: "error", delivered: indices.length, retryable: true })
      expect(indices.length).toBeGreaterThan(0)
    }
  }
}

let cluster: ClusterProcess
let client: Client
beforeAll(async () => {
  cluster = await ClusterProcess.start([], { PARALLAX_FAULTS_ENABLED: "true" })
  client = await connect({ address: cluster.ready.tcp })
}, 30_000)
afterAll(async () => {
  await client.close()
  await cluster.stop()
}, 30_000)

const snapshot = async () => {
  const admin = await connectAdmin({ address: cluster.ready.tcp })
  const state = await admin.snapshot()
  await admin.close()
  return state
}
const allReady = () =>
  eventually("all workers are ready", async () => {
    const { workers } = await snapshot()
    return workers.length === 4 && workers.every(({ state }) => state === "ready") ? workers : undefined
  })

const start = (count: number, maxTokens: number): ReadonlyArray<Generation> =>
  Array.from({ length: count }, (_, i) => client.generate({ prompt: `request ${i}`, maxTokens }))

describe("a cluster started from the command line", () => {
  test("streams an answer, and says who made it", async () => {
    const { indices, ending } = await consume(client.generate({ prompt: "hello", maxTokens: 20 }))
    expect(indices).toHaveLength(20)
    expect(ending).toMatchObject({
      outcome: "done",
      tokens: 20,
      attempts: 1,
      worker: expect.stringMatching(/^sim-[0-3]$/)
    })
  })

  test("loses nothing when a worker is killed during 100 streams, and has it back", async () => {
    const before = await allReady()
    const maxTokens = 120
    let started = 0
    const generations = start(100, maxTokens)
    const seen = generations.map((generation) => consume(generation, () => started++))
    // Half of them stream, the others wait for their first token, when the worker dies.
    await eventually("50 streams", () => (started >= 50 ? started : undefined))
    seen.push(...start(40, maxTokens).map((generation) => consume(generation)))
    const killedMs = systemTimers.nowMs()
    process.kill(cluster.workerPids()[1]!, "SIGKILL")
    expectNothingLost(await Promise.all(seen), maxTokens)
    expect(client.protocolViolations).toBe(0)
    const after = await allReady()
    const reborn = after.filter(
      ({ name, incarnation }) => incarnation !== before.find((worker) => worker.name === name)!.incarnation
    )
    expect(reborn).toHaveLength(1)
    console.log(
      `  killed ${reborn[0]!.name}: ready again at most ${(systemTimers.nowMs() - killedMs).toFixed(0)} ms after the kill`
    )
    await eventually("the new worker works", async () => {
      await Promise.all(start(8, 2).map((generation) => consume(generation)))
      const { workers } = await snapshot()
      return workers.find(({ name, load }) => name === reborn[0]!.name && load.requestsDone > 0)
    })
  }, 60_000)

  test("loses nothing when the balancer actor crashes with 100 requests in flight", async () => {
    await allReady()
    const { restarts } = await snapshot()
    const admin = await connectAdmin({ address: cluster.ready.tcp })
    const maxTokens = 60
    const seen = start(100, maxTokens).map((generation) => consume(generation))
    await eventually("100 in flight", async () =>
      (await admin.snapshot()).inFlight >= 100 ? true : undefined
    )
    await admin.crashBalancer()
    const results = await Promise.all(seen)
    for (const { ending } of results) expect(ending.outcome).toBe("done")
    expectNothingLost(results, maxTokens)
    const after = await admin.snapshot()
    expect(after).toMatchObject({ restarts: restarts + 1, inFlight: 0, queued: 0 })
    expect(after.accepted).toBe(after.done + after.failed + after.cancelled + after.expired)
    await admin.close()
  }, 60_000)

  test("a drained worker finishes, leaves, and is started again", async () => {
    const before = await allReady()
    const seen = start(20, 40).map((generation) => consume(generation))
    const admin = await connectAdmin({ address: cluster.ready.tcp })
    await admin.drainWorker("sim-2")
    await admin.close()
    for (const { ending } of await Promise.all(seen)) expect(ending.outcome).toBe("done")
    const old = before.find(({ name }) => name === "sim-2")!.incarnation
    await eventually("a new sim-2", async () =>
      (await allReady()).find(({ name, incarnation }) => name === "sim-2" && incarnation !== old)
    )
  }, 60_000)
})

describe("the engines of a cluster", () => {
  const directory = mkdtempSync(join(tmpdir(), "engines-"))
  const path = join(directory, "engines.json")
  const engines = {
    small: {
      capacity: 7,
      kvCapacityTokens: 4096,
      maxSequences: 1,
      batchTokens: 100,
      faults: { slowFactor: 3 }
    },
    failing: { faults: { failFastShare: 1 } },
    stalling: { faults: { stallAfter: "0 millis", stallFor: "6 seconds" } },
    burning: { preset: "70b-4xa100", burnCpu: true },
    crowded: { capacity: 1 }
  }
  const tenants = [
    { name: "heavy", weight: 1000 },
    { name: "light", weight: 0.001 }
  ]
  let own: ClusterProcess
  let user: Client
  let stalled: Promise<Ending>
  beforeAll(async () => {
    const models = Object.entries(engines).map(([name, engine]) => ({
      name,
      workers: 1,
      engine: { kind: "simulated", ...engine }
    }))
    const pipeline = { preset: "simple", ordering: { policy: "virtual-token-counter" } }
    writeFileSync(path, JSON.stringify({ models, pipeline, tenants }))
    own = await ClusterProcess.start(["--config", path])
    user = await connect({ address: own.ready.tcp })
    stalled = ask("stalling", 10, 1)
  }, 30_000)
  afterAll(async () => {
    await user.close()
    await own.stop()
    rmSync(directory, { recursive: true })
  }, 30_000)

  const ask = (model: keyof typeof engines, promptTokens: number, maxTokens: number) =>
    user.generate({ model, prompt: "x", promptTokens, maxTokens }).ended
  const msOf = async (ending: Promise<Ending>): Promise<Done> => {
    const ended = await ending
    if (ended.outcome !== "done") throw new Error(`it ended as ${ended.outcome}`)
    return ended
  }

  test("stand still when they are to", async () => {
    expect((await msOf(stalled)).e2eMs).toBeGreaterThan(500)
  })

  test("have the size they are given, and are as slow", async () => {
    const [first, second] = await Promise.all([1, 2].map(() => msOf(ask("small", 1000, 2))))
    // Ten steps, each three times as long; and one has to wait for the other.
    const leastMs = 3 * 10 * presets["8b-h100"].cost.baseMs
    for (const { prefillMs } of [first!, second!]) expect(prefillMs).toBeWithin(leastMs, 2 * leastMs)
    expect(Math.max(first!.queueMs, second!.queueMs)).toBeGreaterThan(leastMs)
    expect(await ask("small", 5000, 1)).toMatchObject({ outcome: "error", reason: "context_length" })
    const admin = await connectAdmin({ address: own.ready.tcp })
    const { workers } = await admin.snapshot()
    await admin.close()
    expect(workers.find(({ name }) => name === "small-0")).toMatchObject({
      capacity: 7,
      load: { kvCapacityTokens: 4096 }
    })
  })

  test("fail what they are to", async () => {
    expect(await ask("failing", 10, 1)).toMatchObject({ outcome: "error", reason: "worker_failed" })
  })

  test("serve tenants by their weights", async () => {
    const served: Array<string> = []
    const each = Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? "light" : "heavy"))
    const generations = each.map((tenant) =>
      user.generate({ model: "crowded", prompt: "x", promptTokens: 10, maxTokens: 5, tenant })
    )
    const noted = generations.map(async (generation, i) => {
      await msOf(generation.ended)
      served.push(each[i]!)
    })
    await Promise.all(noted)
    expect(served.slice(0, 11).filter((tenant) => tenant === "heavy").length).toBeGreaterThanOrEqual(9)
  })

  test("burn the processor where they are to", async () => {
    /** Of all workers, in ms: user and system time are fields 14 and 15, in hundredths of a second. */
    const cpuMs = (): number =>
      own
        .workerPids()
        .map((pid) => readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)!.split(" "))
        .reduce((sum, fields) => sum + 10 * (Number(fields[11]) + Number(fields[12])), 0)
    const beforeMs = cpuMs()
    await msOf(ask("burning", 10, 40))
    expect(cpuMs() - beforeMs).toBeGreaterThan(0.8 * 40 * presets["70b-4xa100"].cost.baseMs)
  })
})

const gone = async (pids: ReadonlyArray<number>): Promise<void> => {
  for (const pid of pids)
    await eventually("the worker is gone", () => {
      try {
        process.kill(pid, 0)
        return undefined
      } catch {
        return true
      }
    })
}

describe("Ctrl-C", () => {
  // As a terminal sends it that is closed.
  test.each(["SIGINT", "SIGHUP"] as const)(
    "%s lets requests in flight finish, leaves no process behind, and exits with 0; a wrapper may pass it on once more",
    async (signal) => {
      await using own = await ClusterProcess.start(["--workers", "2"])
      const pids = own.workerPids()
      expect(pids).toHaveLength(2)
      const user = await connect({ address: own.ready.tcp })
      const seen = consume(user.generate({ prompt: "long", maxTokens: 60 }))
      await eventually("in flight", async () => {
        const admin = await connectAdmin({ address: own.ready.tcp })
        const { inFlight } = await admin.snapshot()
        await admin.close()
        return inFlight === 1 ? true : undefined
      })
      for (const pid of pids) process.kill(pid, signal)
      const exited = own.stop(signal)
      // Not at once: of equal signals that nobody has taken yet the system keeps one.
      systemTimers.after(50, () => own.child.kill(signal))
      const { ending, indices } = await seen
      expect(ending.outcome).toBe("done")
      expect(indices).toHaveLength(60)
      expect(await exited).toBe(0)
      for (const pid of pids) expect(() => process.kill(pid, 0)).toThrow()
      await user.close()
    },
    60_000
  )

  test("a second one ends everything at once, a worker that was stopped included", async () => {
    await using own = await ClusterProcess.start(["--workers", "2"])
    const pids = own.workerPids()
    const user = await connect({ address: own.ready.tcp, reconnect: { attemptsMax: 1 } })
    const { promise: streams, resolve } = Promise.withResolvers<void>()
    const seen = consume(user.generate({ prompt: "long", maxTokens: 100_000 }), resolve)
    await streams
    process.kill(pids[0]!, "SIGSTOP")
    own.child.kill("SIGINT")
    await eventually("it drains", async () => {
      const { status } = await fetch(`http://${own.ready.http}/readyz`)
      return status === 503 || undefined
    })
    // One that comes at once is taken for the first.
    await elapse(600)
    expect(await own.stop()).toBe(130)
    await gone(pids)
    expect((await seen).ending.outcome).toBe("error")
    await user.close()
  }, 60_000)

  test("kills with SIGKILL leave no worker behind either", async () => {
    await using own = await ClusterProcess.start(["--workers", "2"])
    const pids = own.workerPids()
    await own.stop("SIGKILL")
    await gone(pids)
  }, 60_000)
})

test("a balancer that gives up ends its requests in an error, and the command with 1", async () => {
  await using own = await ClusterProcess.start(["--workers", "1"], { PARALLAX_FAULTS_ENABLED: "true" })
  const user = await connect({ address: own.ready.tcp, reconnect: { attemptsMax: 1 } })
  const admin = await connectAdmin({ address: own.ready.tcp })
  const { promise: streams, resolve } = Promise.withResolvers<void>()
  const seen = consume(user.generate({ prompt: "long", maxTokens: 100_000 }), resolve)
  await streams
  for (let restarts = 0; restarts < 6; restarts++) {
    await eventually(
      "the balancer is up",
      async () => (await admin.snapshot()).restarts === restarts || undefined
    )
    await admin.crashBalancer()
  }
  expect((await seen).ending).toMatchObject({ outcome: "error", reason: "draining", retryable: true })
  expect(await own.child.exited).toBe(1)
  expect(await own.errors).toContain("balancer failed too often: Error: crashed on request")
  await admin.close()
  await user.close()
}, 60_000)

test("a balancer that gives up while the workers start ends the command", async () => {
  await using probe = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("") })
  const port = String(probe.port)
  await probe.stop(true)
  const env = {
    PARALLAX_FAULTS_ENABLED: "true",
    PARALLAX_MODELS_0_ENGINE_FAULTS_CRASH_AFTER: "0 millis",
    PARALLAX_LOG_LEVEL: "none"
  }
  await using starting = Bun.spawn(
    [process.execPath, "src/cluster/main.ts", "cluster", "--port", port, "--http-port", "0"],
    { cwd: root, stdin: "ignore", stdout: "ignore", stderr: "pipe", env: { ...process.env, ...env } }
  )
  await eventually("the balancer has crashed too often", async () => {
    if (starting.exitCode !== null) return true
    try {
      const admin = await connectAdmin({ address: `127.0.0.1:${port}` })
      await admin.crashBalancer()
      await admin.close()
    } catch {
      // Not there yet, or no more.
    }
    return undefined
  })
  expect(starting.exitCode).toBe(1)
  expect(await new Response(starting.stderr).text()).toContain("The balancer failed too often and gave up")
}, 60_000)

test("replay-live sends a trace through a cluster of its own, and agrees with the workers' counters", async () => {
  const replay = Bun.spawn(
    [
      process.execPath,
      "src/cluster/main.ts",
      "replay-live",
      "test/fixtures/small.jsonl",
      "--workers",
      "2",
      "--time-scale",
      "20",
      "--json"
    ],
    { cwd: root, stdin: "ignore", stdout: "pipe", stderr: "ignore" }
  )
  const report: unknown = await new Response(replay.stdout).json()
  expect(await replay.exited).toBe(0)
  const { sent } = report as { readonly sent: number }
  expect(sent).toBeGreaterThan(0)
  expect(report).toMatchObject({ done: sent, failed: 0, rejected: 0, agreement: { equal: true } })
}, 60_000)

test("replay-live refuses to scale the times of a cluster by what is not its time scale", async () => {
  const { tcp } = cluster.ready
  const flags = ["--address", tcp, "--time-scale", "20"]
  expect(await run(["replay-live", "test/fixtures/small.jsonl", ...flags])).toEqual({
    exitCode: 2,
    out: "",
    err: `The cluster at ${tcp} runs at time scale 1: give --time-scale 1, or start it with cluster.timeScale and engine.timeScale of 20.\n`
  })
}, 30_000)

test("replay-live reports what it saw of a cluster that is gone before the end", async () => {
  await using own = await ClusterProcess.start(["--workers", "1"])
  const replay = Bun.spawn(
    [
      process.execPath,
      "src/cluster/main.ts",
      "replay-live",
      "test/fixtures/small.jsonl",
      "--address",
      own.ready.tcp,
      "--speed",
      "20",
      "--json"
    ],
    { cwd: root, stdin: "ignore", stdout: "pipe", stderr: "ignore" }
  )
  const admin = await connectAdmin({ address: own.ready.tcp })
  await eventually("a request is done", async () => (await admin.snapshot()).done > 0 || undefined)
  await own.stop("SIGKILL")
  const report: unknown = await new Response(replay.stdout).json()
  expect(await replay.exited).toBe(0)
  expect(report).toMatchObject({
    sent: 80,
    reasons: { connection_lost: expect.any(Number) },
    agreement: { differences: [], lost: ["sim-0"] }
  })
}, 60_000)
