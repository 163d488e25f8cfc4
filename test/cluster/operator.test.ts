import { afterAll, beforeEach, describe, expect, test } from "bun:test"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import { commandLine } from "../../src/cluster/cli/commandLine.ts"
import { statusText } from "../../src/cluster/statusText.ts"
import type { BalancerSnapshot, WorkerSnapshot } from "../../src/domain/Snapshot.ts"
import { idleLoad } from "../../src/domain/WorkerLoad.ts"
import { FakeBalancer } from "../client/support/FakeBalancer.ts"
import { it } from "../support/effectTest.ts"
import { root } from "../support/repository.ts"
import { noInput, run } from "./support/commands.ts"

const workerOf = (name: string, more: Partial<WorkerSnapshot> = {}): WorkerSnapshot => ({
  name,
  state: "ready",
  models: ["sim"],
  role: "both",
  speed: 1,
  incarnation: 1,
  inFlight: 0,
  capacity: 256,
  assigned: 9,
  assignedFor: { first: 9 },
  load: idleLoad,
  heardMsAgo: 12,
  ...more
})

const snapshotOf = (workers: ReadonlyArray<WorkerSnapshot>): BalancerSnapshot => ({
  epoch: 1,
  uptimeMs: 61_500,
  timeScale: 1,
  restarts: 0,
  clients: 3,
  accepted: 1234,
  rejected: 5,
  done: 1190,
  failed: 3,
  cancelled: 10,
  expired: 1,
  retries: 2,
  rescues: {},
  outputTokens: 99_000,
  cachedTokens: 5000,
  inFlight: 26,
  queued: 4,
  models: [
    { name: "sim", inFlight: 20, queued: 4 },
    { name: "other", inFlight: 6, queued: 0 }
  ],
  rejections: { queue_full: 5 },
  failures: { worker_lost: 3 },
  workers
})

const load = {
  ...idleLoad,
  running: 18,
  waiting: 2,
  kvUsedTokens: 120_000,
  kvCapacityTokens: 467_000
}
const screen = snapshotOf([
  workerOf("sim-10"),
  workerOf("sim-2", { inFlight: 20, load, speed: 0.5 }),
  workerOf("other-0", { models: ["other", "more"], role: "decode", state: "draining", inFlight: 6 })
])

const balancer = new FakeBalancer()
afterAll(() => balancer.close())
const address = ["--address", `127.0.0.1:${balancer.address.port}`]

/** What the balancer was asked. */
let asked: Array<unknown> = []
beforeEach(() => {
  asked = []
})

/** Has the balancer show these workers, one list for each snapshot, the last one for all that follow. */
const show = (...lists: ReadonlyArray<ReadonlyArray<WorkerSnapshot>>): void => {
  let next = 0
  balancer.admin = ({ op, worker }) => {
    asked.push(op)
    if (op === "snapshot") return snapshotOf(lists[Math.min(next++, lists.length - 1)]!)
    return worker === "gone" ? { error: "worker: there is none called gone" } : {}
  }
}

describe("status", () => {
  test("is one screen", () => {
    expect(`\n${statusText("parallax", "127.0.0.1:7420", screen)}`).toBe(`
parallax at 127.0.0.1:7420: up 61 s
1,234 accepted: 1,190 done, 3 failed, 10 cancelled, 1 expired, 26 in flight, 4 queued; 5 rejected

model  in flight  queued
sim           20       4
other          6       0

worker   models       role    state     in flight  running  waiting  KV used  speed
other-0  other, more  decode  draining   6 of 256        0        0        -   1.00
sim-2    sim          both    ready     20 of 256       18        2     26 %   0.50
sim-10   sim          both    ready      0 of 256        0        0        -   1.00
`)
  })

  test.each([
    [0, "0 s"],
    [119_999, "119 s"],
    [120_000, "2 min"],
    [7_199_999, "119 min"],
    [7_200_000, "2 h"],
    [172_799_999, "47 h"],
    [172_800_000, "2 days"]
  ])("says of %d ms that it is up %s", (uptimeMs, said) => {
    expect(statusText("a", "b", { ...screen, uptimeMs })).toStartWith(`a at b: up ${said}\n`)
  })

  test("asks the balancer, and writes the snapshot as one document with --json", async () => {
    balancer.admin = () => screen
    const shown = await run(["status", ...address])
    expect(shown).toEqual({ exitCode: 0, out: statusText("fake", address[1]!, screen), err: "" })
    const { err, exitCode, out } = await run(["status", "--json", ...address])
    expect([exitCode, err, out.trimEnd().includes("\n")]).toEqual([0, "", false])
    expect(JSON.parse(out)).toEqual(screen)
    expect(balancer.connections.size).toBe(0)
  })
})

describe("drain", () => {
  const busy = (inFlight: number) => [workerOf("sim-0"), workerOf("sim-1", { inFlight })]

  test.each([
    [3, "3 requests to finish"],
    [1, "1 request to finish"],
    [0, "it has no requests"]
  ])("says of a worker with %d requests: %s", async (inFlight, said) => {
    show(busy(7), busy(inFlight))
    const ran = await run(["drain", "sim-1", ...address])
    expect(ran).toEqual({ exitCode: 0, out: `sim-1 drains: ${said}.\n`, err: "" })
    expect(asked).toEqual(["snapshot", "drain", "snapshot"])
    const json = await run(["drain", "sim-1", "--json", ...address])
    expect(json).toEqual({ exitCode: 0, out: `{"worker":"sim-1","inFlight":${inFlight}}\n`, err: "" })
  })

  test.each([
    ["has finished", [busy(1), busy(0)]],
    ["has left", [[workerOf("sim-0")]]],
    ["has come anew", [[workerOf("sim-1", { incarnation: 2, inFlight: 5 })]]]
  ])("--wait returns when the worker %s", async (_, later) => {
    show(busy(2), busy(2), ...later)
    expect(await run(["drain", "sim-1", "--wait", ...address])).toEqual({
      exitCode: 0,
      out: "sim-1 drains: 2 requests to finish.\nsim-1 has finished.\n",
      err: ""
    })
    expect(asked).toEqual(["snapshot", "drain", "snapshot", ...later.map(() => "snapshot")])
  })

  it("--wait ends after 15 minutes, and says what is left", () =>
    Effect.gen(function* () {
      show(busy(2))
      let out = ""
      const shell = {
        environment: {},
        directory: root,
        input: noInput,
        out: async (text: string) => {
          out += text
          return true
        },
        err: () => {},
        errColumns: undefined
      }
      const command = commandLine(["drain", "sim-1", "--wait", "--json", ...address], shell)
      const fiber = yield* Effect.forkChild(Effect.flip(command))
      yield* Effect.promise(() => balancer.until(() => asked.length === 4))
      yield* TestClock.adjust("15 minutes")
      expect(yield* Fiber.join(fiber)).toMatchObject({
        exitCode: 1,
        message: "sim-1 still has 2 requests after 15 minutes. It goes on draining."
      })
      expect(out).toBe('{"worker":"sim-1","inFlight":2}\n')
    }))

  test.each([
    ["sim-11", busy(0), 'Did you mean "sim-1"?'],
    ["elsewhere", busy(0), "There are sim-0, sim-1."],
    ["sim-1", [workerOf("sim-1", { state: "lost" })], "There are none."]
  ])("of %s, which is not connected, names those that are", async (worker, workers, known) => {
    show(workers)
    const ran = await run(["drain", worker, ...address])
    const err = `No worker called "${worker}" is connected. ${known}\n`
    expect(ran).toEqual({ exitCode: 2, out: "", err })
    expect(asked).toEqual(["snapshot"])
  })

  test("fails when the balancer does not do it", async () => {
    show([workerOf("gone")])
    expect(await run(["drain", "gone", ...address])).toEqual({
      exitCode: 1,
      out: "",
      err: "drain: worker: there is none called gone\n"
    })
  })
})

test.each([["status"], ["drain sim-0"]])(
  "%s without a cluster fails, and says what is no address",
  async (command) => {
    const ask = (at: string) => run([...command.split(" "), "--address", at])
    expect(await ask("127.0.0.1:1")).toEqual({
      exitCode: 1,
      out: "",
      err: expect.stringMatching(/^cannot connect to the balancer at 127\.0\.0\.1:1: .* bun run cluster\n$/)
    })
    expect(await ask("nowhere")).toMatchObject({ exitCode: 2, err: expect.stringMatching(/^--address: /) })
  }
)
