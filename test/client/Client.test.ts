import { describe, expect, test } from "bun:test"
import { connectAdmin } from "../../src/client/Admin.ts"
import { Client, type ClientOptions, connect } from "../../src/client/Client.ts"
import { ConnectFailed } from "../../src/client/ConnectFailed.ts"
import type { GenerateRequest } from "../../src/client/GenerateRequest.ts"
import { promptChain } from "../../src/client/promptChain.ts"
import { Reason } from "../../src/domain/Outcome.ts"
import { Flag } from "../../src/protocol/Header.ts"
import { defaultLimits } from "../../src/protocol/Limits.ts"
import { virtualClient } from "./support/virtualClient.ts"
import { VirtualWorld } from "./support/VirtualWorld.ts"

describe("one request", () => {
  test("goes out as asked and comes back token by token", () => {
    const { world, balancer, client, start } = virtualClient({ tenant: "t" }, { models: ["first", "m"] })
    const prompt = "p".repeat(2_500)
    const request = start({
      model: "m",
      prompt,
      maxTokens: 9,
      class: 3,
      session: "s",
      timeoutMs: 5_000,
      outputTokens: 2
    })
    world.settle()
    const got = balancer.requests[0]!
    expect(got.id).toBe(request.id)
    expect(got.extras).toEqual({ modelName: "m", tenantName: "t", idempotencyKey: null })
    expect([got.promptTokens, got.maxTokens, got.class, got.timeoutMs]).toEqual([625, 9, 3, 5_000])
    expect(got.payload).toEqual({ prompt, outputTokens: 2 })
    expect(got.chain).toEqual(Buffer.from(promptChain(prompt)))
    expect(got.session).not.toBe("0".repeat(16))
    expect(got.flags & Flag.sideEffects).toBe(0)

    balancer.accept(got)
    world.advance(10)
    expect(request.admissions).toBe(1)
    balancer.token(got, "a")
    world.advance(20)
    balancer.token(got, "bc", { count: 2 })
    balancer.done(got, { cached: 7 })
    world.settle()
    expect(request.tokens).toEqual([
      { index: 0, count: 1, text: "a" },
      { index: 1, count: 2, text: "bc" }
    ])
    expect(request.endings).toEqual([
      {
        outcome: "done",
        reason: "stop",
        tokens: 3,
        cachedTokens: 7,
        attempts: 1,
        worker: "w1",
        reader: undefined,
        ttftMs: 10,
        e2eMs: 30,
        queueMs: 1,
        prefillMs: 2,
        engineMs: 3
      }
    ])
    expect(client.inFlight).toBe(0)
    expect(client.protocolViolations).toBe(0)
    expect(balancer.violations).toEqual([])
  })

  test("is admitted by its first token, where that comes in place of ACCEPTED", () => {
    const { world, balancer, start } = virtualClient()
    const request = start()
    world.settle()
    balancer.token(balancer.requests[0]!)
    world.settle()
    expect(request.admissions).toBe(1)
    balancer.accept(balancer.requests[0]!)
    world.settle()
    expect(request.admissions).toBe(1)
  })

  test("is admitted no more once it has ended", () => {
    const { world, balancer, start } = virtualClient()
    const request = start()
    world.settle()
    request.cancel()
    world.advance(2_100)
    expect(request.endings).toMatchObject([{ outcome: "cancelled" }])
    balancer.accept(balancer.requests[0]!)
    world.settle()
    expect(request.admissions).toBe(0)
  })

  test.each([
    [["reader", "of a later version"], "reader"],
    [["not a name"], undefined],
    [[7], undefined],
    [{ 0: "reader" }, undefined]
  ])("extras %j of DONE say that the prompt was read by %s", (extras, reader) => {
    const { world, balancer, client, start } = virtualClient()
    const request = start()
    world.settle()
    balancer.accept(balancer.requests[0]!)
    balancer.done(balancer.requests[0]!, { extras })
    world.settle()
    expect(request.endings).toMatchObject([{ outcome: "done", worker: "w1", reader }])
    expect(client.protocolViolations).toBe(0)
  })

  test("names travel once, numbers after; the first model is the default", () => {
    const { world, balancer, start } = virtualClient({}, { models: ["first", "m"] })
    start()
    start({ tenant: "t" })
    start({ tenant: "t" })
    world.settle()
    expect(balancer.requests.map(({ model, tenant, extras }) => ({ model, tenant, extras }))).toEqual([
      { model: 1, tenant: 0, extras: { modelName: "first", tenantName: null, idempotencyKey: null } },
      { model: 1, tenant: 1, extras: { modelName: null, tenantName: "t", idempotencyKey: null } },
      { model: 1, tenant: 1, extras: undefined }
    ])
  })

  test("a model that was unknown is named again: it may be served by then", () => {
    const { world, balancer, start } = virtualClient()
    for (let i = 0; i < 2; i++) {
      start({ model: "later" })
      world.settle()
      expect(balancer.requests[i]!.extras?.modelName).toBe("later")
      balancer.reject(balancer.requests[i]!, Reason.unknownModel)
      world.settle()
    }
  })

  test("retry none forbids the balancer a second worker", () => {
    const { world, balancer, start } = virtualClient()
    start({ retry: "none" })
    world.settle()
    expect(balancer.requests[0]!.flags & Flag.sideEffects).toBe(Flag.sideEffects)
  })

  test("without text, tokens are counted and not decoded", () => {
    const { world, balancer, client } = virtualClient()
    const seen: Array<string> = []
    client.start(
      { prompt: "x", maxTokens: 1 },
      { token: (_index, _count, text) => seen.push(text), ended: () => undefined }
    )
    world.settle()
    balancer.answer(balancer.requests[0]!, ["a"])
    world.settle()
    expect(seen).toEqual([""])
  })

  test.each([
    [{ maxTokens: 0 }, "maxTokens must be an integer from 1 to 4294967295"],
    [{ maxTokens: 1.5 }, "maxTokens must be an integer from 1 to 4294967295"],
    [{ maxTokens: Number.NaN }, "maxTokens must be an integer from 1 to 4294967295"],
    [{ class: 256 }, "class must be an integer from 0 to 255"],
    [{ timeoutMs: 0 }, "timeoutMs must be an integer from 1 to 4294967295"],
    [{ model: "" }, "model must be 1 to 128 visible ASCII characters"],
    [{ model: "a b" }, "model must be 1 to 128 visible ASCII characters"],
    [{ tenant: "x".repeat(129) }, "tenant must be 1 to 128 visible ASCII characters"],
    [{ prompt: null }, "promptTokens is needed when there is no prompt"],
    [{ prompt: "" }, "prompt must not be empty"],
    [{ prompt: "", promptTokens: 1 }, "prompt must not be empty"],
    [{ chain: new Uint8Array(7) }, "chain must be a Uint8Array of eight bytes for each block"]
  ])("%o is a mistake in the program", (request, message) => {
    const { client, start } = virtualClient()
    expect(() => start(request)).toThrow(message)
    expect(client.inFlight).toBe(0)
  })

  test.each<readonly [given: string, request: Record<string, unknown>, message: string]>([
    ["a number for a model", { model: 42 }, "model must be 1 to 128 visible ASCII characters"],
    ["a number for a tenant", { tenant: 42 }, "tenant must be 1 to 128 visible ASCII characters"],
    ["a number for a prompt", { prompt: 42 }, "prompt must be text"],
    ["bytes for a prompt", { prompt: Buffer.from("hello") }, "prompt must be text"],
    ["a number for a session", { session: 42 }, "session must be text"],
    ["null for a session", { session: null }, "session must be text"],
    ["an array for a chain", { chain: [0, 0, 0, 0, 0, 0, 0, 0] }, "chain must be a Uint8Array"],
    ["u64s for a chain", { chain: new BigUint64Array(8) }, "chain must be a Uint8Array"],
    ["another word for retry", { retry: "never" }, 'retry must be "none" or "beforeFirstToken"'],
    ["false for retry", { retry: false }, 'retry must be "none" or "beforeFirstToken"'],
    ["another object for a signal", { signal: {} }, "signal must be an AbortSignal"],
    ["null for a signal", { signal: null }, "signal must be an AbortSignal"]
  ])("%s, of a program without types, is told by its field, and leaves nothing", (_given, more, message) => {
    const { client, start, world } = virtualClient()
    const timers = world.timerCount
    const request = { prompt: "x", maxTokens: 1, ...more } as GenerateRequest
    for (const ask of [() => start(request), () => client.generate(request)]) {
      expect(ask).toThrow(RangeError)
      expect(ask).toThrow(message)
    }
    expect([client.inFlight, world.timerCount]).toEqual([0, timers])
  })
})

describe("endings", () => {
  test("a rejection is handed to the caller", () => {
    const { world, balancer, start } = virtualClient()
    const request = start()
    world.advance(5)
    balancer.reject(balancer.requests[0]!, Reason.queueFull, 250, "the queue is full")
    world.settle()
    expect(request.endings).toEqual([
      {
        outcome: "rejected",
        reason: "queue_full",
        retryAfterMs: 250,
        retryable: true,
        message: "the queue is full",
        e2eMs: 5
      }
    ])
    world.advance(10_000)
    expect(balancer.requests.length).toBe(1)
  })

  test("a retryable rejection is tried again when asked, not before the balancer's time, and not for ever", () => {
    const { world, balancer, start } = virtualClient()
    const request = start({ retryRejected: 2 })
    world.settle()
    balancer.reject(balancer.requests[0]!, Reason.queueFull, 250)
    world.advance(249)
    expect(balancer.requests.length).toBe(1)
    world.advance(2_000)
    expect(balancer.requests.length).toBe(2)
    balancer.reject(balancer.requests[1]!, Reason.queueFull, 1)
    world.advance(2_000)
    balancer.reject(balancer.requests[2]!, Reason.queueFull, 1)
    world.advance(10_000)
    expect(new Set(balancer.requests.map(({ id }) => id))).toEqual(new Set([request.id]))
    expect(balancer.requests.length).toBe(3)
    expect(request.endings.map(({ outcome }) => outcome)).toEqual(["rejected"])
  })

  test("a rejection is told at once when the deadline comes before the next try", () => {
    const { world, balancer, start } = virtualClient()
    const request = start({ retryRejected: 9, timeoutMs: 1_000 })
    world.settle()
    balancer.reject(balancer.requests[0]!, Reason.queueFull, 400)
    world.advance(500)
    expect(balancer.requests.length).toBe(2)
    balancer.reject(balancer.requests[1]!, Reason.queueFull, 600)
    world.settle()
    expect(request.endings).toMatchObject([
      { outcome: "rejected", reason: "queue_full", retryAfterMs: 600, retryable: true }
    ])
  })

  test("a rejection that no retry can help is not tried again", () => {
    const { world, balancer, start } = virtualClient()
    const request = start({ retryRejected: 2 })
    world.settle()
    balancer.reject(balancer.requests[0]!, Reason.badRequest)
    world.advance(10_000)
    expect(request.endings.length).toBe(1)
    expect(balancer.requests.length).toBe(1)
  })

  test.each([
    [Reason.workerLost, "error", "worker_lost", true],
    [Reason.cancelled, "cancelled", "cancelled", false],
    [Reason.expired, "expired", "expired", false],
    [Reason.slowConsumer, "error", "slow_consumer", false]
  ] as const)("ERROR %i is %s %s", (reason, outcome, name, retryable) => {
    const { world, balancer, client, start } = virtualClient()
    const request = start()
    world.settle()
    balancer.accept(balancer.requests[0]!)
    balancer.token(balancer.requests[0]!)
    balancer.error(balancer.requests[0]!, reason, { attempt: 2 })
    world.settle()
    expect(request.endings).toMatchObject([
      { outcome, reason: name, retryable, delivered: 1, attempts: 2, message: "broken" }
    ])
    expect(client.protocolViolations).toBe(0)
  })

  test("more requests than the limit are rejected by value", () => {
    const { world, balancer, start } = virtualClient({ requestsMax: 2 })
    const requests = [start(), start(), start({ retryRejected: 100 })]
    expect(requests[2]!.endings).toEqual([])
    world.settle()
    expect(requests.map(({ endings }) => endings.length)).toEqual([0, 0, 1])
    expect(requests[2]!.endings).toMatchObject([{ outcome: "rejected", reason: "limit", retryable: true }])
    expect(balancer.requests.length).toBe(2)
  })

  test("a cancel in the same turn as a rejection leaves one ending", () => {
    const { world, start } = virtualClient({ requestsMax: 1 })
    const request = [start(), start()][1]!
    request.cancel()
    world.settle()
    expect(request.endings.length).toBe(1)
  })

  test("a request longer than a frame is rejected before it is sent", () => {
    const { world, balancer, start } = virtualClient()
    const request = start({ prompt: "x".repeat(2 * 1024 * 1024) })
    world.settle()
    expect(request.endings).toMatchObject([{ outcome: "rejected", reason: "bad_request", retryable: false }])
    expect(balancer.requests).toEqual([])
    start()
    world.settle()
    expect(balancer.requests[0]!.extras?.modelName).toBe("m")
  })

  test.each([
    ["longer than the client's outbox", 1, 200_000],
    ["one after the other, that fill it", 5, 90_000]
  ])("prompts that the balancer takes, %s, reach it on one connection", (_, count, length) => {
    const limits = { ...defaultLimits, outboxBytes: 100_000 }
    const { client, balancer, start, world } = virtualClient({ limits })
    const observed = Array.from({ length: count }, () => start({ prompt: "x".repeat(length) }))
    world.advance(1_000)
    expect(balancer.requests).toHaveLength(count)
    for (const request of balancer.requests) balancer.done(request)
    world.settle()
    expect(observed.map(({ endings }) => endings[0]?.outcome)).toEqual(Array(count).fill("done"))
    expect([world.dials, client.protocolViolations]).toEqual([1, 0])
  })

  test("no model served and none named", () => {
    const { world, start } = virtualClient({}, { models: [] })
    const request = start()
    world.settle()
    expect(request.endings).toMatchObject([{ outcome: "rejected", reason: "no_worker" }])
  })
})

describe("deadline", () => {
  test("the balancer is told what is left of it", () => {
    const { world, balancer, start } = virtualClient()
    world.refusing = true
    start({ timeoutMs: 60_000 })
    world.advance(20)
    world.refusing = false
    world.advance(60)
    expect(balancer.requests[0]!.timeoutMs).toBeLessThan(60_000)
    expect(balancer.requests[0]!.timeoutMs).toBeGreaterThanOrEqual(60_000 - 80)
  })

  test("a request that could not be sent by then has expired", () => {
    const { world, balancer, start } = virtualClient()
    world.refusing = true
    const request = start({ timeoutMs: 60 })
    world.advance(200)
    expect(request.endings).toMatchObject([{ outcome: "expired", delivered: 0, attempts: 0 }])
    world.refusing = false
    world.advance(5_000)
    expect(balancer.requests).toEqual([])
  })

  test("a balancer that says nothing is not waited for much longer", () => {
    const { world, balancer, client, start } = virtualClient()
    const request = start({ timeoutMs: 1_000 })
    world.advance(2_900)
    expect(request.endings).toEqual([])
    world.advance(200)
    expect(request.endings).toMatchObject([{ outcome: "expired" }])
    expect(balancer.requests[0]!.cancels).toBe(1)
    balancer.accept(balancer.requests[0]!)
    balancer.token(balancer.requests[0]!)
    balancer.error(balancer.requests[0]!, Reason.expired)
    world.settle()
    expect(request.endings.length).toBe(1)
    expect(request.tokens).toEqual([])
    expect(client.protocolViolations).toBe(0)
  })
})

describe("cancel", () => {
  test("before it is sent: nothing leaves", () => {
    const { world, balancer, start } = virtualClient()
    const request = start()
    request.cancel()
    expect(request.endings).toMatchObject([{ outcome: "cancelled", delivered: 0 }])
    world.advance(1_000)
    expect(balancer.requests).toEqual([])
  })

  test.each(["queued", "admitted", "streaming"])("while %s: the balancer confirms", (phase) => {
    const { world, balancer, client, start } = virtualClient()
    const request = start()
    world.settle()
    const got = balancer.requests[0]!
    if (phase !== "queued") balancer.accept(got)
    if (phase === "streaming") balancer.token(got)
    world.settle()
    request.cancel()
    request.cancel()
    world.settle()
    expect(got.cancels).toBe(1)
    expect(request.endings).toEqual([])
    const before = request.tokens.length
    if (phase === "streaming") balancer.token(got)
    balancer.error(got, Reason.cancelled)
    world.settle()
    expect(request.tokens.length).toBe(before)
    expect(request.endings).toMatchObject([{ outcome: "cancelled", reason: "cancelled" }])
    expect(client.protocolViolations).toBe(0)
  })

  test("an answer that was faster wins", () => {
    const { world, balancer, start } = virtualClient()
    const request = start()
    world.settle()
    request.cancel()
    balancer.answer(balancer.requests[0]!, ["a"])
    world.settle()
    expect(request.endings).toMatchObject([{ outcome: "done", tokens: 1 }])
  })

  test("a balancer that does not confirm is not waited for", () => {
    const { world, start } = virtualClient()
    const request = start()
    world.settle()
    request.cancel()
    world.advance(1_900)
    expect(request.endings).toEqual([])
    world.advance(200)
    expect(request.endings).toMatchObject([{ outcome: "cancelled" }])
  })

  test("by an AbortSignal, in time or too early", () => {
    const { world, balancer, start } = virtualClient()
    const early = start({ signal: AbortSignal.abort() })
    expect(early.endings).toEqual([])
    world.settle()
    expect(early.endings).toMatchObject([{ outcome: "cancelled" }])
    expect(balancer.requests).toEqual([])
    const abort = new AbortController()
    start({ signal: abort.signal })
    world.settle()
    abort.abort()
    world.settle()
    expect(balancer.requests[0]!.cancels).toBe(1)
  })
})

describe("a lost connection", () => {
  test("a request without a token is sent again under its id", () => {
    const { world, balancer, client, start } = virtualClient()
    const request = start()
    world.settle()
    balancer.accept(balancer.requests[0]!)
    world.settle()
    world.cutAll()
    world.advance(100)
    expect(balancer.requests.map(({ id }) => id)).toEqual([request.id, request.id])
    expect(balancer.requests[1]!.extras?.modelName).toBe("m")
    balancer.answer(balancer.requests[1]!, ["a", "b"])
    world.settle()
    expect(request.endings).toMatchObject([{ outcome: "done", tokens: 2 }])
    expect(request.admissions).toBe(1)
    expect(client.protocolViolations).toBe(0)
  })

  test("one that is streaming ends with what it had", () => {
    const { world, balancer, start } = virtualClient()
    const request = start()
    world.settle()
    balancer.accept(balancer.requests[0]!)
    balancer.token(balancer.requests[0]!)
    world.settle()
    world.cutAll()
    world.advance(5_000)
    expect(request.endings).toMatchObject([
      { outcome: "error", reason: "connection_lost", delivered: 1, retryable: true, attempts: 1 }
    ])
    expect(balancer.requests.length).toBe(1)
  })

  test.each([
    ["retry none", { retry: "none" as const }, "error"],
    ["after a cancel", {}, "cancelled"]
  ])("%s: it is not sent again", (name, facts, outcome) => {
    const { world, balancer, start } = virtualClient()
    const request = start(facts)
    world.settle()
    if (name === "after a cancel") request.cancel()
    world.settle()
    world.cutAll()
    world.advance(5_000)
    expect(request.endings).toMatchObject([{ outcome }])
    expect(balancer.requests.length).toBe(1)
  })

  test("the third loss is the last", () => {
    const { world, balancer, start } = virtualClient()
    const request = start()
    for (let losses = 0; losses < 3; losses++) {
      world.advance(5_000)
      expect(balancer.requests.length).toBe(losses + 1)
      expect(request.endings).toEqual([])
      world.cutAll()
    }
    expect(request.endings).toMatchObject([{ outcome: "error", reason: "connection_lost", delivered: 0 }])
  })

  test("dials are bounded, then those who wait are told; the next request dials anew", () => {
    const { world, balancer, start } = virtualClient({ reconnect: { attemptsMax: 4 } })
    world.refusing = true
    const request = start()
    world.advance(60_000)
    expect(world.dials).toBe(4)
    expect(request.endings).toMatchObject([
      { outcome: "error", reason: "connection_lost", message: "connection refused", retryable: true }
    ])
    expect(world.timerCount).toBe(1)
    world.refusing = false
    start()
    world.settle()
    expect(balancer.requests.length).toBe(1)
  })

  test.each(["none", "beforeFirstToken"] as const)(
    "retry %s: a balancer that drops every connection is dialled at growing intervals, until one lasts",
    (retry) => {
      let isDropping = true
      const { world, balancer, start } = virtualClient(
        {},
        {
          onRequest: ({ connection }) => {
            if (isDropping) connection.cut("test")
          }
        }
      )
      const dialsMs: Array<number> = []
      let request = start({ retry })
      for (let dials = 0; dialsMs.length < 40; dials = world.dials) {
        world.advance(1)
        if (world.dials > dials) dialsMs.push(world.nowMs)
        if (request.endings.length > 0) request = start({ retry })
      }
      const gaps = dialsMs.slice(1).map((ms, index) => ms - dialsMs[index]!)
      for (const [index, gap] of gaps.entries())
        expect(gap).toBeLessThanOrEqual(Math.min(2_000, 25 * 2 ** (index + 1)) + 2)
      const mean = gaps.slice(7).reduce((sum, gap) => sum + gap, 0) / (gaps.length - 7)
      expect(Math.abs(mean - 1_000)).toBeLessThan(300)
      isDropping = false
      world.advance(3_000)
      const { dials } = world
      for (const connection of balancer.connections) connection.cut("test")
      start()
      world.advance(25)
      expect(world.dials).toBe(dials + 1)
    }
  )

  test("a dial that hangs counts as failed", () => {
    const { world, start } = virtualClient({ reconnect: { attemptsMax: 1 }, connectMs: 5_000 })
    world.silent = true
    const request = start()
    world.advance(4_999)
    expect(request.endings).toEqual([])
    world.advance(1)
    expect(request.endings).toMatchObject([
      { reason: "connection_lost", message: "no answer within 5000 ms" }
    ])
  })

  test("a balancer that stands still, and greets nobody any more, breaks no rule", () => {
    const limits = { ...defaultLimits, pingMs: 1_000, silenceMs: 3_000 }
    const { world, client, start } = virtualClient({ limits, connectMs: 500, reconnect: { attemptsMax: 2 } })
    const request = start()
    world.settle()
    world.hopMs = Infinity
    world.advance(10_000)
    expect(world.dials).toBe(3)
    expect(request.endings).toMatchObject([{ outcome: "error", reason: "connection_lost" }])
    expect([client.protocolViolations, client.lastViolation]).toEqual([0, ""])
  })

  test("a balancer that refuses the greeting is not asked again", () => {
    const { world, start } = virtualClient({}, { refuse: { refuse: "unauthorized", message: "who are you" } })
    const request = start()
    world.advance(60_000)
    expect(world.dials).toBe(1)
    expect(request.endings).toMatchObject([
      { reason: "connection_lost", message: "goodbye: unauthorized (who are you)" }
    ])
  })

  test("EOF without a terminal is an error, not an end", () => {
    const { world, balancer, start } = virtualClient()
    const request = start()
    world.settle()
    balancer.accept(balancer.requests[0]!)
    balancer.token(balancer.requests[0]!)
    for (const connection of balancer.connections) connection.goodbye("done", "bye")
    world.advance(1_000)
    expect(request.endings).toMatchObject([
      { outcome: "error", reason: "connection_lost", delivered: 1, message: "goodbye: done (bye)" }
    ])
  })
})

describe("a listener that answers every ending with another request", () => {
  /** Says in which turn each of them ended, and stops after the fifth. */
  const relentless = (
    { world, client }: ReturnType<typeof virtualClient>,
    request: Partial<GenerateRequest> = {}
  ) => {
    let turn = 0
    const turns: Array<number> = []
    const start = (): void => {
      client.start(
        { prompt: "hello", maxTokens: 1, ...request },
        {
          ended: () => {
            turns.push(turn)
            world.turn.soon({ run: () => void turn++ })
            if (turns.length < 5) start()
          }
        }
      )
    }
    start()
    return turns
  }

  test("does not keep the client from giving up", () => {
    const rig = virtualClient({ reconnect: { attemptsMax: 1 } })
    rig.world.refusing = true
    expect(relentless(rig)).toEqual([])
    rig.world.settle()
    expect(rig.world.dials).toBe(5)
  })

  test.each([
    ["a request that is too long", {}, { prompt: "x".repeat(2 * 1024 * 1024) }],
    ["no model", { models: [] }, {}]
  ])("leaves the sockets their turn: %s", (_, fake, request) => {
    const rig = virtualClient({}, fake)
    const turns = relentless(rig, request)
    rig.world.settle()
    expect(turns).toEqual([0, 1, 2, 3, 4])
  })

  test.each([true, false])(
    "does not keep the client from closing, connected or not (%j)",
    async (connected) => {
      const rig = virtualClient()
      rig.world.silent = !connected
      const turns = relentless(rig)
      rig.world.settle()
      let closed = false
      void rig.client.close().then(() => (closed = true))
      await rig.world.rest()
      expect(turns).toEqual([0, 1, 2, 3, 4])
      expect([closed, rig.client.inFlight, rig.world.dials]).toEqual([true, 0, 1])
    }
  )
})

describe("several connections", () => {
  test("are used in turn, and a lost one is passed over", async () => {
    const { world, balancer, client, start } = virtualClient({ connections: 3 })
    const opening = client.open()
    await world.rest()
    await opening
    for (let i = 0; i < 6; i++) start()
    world.settle()
    const counts = [...balancer.connections].map(
      (each) => balancer.requests.filter(({ connection }) => connection === each).length
    )
    expect(counts).toEqual([2, 2, 2])
    const [lost] = balancer.connections
    lost!.cut("test")
    world.advance(0)
    for (let i = 0; i < 6; i++) start({ timeoutMs: 9 })
    world.settle()
    expect(balancer.requests.filter(({ timeoutMs }) => timeoutMs === 9).length).toBe(6)
    expect(balancer.requests.slice(6).every(({ connection }) => connection !== lost)).toBe(true)
  })

  test("that were all lost are all made again, one request in its turn after the other", async () => {
    const { world, balancer, client, start } = virtualClient({ connections: 3 })
    const opening = client.open()
    await world.rest()
    await opening
    world.cutAll()
    for (let i = 0; i < 4; i++) {
      start()
      world.advance(100)
    }
    expect(balancer.connections.size).toBe(3)
    expect(balancer.requests.length).toBe(4)
  })
})

describe("open and close", () => {
  test("a name that no balancer greets is a mistake in the program", () => {
    expect(() => virtualClient({ identity: "my app" })).toThrow(RangeError)
  })

  test.each<readonly [options: Partial<ClientOptions>, message: string]>([
    [{ requestsMax: 0 }, "requestsMax must be at least 1"],
    [{ requestsMax: Number.NaN }, "requestsMax must be at least 1"],
    [{ connectMs: 0 }, "connectMs must be from 1 to 2147483647"],
    [{ connectMs: 2 ** 31 }, "connectMs must be from 1 to 2147483647"],
    [{ connections: 1e9 }, "connections must be from 1 to 1024"],
    [{ connections: 1.5 }, "connections must be an integer"],
    [{ reconnect: { attemptsMax: 0 } }, "reconnect.attemptsMax must be at least 1"],
    [{ reconnect: { baseMs: -1 } }, "reconnect.baseMs must be from 0 to 2147483647"],
    [{ reconnect: { capMs: Number.NaN } }, "reconnect.capMs must be from 0 to 2147483647"],
    [{ address: { host: "127.0.0.1", port: 65_536 } }, "expected host:port"],
    [{ tenant: "a b" }, "tenant must be 1 to 128 visible ASCII characters"],
    // Programs without types.
    [{ identity: 42 as never }, "identity must be 1 to 128 letters"],
    [{ credential: 42 as never }, "credential must be text"]
  ])("%o is a mistake in the program, told before there is any connection", (options, message) => {
    const world = new VirtualWorld()
    const { transport, timers, turn } = world
    const make = () => new Client({ address: "virtual:7420", transport, timers, turn, ...options })
    expect(make).toThrow(RangeError)
    expect(make).toThrow(message)
    expect(world.timerCount).toBe(0)
  })

  test.each([
    ["127.0.0.1:7420"],
    [undefined],
    [null],
    [{}],
    [{ address: 7420 }],
    [{ address: { port: 7420 } }]
  ])("connect(%j) is told what options look like", async (options) => {
    // A program without types.
    const given = options as unknown as ClientOptions
    for (const connecting of [connect, connectAdmin]) {
      const error = await connecting(given).catch((reason: unknown) => reason)
      expect(error).toBeInstanceOf(RangeError)
      expect(String(error)).toContain('as in { address: "127.0.0.1:7420" }')
    }
  })

  test("open says who cannot be reached", async () => {
    const { world, client } = virtualClient()
    world.refusing = true
    const failed = client.open().catch((error: unknown) => error)
    await world.rest()
    const error = await failed
    expect(error).toBeInstanceOf(ConnectFailed)
    expect((error as ConnectFailed).message).toBe(
      "cannot connect to the balancer at virtual:7420: connection refused"
    )
    world.advance(60_000)
    expect(world.dials).toBe(1)
  })

  test("a balancer that is slow to greet is waited for as long as was said", async () => {
    const far = new VirtualWorld(undefined, 1_500)
    const { world, client } = virtualClient({ connectMs: 3_001 }, {}, far)
    const opened = client.open()
    world.advance(3_000)
    await opened
    expect(client.isConnected).toBe(true)
    expect(client.protocolViolations).toBe(0)
  })

  test("close ends every request, says GOODBYE, and leaves nothing behind", async () => {
    const { world, balancer, client, start } = virtualClient()
    const requests = [start(), start()]
    world.settle()
    balancer.accept(balancer.requests[0]!)
    world.settle()
    const later = start()
    let closed = false
    void client.close().then(() => (closed = true))
    await world.rest()
    expect(closed).toBe(true)
    for (const { endings } of [...requests, later]) expect(endings).toMatchObject([{ outcome: "cancelled" }])
    expect(balancer.connections.size).toBe(0)
    expect(balancer.violations).toEqual([])
    // The one timer left is the fake balancer's own.
    expect(world.timerCount).toBe(1)
    const after = start()
    world.settle()
    expect(after.endings).toMatchObject([
      // No other try can succeed.
      { outcome: "cancelled", retryable: false, message: "the client is closed" }
    ])
  })

  test("close by who hears of a lost request ends those that were lost with it", async () => {
    const { world, balancer, client, start } = virtualClient()
    client.start({ prompt: "hello", maxTokens: 1 }, { ended: () => void client.close() })
    const other = start()
    world.settle()
    balancer.token(balancer.requests[0]!)
    world.settle()
    world.cutAll()
    await world.rest()
    expect(other.endings).toMatchObject([{ outcome: "cancelled" }])
    expect(client.inFlight).toBe(0)
    expect(world.timerCount).toBe(1)
  })

  test("nothing is told to who has closed it, not even the token that came with the news", async () => {
    const { world, balancer, client } = virtualClient()
    const told: Array<string> = []
    client.start(
      { prompt: "hello", maxTokens: 1 },
      {
        admitted: () => void client.close(),
        token: () => told.push("token"),
        ended: ({ outcome }) => told.push(outcome)
      }
    )
    world.settle()
    balancer.token(balancer.requests[0]!)
    await world.rest()
    expect(told).toEqual(["cancelled"])
  })

  test("close by who hears of an ending ends those that have lost their connection meanwhile", async () => {
    const { world, client, start } = virtualClient()
    client.start({ prompt: "hello", maxTokens: 1 }, { ended: () => world.cutAll() })
    const other = start()
    world.settle()
    await client.close()
    expect(other.endings).toMatchObject([{ outcome: "cancelled" }])
    expect(client.inFlight).toBe(0)
  })

  test("a client that is open opens no second time", async () => {
    const { world, client } = virtualClient({ connections: 2 })
    for (let i = 0; i < 2; i++) {
      const opening = client.open()
      await world.rest()
      await opening
    }
    expect(world.dials).toBe(2)
  })

  test.each<readonly [name: string, silent: boolean]>([
    ["while a request has it dialled", true],
    ["while it waits to dial again", false]
  ])("open of a client that lost its connection, %s, takes part in that", async (_name, silent) => {
    const { world, client, start } = virtualClient({ reconnect: { baseMs: 60_000, capMs: 60_000 } })
    world.silent = silent
    world.refusing = !silent
    const request = start()
    world.settle()
    world.refusing = false
    const opened = [client.open(), client.open()]
    world.answerDials()
    await world.rest()
    await Promise.all(opened)
    expect(client.isConnected).toBe(true)
    expect(world.dials).toBe(silent ? 1 : 2)
    expect(request.endings).toEqual([])
  })

  test("open of a client that is closed, or closes meanwhile, says so", async () => {
    const { world, client } = virtualClient()
    world.silent = true
    const meanwhile = client.open().catch((error: unknown) => error)
    await world.rest()
    await client.close()
    for (const error of [await meanwhile, await client.open().catch((e: unknown) => e)])
      expect(error).toMatchObject({ _tag: "ConnectFailed", why: "the client is closed" })
  })

  test("close during a dial abandons it", async () => {
    const { world, balancer, client, start } = virtualClient()
    const request = start()
    world.silent = true
    await world.rest()
    await client.close()
    expect(request.endings).toMatchObject([{ outcome: "cancelled" }])
    world.advance(60_000)
    expect(balancer.connections.size).toBe(0)
    expect(world.timerCount).toBe(1)
  })
})
