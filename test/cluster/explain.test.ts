import { afterAll, describe, expect, test } from "bun:test"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import {
  counterfactualText,
  explanationText,
  liveExplanationText
} from "../../src/cluster/explanationText.ts"
import { commandLine } from "../../src/cluster/cli/commandLine.ts"
import type { Decision, DecisionWorker, Explanation } from "../../src/domain/Explanation.ts"
import { it } from "../support/effectTest.ts"
import { root } from "../support/repository.ts"
import { run } from "./support/commands.ts"

const directory = mkdtempSync(join(tmpdir(), "explain-"))
afterAll(() => rmSync(directory, { recursive: true }))

const workerOf = (worker: string, more: Partial<DecisionWorker> = {}): DecisionWorker => ({
  worker,
  standing: "candidate",
  inFlight: 3,
  capacity: 256,
  pendingTokens: 12_345,
  contextTokens: 50_000,
  cachedTokens: 2048,
  ttftMs: 321.4,
  terms: { waitingPrompts: 0.25, steps: 0.125 },
  cost: 0.375,
  ...more
})

const decision: Decision = {
  afterMs: 12.34,
  act: "picked",
  policy: "predicted-completion",
  attempt: 1,
  together: 1,
  chosen: "w1",
  answers: null,
  workers: [workerOf("w1"), workerOf("w2", { cost: 0.5, terms: { waitingPrompts: 0.375, steps: 0.125 } })],
  unlisted: {},
  runnerUp: { worker: "w2", margin: 0.125 },
  tie: null,
  predicted: { ttftMs: 321.4, outputTokens: 100 },
  actual: { result: "started", ttftMs: 300 }
}

const explanation: Explanation = {
  id: "0123456789abcdef",
  request: {
    model: "sim",
    tenant: "acme",
    class: 1,
    promptTokens: 4096,
    maxTokens: 256,
    session: null,
    arrivedMs: 61_500,
    timeoutMs: 600_000
  },
  admission: [
    { policy: "queue-bounds", verdict: "let in" },
    { policy: "slo-feasible", verdict: "let in" }
  ],
  refused: null,
  queue: null,
  placement: {
    policy: "predicted-completion",
    options: { externality: 0.05, absorbed: 300_000, memory: 1_500 },
    summary: "Soonest.",
    definition: "",
    unit: "seconds"
  },
  decisions: [decision],
  outcome: { reason: "done", ttftMs: 312.34, e2eMs: 2000, outputTokens: 120, cachedTokens: 2048 }
}

describe("an explanation in words", () => {
  test("is a page that reads from admission to outcome", () => {
    expect(`\n${explanationText(explanation)}`).toBe(`
Request 0123456789abcdef, 61.5 s after the start
4,096 prompt tokens, at most 256 to produce within 600 s; model sim, tenant acme, class 1, no session

Admission: queue-bounds let it in, slo-feasible let it in
Queue: none, it was placed at once

Decision 1, 12.3 ms after it arrived, for attempt 1: predicted-completion picked w1
  Soonest. (externality 0.05, absorbed 5 minutes, memory 1500 millis)
  worker in flight pending tokens cached tokens TTFT ms waiting prompts  steps sum, seconds
  w1 *           3         12,345         2,048     321          0.2500 0.1250       0.3750
  w2             3         12,345         2,048     321          0.3750 0.1250       0.5000
  The runner-up was w2, by 0.1250 seconds.
  What came of it: the first token after 300 ms

Outcome: done after 2,000 ms, first token after 312 ms, 120 tokens
                                   predicted actual
  from decision to first token, ms       321    300
  output tokens                          100    120
  cached tokens                        2,048  2,048
`)
  })

  const withDecision = (more: Partial<Decision>): Explanation => ({
    ...explanation,
    decisions: [{ ...decision, ...more }]
  })

  test("a term that rounds to 0 has no sign", () => {
    const workers = [workerOf("w1", { terms: { waitingPrompts: -0.000_006, steps: -0.0058 } })]
    expect(explanationText(withDecision({ workers, runnerUp: null }))).toContain(" 0.0000 -0.0058 ")
  })

  const standing = (name: string): Explanation =>
    withDecision({
      workers: [workerOf("w1"), workerOf("w9", { standing: name, inFlight: 256, terms: null, cost: null })]
    })

  test.each<[string, Explanation, string]>([
    [
      "of a policy that is not known here",
      { ...explanation, placement: { ...explanation.placement, policy: "newer", options: { after: 250 } } },
      "\n  Soonest. (after 250)\n"
    ],
    ["at capacity", standing("at-capacity"), "\n  w9: at its capacity, 256 of 256 in flight\n"],
    [
      "pending tokens",
      standing("pending-tokens"),
      "\n  w9: as many uncached prompt tokens pending as are allowed, 12,345 of them\n"
    ],
    ["avoided", standing("failed-before"), "\n  w9: avoided, for it had just failed the request\n"],
    ["suspected", standing("suspect"), "\n  w9: suspected: its heartbeats are late\n"],
    ["draining", standing("draining"), "\n  w9: draining\n"],
    [
      "another role",
      standing("wrong-role"),
      "\n  w9: does one part of requests only, and the policy splits none\n"
    ],
    ["not in the sample", standing("not-compared"), "  not compared\n"],
    [
      "left out of the list",
      withDecision({ unlisted: { candidate: 984 } }),
      "\n  Not listed: 984 candidates\n"
    ],
    [
      "a tie",
      withDecision({ runnerUp: { worker: "w2", margin: 0 }, tie: "Ties go to the first" }),
      "\n  A tie with w2. Ties go to the first.\n"
    ],
    ["split", withDecision({ answers: "d1" }), ": predicted-completion picked w1, with the answer from d1\n"],
    [
      "what the prediction of a split request leaves out",
      withDecision({ answers: "d1" }),
      "\n  Predicted is when w1 has read the prompt: the hand-over to d1, which sends the first token, is not in it.\n"
    ],
    [
      "together",
      withDecision({ act: "picked together", together: 8, runnerUp: null }),
      "\n  Placed with 7 others in one go: the cost of it alone did not decide.\n"
    ],
    [
      "stolen",
      withDecision({ act: "moved", policy: "steal", runnerUp: null }),
      ", 12.3 ms after it arrived, for attempt 1: steal moved w1\n"
    ],
    [
      "put back",
      withDecision({
        act: "requeued",
        policy: "requeue-stragglers",
        chosen: null,
        runnerUp: null,
        actual: { result: "queued", ttftMs: null }
      }),
      ": requeue-stragglers requeued\n"
    ],
    [
      "a failure",
      withDecision({ actual: { result: "worker_lost", ttftMs: null } }),
      "\n  What came of it: worker_lost\n"
    ],
    [
      "refused",
      {
        ...explanation,
        admission: [
          { policy: "queue-bounds", verdict: "let in" },
          { policy: "slo-feasible", verdict: "refused" },
          { policy: "kv-headroom", verdict: "not asked" }
        ],
        refused: { reason: "slo_infeasible", retryAfterMs: 1500, ceiling: 0.63 },
        decisions: [],
        outcome: null
      },
      "\nAdmission: refused with slo_infeasible, to come back in 1,500 ms; queue-bounds let it in, slo-feasible refused it, kv-headroom was not asked; it might fill 63 % of each bound, the rest is kept\nQueue: not reached\n\nOutcome: refused with slo_infeasible\n"
    ],
    [
      "queued",
      {
        ...explanation,
        queue: {
          why: "no worker had room",
          policy: "virtual-token-counter",
          ahead: 4,
          waitedMs: 250,
          placedMeanwhile: 6
        }
      },
      "\nQueue: no worker had room, 4 waited already; placed after 250 ms, 6 others before it (virtual-token-counter)\n"
    ],
    [
      "waiting",
      {
        ...explanation,
        queue: {
          why: "others were waiting",
          policy: "arrival",
          ahead: 1,
          waitedMs: null,
          placedMeanwhile: null
        },
        decisions: [],
        outcome: null
      },
      "\nQueue: others were waiting, 1 waited already; it waits (arrival)\n\nOutcome: under way\n"
    ]
  ])("says it: %s", (_, given, line) => {
    expect(explanationText(given)).toContain(line)
  })

  test("what would have been is a table", () => {
    const one = { outcome: "done", servedBy: "w1", othersTtftMs: 0, othersEndedOtherwise: 0 }
    expect(
      `\n${counterfactualText([
        { ...one, worker: "w1", ttftMs: 312.3, e2eMs: 2000 },
        { ...one, worker: "w2", ttftMs: 1250, e2eMs: 3000, othersTtftMs: -1.5, othersEndedOtherwise: 2 },
        {
          ...one,
          worker: "w3",
          ttftMs: null,
          e2eMs: 600,
          servedBy: null,
          outcome: "expired",
          othersTtftMs: 0.25
        }
      ])}`
    ).toBe(`

The same traffic, with this request placed elsewhere at first:
  worker TTFT ms E2E ms mean TTFT of others ms others ended otherwise   outcome
  w1 *       312  2,000                                                 done
  w2       1,250  3,000                 −1.500                      2   done, served by w1
  w3           -    600                 +0.250                      0   expired
`)
  })
})

describe("an explanation of a running cluster in words", () => {
  const recording = "recordings/parallax-20261121T093000Z-000001.jsonl"
  const live = { ...explanation, decisions: [{ ...decision, unlisted: { draining: 2 } }], recording }

  test("ends with how to see what would have become of the request elsewhere", () => {
    expect(liveExplanationText(live)).toBe(`${explanationText(live)}
What would have become of it elsewhere, by the recording:
  bun run simulate --trace ${recording} --workers 4 --policies predicted-completion --explain 0123456789abcdef
`)
    expect(liveExplanationText({ ...live, recording: "my own/a'b" })).toContain(
      String.raw` --trace 'my own/a'\''b' --workers`
    )
  })

  test.each([
    ["is not recorded", { recording: null }],
    ["goes on", { outcome: null }],
    ["went nowhere", { decisions: [] }]
  ])("says nothing of it where the request %s", (_, more) => {
    const given = { ...live, ...more }
    expect(liveExplanationText(given)).toBe(explanationText(given))
  })
})

describe("simulate --explain", () => {
  const numberOrId = "a number of at least 1, or an id of 16 hexadecimal digits"
  const traffic = ["--generate", "rate=40,requests=60,prompt=800,shared=0.5", "--workers", "3"]

  test("prints why, and what would have been", async () => {
    const args = ["simulate", ...traffic, "--policies", "default,random", "--explain", "30"]
    const first = await run(args)
    expect(first).toMatchObject({ exitCode: 0, err: "" })
    expect(first.out).toStartWith('Request 30 of generated-1 at speed 1, under "default"\n')
    expect(first.out).toMatch(
      /^Decision 1, 0 ms after it arrived, for attempt 1: predicted-completion picked /m
    )
    expect(first.out).toMatch(/^ {2}worker-1-\d \* /m)
    expect(first.out).toMatch(/^The same traffic, with this request placed elsewhere at first:\n(.*\n){4}$/m)
    expect(await run(args)).toEqual(first)
  })

  test("with --json is one document, every key of which is explained", async () => {
    const args = ["simulate", ...traffic, "--policies", "power-of-two:d=2", "--explain", "60", "--json"]
    const { exitCode, err, out } = await run(args)
    expect({ exitCode, err }).toEqual({ exitCode: 0, err: "" })
    expect(out.trimEnd()).not.toContain("\n")
    const report = JSON.parse(out)
    expect(report).toMatchObject({ policy: "power-of-two:d=2", number: 60, workers: 3 })
    expect(report.explanation.id).toBe("000000000000003c")
    expect(report.elsewhere).toHaveLength(3)
    const [{ workers }] = report.explanation.decisions
    expect(workers.map(({ standing }: { standing: string }) => standing)).toEqual([
      "candidate",
      "candidate",
      "not-compared"
    ])
    const page = await Bun.file(join(root, "docs/explain.md")).text()
    const keysOf = (value: unknown): ReadonlyArray<string> =>
      Array.isArray(value)
        ? value.flatMap(keysOf)
        : typeof value === "object" && value !== null
          ? Object.entries(value).flatMap(([key, part]) => [key, ...keysOf(part)])
          : []
    const filled = { ...report, explanation: { ...report.explanation, ...explanation }, recording: null }
    const keys = new Set(keysOf({ ...filled, slo: 0, world: 0, options: 0 }))
    const named = ["waitingPrompts", "steps", "externality", "absorbed", "memory", "ttftMs", "tpotMs"]
    for (const name of named) keys.delete(name)
    expect([...keys].filter((key) => !page.includes(`\`${key}\``))).toEqual([])
  })

  test.each([
    ["0", `Invalid value for flag --explain: "0". Expected: ${numberOrId}`],
    ["1.5", `Invalid value for flag --explain: "1.5". Expected: ${numberOrId}`],
    ["first", `Invalid value for flag --explain: "first". Expected: ${numberOrId}`],
    ["9f3c52d17be04a6", `Invalid value for flag --explain: "9f3c52d17be04a6". Expected: ${numberOrId}`],
    ["61", "--explain: there is no request 61. Give a number from 1 to 60.\n"],
    ["123456789012345", "--explain: there is no request 123456789012345. Give a number from 1 to 60.\n"],
    ["1234567890123456", "--explain: generated-1 has no ids of requests. Give a number from 1 to 60.\n"]
  ])("%s is refused", async (which, message) => {
    const ran = await run(["simulate", ...traffic, "--policies", "random", "--explain", which])
    expect(ran).toMatchObject({ exitCode: 2, out: "" })
    expect(ran.err).toStartWith(message)
  })

  test("takes the id of a recorded request: the last one that has it, of all files", async () => {
    const fileOf = async (name: string, ids: ReadonlyArray<string | undefined>): Promise<string> => {
      const header = { format: "llm-trace/1", name, blockSize: null }
      const lines = ids.map((id, i) => ({ t: 50 * i, in: 100 + i, out: 4, id }))
      const path = join(directory, `${name}.jsonl`)
      await Bun.write(path, [header, ...lines].map((line) => JSON.stringify(line)).join("\n"))
      return path
    }
    const [one, other] = ["00000000000000fe", "fedcba9876543210"] as const
    const files = [await fileOf("a", [one, undefined, one]), await fileOf("b", [other, undefined])]
    const explained = (trace: string, which: string) =>
      run(["simulate", "--trace", trace, "--workers", "2", "--explain", which, "--json"])
    for (const [trace, which, number, id, promptTokens] of [
      [files[0]!, one.toUpperCase(), 3, one, 102],
      // What has none goes by its number, and what has one by its id, however it is asked for.
      [files[0]!, "2", 2, "0000000000000002", 101],
      [files[0]!, "1", 1, one, 100],
      [files.join(), other, 2, other, 100],
      [files.join(), one, 5, one, 102]
    ] as const) {
      const { out } = await explained(trace, which)
      expect(JSON.parse(out)).toMatchObject({ number, explanation: { id, request: { promptTokens } } })
    }
    expect(await explained(files[1]!, one)).toMatchObject({
      exitCode: 2,
      err: expect.stringMatching(/^--explain: b has no request of the id 00000000000000fe\. It may be in /)
    })
  })

  test("is written as text or JSON alone", async () => {
    const ran = await run(["simulate", ...traffic, "--explain", "1", "--csv"])
    expect(ran).toMatchObject({ exitCode: 2, err: "--explain is written as text or --json alone.\n" })
  })

  test.each([[["--seeds", "3"]], [["--time-decisions"]]])("is about one replay, without %j", async (more) => {
    const { err, exitCode, out } = await run(["simulate", ...traffic, "--explain", "1", ...more])
    expect({ exitCode, out }).toEqual({ exitCode: 2, out: "" })
    expect(err).toMatch(
      /^--explain is about one replay with --seed: leave --seeds and --time-decisions out\.\n$/
    )
  })
})

describe("explain", () => {
  test.each([
    [["explain", "12"], '"12" is no id: expected 16 hexadecimal digits.\n', 2],
    [
      ["explain", "0123456789abcdef", "--address", "no where"],
      '--address: "no where" is not an address: expected host:port.\n',
      2
    ],
    ...["127.0.0.1", "", "a@b:8080", "127.0.0.1:8080/path", "https://127.0.0.1:8080"].map(
      (address): [Array<string>, string, number] => [
        ["explain", "0123456789abcdef", "--address", address],
        `--address: "${address}" is not an address: expected host:port.\n`,
        2
      ]
    ),
    [
      ["explain", "0123456789abcdef", "--address", "127.0.0.1:1"],
      "No HTTP answer from 127.0.0.1:1. Is it the HTTP address that the cluster printed?\n",
      1
    ]
  ])("%j fails", async (args, err, exitCode) => {
    expect(await run(args)).toEqual({ exitCode, out: "", err })
  })

  test.each([
    ["an address", ""],
    ["what the cluster prints", "http://"]
  ])("without a credential where one is needed says how to give it; --address is %s", async (_, scheme) => {
    const error = { message: "a valid bearer credential is needed" }
    const listener = Bun.serve({ port: 0, fetch: () => Response.json({ error }, { status: 401 }) })
    const ran = await run(["explain", "0123456789abcdef", "--address", `${scheme}127.0.0.1:${listener.port}`])
    await listener.stop()
    expect(ran).toEqual({
      exitCode: 1,
      out: "",
      err: "A valid bearer credential is needed. Give it with --credential, or set PARALLAX_AUTH_CLIENTS.\n"
    })
  })

  test.each([
    ["a page", "<html>Hello</html>"],
    ["another document", "{}"],
    ["no object", "null"]
  ])("a listener that is none of ours and answers with %s is named", async (_, body) => {
    const listener = Bun.serve({ port: 0, fetch: () => new Response(body) })
    const address = `127.0.0.1:${listener.port}`
    const expected = {
      exitCode: 1,
      out: "",
      err: `${address} did not answer as a balancer does. Is it the HTTP address that the cluster printed?\n`
    }
    expect(await run(["explain", "0123456789abcdef", "--address", address])).toEqual(expected)
    expect(await run(["explain", "0123456789abcdef", "--address", address, "--json"])).toEqual(expected)
    await listener.stop()
  })

  it("a listener that does not answer is not waited for without end", () =>
    Effect.gen(function* () {
      const asked = Promise.withResolvers<void>()
      const listener = Bun.serve({
        port: 0,
        idleTimeout: 0,
        fetch: () => {
          asked.resolve()
          return Promise.withResolvers<Response>().promise
        }
      })
      const address = `127.0.0.1:${listener.port}`
      const explained = yield* Effect.forkChild(
        Effect.flip(commandLine(["explain", "0123456789abcdef", "--address", address]))
      )
      yield* Effect.promise(() => asked.promise)
      yield* TestClock.adjust("10 seconds")
      expect(yield* Fiber.join(explained)).toMatchObject({
        exitCode: 1,
        message: `No HTTP answer from ${address}. Is it the HTTP address that the cluster printed?`
      })
      yield* Effect.promise(() => listener.stop(true))
    }))
})
