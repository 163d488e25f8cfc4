import { describe, expect, test } from "bun:test"
import { Reason } from "../../src/domain/Outcome.ts"
import { idleLoad } from "../../src/domain/WorkerLoad.ts"
import type { Placement } from "../../src/policies/Placement.ts"
import { encodeFrame, pack } from "../../src/protocol/Codec.ts"
import { Flag, Type } from "../../src/protocol/Header.ts"
import { FAILURE_LENGTH_MAX, packExtras } from "../../src/protocol/Message.ts"
import { heartbeat, Peer, register, VirtualNode } from "./support/VirtualNode.ts"
import { overload, scene } from "./support/scene.ts"

describe("a request", () => {
  test("reaches the worker with its own stream id, attempt, epoch and model number; the answer returns under the client's", () => {
    const { client, worker } = scene()
    client.send(client.request({ stream: 42 }))
    const [assign] = worker.of(Type.assign)
    expect(assign).toMatchObject({ attempt: 1, epoch: 7, model: 0, payload: { prompt: "hello" } })
    worker.send(
      worker.token(assign!, 0),
      worker.token(assign!, 1, 2),
      worker.about(assign!, Type.done, { a: 3, b: 4 })
    )
    expect(client.of(Type.token).map(({ stream, a, b }) => [stream, a, b])).toEqual([
      [42, 0, 1],
      [42, 1, 2]
    ])
    expect(client.of(Type.done)).toMatchObject([{ stream: 42, attempt: 1, a: 3, b: 4 }])
  })

  test("has its tokens passed on unread, whatever they hold", () => {
    const { node, client, worker } = scene()
    client.send(client.request({ stream: 5 }))
    const { stream, attempt, epoch } = worker.of(Type.assign)[0]!
    const token = (a: number, payload: Buffer) =>
      encodeFrame(Type.token, { stream, attempt, epoch, a, b: 1 }, { payload })
    worker.send(token(0, Buffer.alloc(40, 0xc1)), token(1, pack("text")))
    expect(client.of(Type.token)).toMatchObject([
      { stream: 5, a: 0, payload: undefined },
      { stream: 5, a: 1, payload: "text" }
    ])
    expect(node.violations).toEqual([])
  })

  test("has the times between its frames of tokens taken down, not that before the first", () => {
    const { client, node, worker } = scene()
    for (const stream of [1, 2]) client.send(client.request({ stream }))
    const [one, other] = worker.of(Type.assign)
    const { itlMs } = node.host.totals
    const says = (ms: number, ...frames: ReadonlyArray<Buffer>): void => {
      node.advance(ms)
      worker.send(...frames)
    }
    says(300, worker.token(one!, 0))
    says(10, worker.token(other!, 0))
    says(15, worker.token(one!, 1, 3), worker.token(other!, 1))
    expect([itlMs.count, itlMs.min, itlMs.max]).toEqual([2, 15, 25])
  })

  test("is placed together with those that other clients send in the same turn, where the pipeline says so", () => {
    const together: Array<number> = []
    const placement = (made: Placement): Placement => ({
      ...made,
      pickBatch: (requests, pool, nowMs, picked) => {
        together.push(requests.length)
        for (const [i, request] of requests.entries()) picked[i] = made.pick(request, pool, nowMs)
      }
    })
    const node = new VirtualNode({ placement, batching: "same-turn" })
    const worker = node.worker("w0")
    const clients = [node.client("one"), node.client("other")]
    for (const client of clients) client.push(client.request({ stream: 1 }))
    expect(together).toEqual([])
    node.settle()
    expect(together).toEqual([2])
    expect(worker.of(Type.assign)).toHaveLength(2)
  })

  test.each([
    ["states none", 0, 60_000],
    ["states a shorter one", 5_000, 5_000],
    ["states a longer one than it may", 600_000, 60_000]
  ])("that %s has its deadline, and each of its workers is told what is left", (_, timeoutMs, allowedMs) => {
    const { node, client, worker } = scene()
    const other = node.worker("w1")
    client.send(client.request({ stream: 1, timeoutMs }))
    const [first, second] = worker.of(Type.assign).length > 0 ? [worker, other] : [other, worker]
    expect(first.of(Type.assign)).toMatchObject([{ timeoutMs: allowedMs }])
    node.advance(900)
    for (const peer of [first, second]) peer.send(heartbeat)
    first.drop()
    expect(second.of(Type.assign)).toMatchObject([{ attempt: 2, timeoutMs: allowedMs - 900 }])
    for (let leftMs = allowedMs - 900; leftMs > 0; leftMs -= 100) {
      expect(client.of(Type.error)).toEqual([])
      node.advance(100)
      second.send(heartbeat)
    }
    node.advance(100)
    expect(client.of(Type.error)).toMatchObject([{ a: Reason.expired }])
  })

  test("is known by the first 4,096 blocks of its prompt, however many there are", () => {
    const { node, client } = scene()
    for (const [i, blocks] of [4096, 4097].entries())
      client.send(client.request({ stream: i + 1, chain: Buffer.alloc(8 * blocks, 7) }))
    expect(node.host.links.table.all().map(({ chain }) => chain.count)).toEqual([4096, 4096])
  })

  test("is told ACCEPTED within some milliseconds, unless a token said it first", () => {
    const { node, client, worker } = scene()
    client.send(client.request({ stream: 1 }), client.request({ stream: 2 }))
    worker.send(worker.token(worker.of(Type.assign)[0]!, 0))
    node.advance(5)
    expect(client.of(Type.accepted).map(({ stream }) => stream)).toEqual([2])
  })

  test.each([
    ["stream 0", { stream: 0 }, Reason.badRequest, "stream"],
    ["no prompt tokens", { stream: 1, promptTokens: 0 }, Reason.badRequest, "promptTokens"],
    ["no output", { stream: 1, maxTokens: 0 }, Reason.badRequest, "maxTokens"],
    ["a model nobody serves", { stream: 1, model: "gpt-9" }, Reason.unknownModel, "model"]
  ])("with %s is rejected, and the message names the field", (_, options, reason, field) => {
    const { node, client, worker } = scene()
    client.send(client.request(options))
    expect(client.of(Type.rejected)).toMatchObject([{ stream: options.stream, a: reason }])
    expect(JSON.stringify(client.of(Type.rejected)[0]!.payload)).toContain(field)
    expect(worker.of(Type.assign)).toEqual([])
    expect(client.closed).toBe(false)
    expect(node.host.snapshot()).toMatchObject({ accepted: 0, rejected: 1 })
  })

  describe("for a model that is not served", () => {
    /** What REJECTED says where these models are served. */
    const answer = (models: ReadonlyArray<string>, model: string): unknown => {
      const client = new VirtualNode({ models }).client()
      client.send(client.request({ stream: 1, model }))
      return client.of(Type.rejected)[0]?.payload
    }

    test.each([
      [1, 'only "m0"'],
      [2, 'only "m0", "m1"'],
      [5, 'only "m0", "m1", "m2", "m3", "m4"'],
      [6, 'only "m0", "m1", "m2", "m3", "m4" and 1 other'],
      [64, 'only "m0", "m1", "m2", "m3", "m4" and 59 others']
    ])("where %i are, is told the first five of them", (count, named) => {
      const models = Array.from({ length: count }, (_, i) => `m${i}`)
      expect(answer(models, "gpt-9")).toEqual({ message: `model: "gpt-9" is not served here, ${named}` })
    })

    test("is told the beginning of long names, and no more than a message may hold, however they are quoted", () => {
      const name = (character: string) => character.repeat(128)
      const quotes = Array.from({ length: 64 }, (_, i) => `${'"'.repeat(124)}${i}`)
      expect(answer([name("s")], name("a"))).toEqual({
        message: `model: "${"a".repeat(64)}…" is not served here, only "${"s".repeat(64)}…"`
      })
      const { message } = answer(quotes, name("\\")) as { message: string }
      expect(message).toEndWith(" and 59 others")
      expect(message.length).toBeLessThanOrEqual(FAILURE_LENGTH_MAX)
    })

    test("is told its name also where that travelled with an earlier one, until it is served", () => {
      const { client, node } = scene()
      const unnamed = (stream: number, model: number) =>
        encodeFrame(
          Type.request,
          { stream },
          { payload: pack({ prompt: "hello" }) },
          { idHigh: 0, idLow: stream, model, promptTokens: 1, maxTokens: 1 }
        )
      client.send(client.request({ stream: 1, model: "later" }), unnamed(2, 1))
      const message = 'model: "later" is not served here, only "sim"'
      expect(client.of(Type.rejected).map(({ stream, payload }) => [stream, payload])).toEqual([
        [1, { message }],
        [2, { message }]
      ])
      const worker = node.worker("w1", { models: ["later"] })
      client.send(unnamed(3, 1))
      expect(client.of(Type.rejected)).toHaveLength(2)
      expect(worker.of(Type.assign)).toHaveLength(1)
    })

    test("has a name without control characters, or its connection ends", () => {
      const { client } = scene()
      client.send(client.request({ stream: 1, model: "\u001b[31m" }))
      expect(client.of(Type.rejected)).toEqual([])
      const message =
        "the extras of a REQUEST: must be an array of names, each nil or 1 to 128 visible ASCII characters"
      expect(client.of(Type.goodbye)).toMatchObject([{ payload: { code: "bad_message", message } }])
    })

    test.each([
      ["model", { model: 1024 }, { modelName: "sim", tenantName: null }],
      ["tenant", { tenant: 1024 }, { modelName: null, tenantName: "acme" }]
    ])("gives a name to a number up to 1,023, or its connection ends: %s", (field, numbers, names) => {
      const { client } = scene()
      const extras = packExtras({ ...names, idempotencyKey: null })
      const routing = { idHigh: 0, idLow: 1, promptTokens: 1, maxTokens: 1, ...numbers }
      const payload = pack({ prompt: "hello" })
      client.send(encodeFrame(Type.request, { stream: 1, flags: Flag.extras }, { extras, payload }, routing))
      const message = `the extras of a REQUEST: ${field} must be below 1024 to be given a name`
      expect(client.of(Type.goodbye)).toMatchObject([{ payload: { code: "bad_message", message } }])
    })
  })

  test("F24: whose stream or id is in use is rejected as a duplicate; the first one goes on", () => {
    const { client, worker } = scene()
    client.send(
      client.request({ stream: 1, id: 9 }),
      client.request({ stream: 1, id: 10 }),
      client.request({ stream: 2, id: 9 })
    )
    expect(client.of(Type.rejected).map(({ stream, a }) => [stream, a])).toEqual([
      [1, Reason.duplicateRequest],
      [2, Reason.duplicateRequest]
    ])
    const [assign] = worker.of(Type.assign)
    worker.send(worker.about(assign!, Type.done))
    expect(client.of(Type.done)).toHaveLength(1)
    client.send(client.request({ stream: 1, id: 9 }))
    expect(worker.of(Type.assign)).toHaveLength(2)
  })

  test("beyond the bound of its connection is rejected with the name of the limit", () => {
    const node = new VirtualNode({ streamsMax: 2 })
    node.worker("w0")
    const client = node.client()
    for (const stream of [1, 2, 3]) client.send(client.request({ stream }))
    expect(client.of(Type.rejected)).toMatchObject([{ stream: 3, a: Reason.limit, b: 100 }])
  })

  test("the gateway may have as many requests as the balancer holds: it sends those of all its users", () => {
    const node = new VirtualNode({ streamsMax: 2 })
    node.worker("w0")
    node.host.gateway = "gateway-of-this-process"
    const gateway = node.client("gateway-of-this-process")
    for (const stream of [1, 2, 3]) gateway.send(gateway.request({ stream }))
    expect(gateway.of(Type.rejected)).toEqual([])
    expect(node.host.snapshot()).toMatchObject({ inFlight: 3, rejected: 0 })
  })

  test.each([
    ["that is not well formed", Buffer.from([0xc1])],
    ["F14: with a key twice in its payload", Buffer.from("82a16101a16102", "hex")]
  ])("%s ends the connection", (_, payload) => {
    const { client, worker } = scene()
    client.send(
      encodeFrame(
        Type.request,
        { stream: 1 },
        { payload },
        { idHigh: 0, idLow: 1, promptTokens: 1, maxTokens: 1 }
      )
    )
    expect(client.of(Type.goodbye)).toMatchObject([{ payload: { code: "bad_frame" } }])
    expect(worker.of(Type.assign)).toEqual([])
  })
})

describe("a worker that is slow to read", () => {
  const outboxBytes = 128 * 1024
  /** One that has read its first frames, and then stops. */
  const slowWorker = () => {
    const node = new VirtualNode({ outboxBytes })
    const worker = node.worker("w0", { capacity: 1024 })
    worker.room = 0
    return { node, worker, client: node.client() }
  }
  const prompt = "p".repeat(4_000)
  const cancel = (stream: number) => encodeFrame(Type.cancel, { stream })

  test("gets more prompts than its outbox holds, in order, as it reads them", () => {
    const { client, node, worker } = slowWorker()
    for (let stream = 1; stream <= 200; stream++) client.send(client.request({ stream, prompt }))
    expect(worker.connection.outbox.pending).toBeLessThan(outboxBytes)
    while (worker.of(Type.assign).length < 200 && !worker.closed) worker.read(10_000)
    expect(worker.of(Type.assign).map(({ attempt, payload }) => ({ attempt, payload }))).toEqual(
      Array.from({ length: 200 }, () => ({ attempt: 1, payload: { prompt } }))
    )
    for (const assign of worker.of(Type.assign)) worker.send(worker.about(assign, Type.done))
    expect(client.of(Type.done).map(({ stream }) => stream)).toEqual(
      Array.from({ length: 200 }, (_, i) => i + 1)
    )
    expect(node.violations).toEqual([])
  })

  test("takes prompts of half its outbox, all told at once, one after the other", () => {
    const { client, node, worker } = slowWorker()
    const long = "p".repeat(outboxBytes / 2 - 100)
    for (let stream = 1; stream <= 5; stream++) client.push(client.request({ stream, prompt: long }))
    node.settle()
    while (worker.of(Type.assign).length < 5 && !worker.closed) worker.read(10_000)
    expect(worker.of(Type.assign)).toHaveLength(5)
    expect(node.violations).toEqual([])
  })

  test("does not hear of those that were called off before they were sent", () => {
    const { client, node, worker } = slowWorker()
    for (let stream = 1; stream <= 100; stream++) client.send(client.request({ stream, prompt }))
    for (let stream = 1; stream <= 100; stream++) client.send(cancel(stream))
    worker.read(Infinity)
    const cancelled = worker.of(Type.cancel).map(({ stream }) => stream)
    expect(worker.of(Type.assign).map(({ stream }) => stream)).toEqual(cancelled)
    expect(cancelled.length).toBeLessThan(outboxBytes / prompt.length)
    expect(client.of(Type.error)).toHaveLength(100)
    expect([worker.closed, node.violations, node.host.snapshot().inFlight]).toEqual([false, [], 0])
  })

  test("is not heard about what waits for that: it can only have guessed", () => {
    const { client, node, worker } = slowWorker()
    for (let stream = 1; stream <= 60; stream++) client.send(client.request({ stream, prompt }))
    const [[stream, attempt] = [0, 0]] = node.host.links.workers[0]!.unsent
    const numbers = { stream, attempt, epoch: 7 }
    const payload = pack("x")
    worker.send(encodeFrame(Type.token, { ...numbers, b: 1 }, { payload }))
    worker.send(encodeFrame(Type.done, { ...numbers, a: 1 }, { payload }))
    expect([client.of(Type.token), client.of(Type.done)]).toEqual([[], []])
    worker.read(Infinity)
    expect(worker.of(Type.assign)).toHaveLength(60)
  })

  test("has not begun what waits for that: when it is lost others do that, and nobody the rest", () => {
    const { client, node, worker } = slowWorker()
    const flags = Flag.sideEffects
    for (let stream = 1; stream <= 60; stream++) client.send(client.request({ stream, prompt, flags }))
    const { size } = node.host.links.workers[0]!.unsent
    const other = node.worker("w1", { capacity: 64 })
    worker.connection.closed()
    node.settle()
    expect(size).toBeGreaterThan(0)
    expect(other.of(Type.assign)).toHaveLength(size)
    expect(client.of(Type.error).map(({ a }) => a)).toEqual(
      Array.from({ length: 60 - size }, () => Reason.workerLost)
    )
  })

  test("keeps its connection however many requests are called off or read on meanwhile", () => {
    const { client, node, worker } = slowWorker()
    client.send(client.request({ stream: 9_999 }))
    worker.read(Infinity)
    worker.send(worker.token(worker.of(Type.assign)[0]!, 0))
    worker.room = 0
    let upTo = 1_000
    for (let round = 1; round <= 40; round++) {
      for (let i = 0; i < 100; i++) client.send(encodeFrame(Type.credit, { stream: 9_999, a: ++upTo, b: 0 }))
      const churn = node.client(`churn-${round}`)
      for (let stream = 1; stream <= 200; stream++) churn.send(churn.request({ stream }))
      churn.drop()
    }
    expect([worker.closed, node.violations]).toEqual([false, []])
    worker.read(Infinity)
    expect(worker.of(Type.credit).at(-1)).toMatchObject({ a: upTo })
    const cancelled = new Set(worker.of(Type.cancel).map(({ stream }) => stream))
    expect(
      worker
        .of(Type.assign)
        .slice(1)
        .every(({ stream }) => cancelled.has(stream))
    ).toBe(true)
    expect(node.host.snapshot().inFlight).toBe(1)
  })
})

describe("CANCEL", () => {
  test("reaches the worker, ends the request once, and late tokens are dropped", () => {
    const { node, client, worker } = scene()
    client.send(client.request({ stream: 5 }))
    const [assign] = worker.of(Type.assign)
    expect(node.host.snapshot()).toMatchObject({
      inFlight: 1,
      models: [{ name: "sim", inFlight: 1, queued: 0 }]
    })
    client.send(encodeFrame(Type.cancel, { stream: 5 }), encodeFrame(Type.cancel, { stream: 5 }))
    expect(worker.of(Type.cancel)).toMatchObject([{ stream: assign!.stream, attempt: 1 }])
    worker.send(worker.token(assign!, 0), worker.about(assign!, Type.done))
    expect(client.of(Type.error)).toMatchObject([{ stream: 5, a: Reason.cancelled }])
    expect(client.of(Type.token)).toEqual([])
    expect(node.host.snapshot()).toMatchObject({ inFlight: 0, cancelled: 1 })
  })

  test.each([
    ["alone", false],
    ["with a request each", true]
  ])("F30: in a loop, %s, is a flood", (_, requests) => {
    const { node, client } = scene()
    for (let stream = 1; stream <= 400; stream++) {
      if (requests) client.push(client.request({ stream }))
      client.push(encodeFrame(Type.cancel, { stream }))
    }
    node.settle()
    expect(node.violations).toContain("cancel_flood")
    expect(client.of(Type.goodbye)).toHaveLength(1)
  })

  test("is no flood from the gateway, which sends those of all its users", () => {
    const { node } = scene()
    node.host.gateway = "gateway-of-this-process"
    const gateway = node.client("gateway-of-this-process")
    for (let stream = 1; stream <= 400; stream++)
      gateway.push(gateway.request({ stream }), encodeFrame(Type.cancel, { stream }))
    node.settle()
    expect(node.violations).toEqual([])
    expect(gateway.of(Type.error)).toHaveLength(400)
  })

  test("follows a client that goes away, for each of its requests", () => {
    const { node, client, worker } = scene()
    client.send(client.request({ stream: 1 }), client.request({ stream: 2 }))
    client.drop()
    expect(worker.of(Type.cancel)).toHaveLength(2)
    expect(node.host.snapshot()).toMatchObject({ clients: 0, inFlight: 0, cancelled: 2 })
  })
})

describe("a worker", () => {
  test("F25: frames about requests that are gone are dropped; DONE twice counts once (F28)", () => {
    const { node, client, worker } = scene()
    client.send(client.request({ stream: 1 }))
    const [assign] = worker.of(Type.assign)
    const done = worker.about(assign!, Type.done)
    worker.send(done, done, worker.token(assign!, 0), worker.about({ ...assign!, stream: 999 }, Type.done))
    expect(client.of(Type.done)).toHaveLength(1)
    expect(node.host.snapshot()).toMatchObject({ done: 1, inFlight: 0 })
    expect(worker.closed).toBe(false)
  })

  test("F25: 10,000 such frames between two heartbeats are taken, one more is a flood", () => {
    const { client, worker } = scene()
    client.send(client.request({ stream: 1 }))
    const late = worker.token({ ...worker.of(Type.assign)[0]!, attempt: 2 }, 0)
    const many = Array.from({ length: 10_000 }, () => Buffer.from(late))
    worker.send(...many)
    worker.send(heartbeat)
    worker.send(...many)
    expect(worker.of(Type.goodbye)).toEqual([])
    worker.send(late)
    expect(worker.of(Type.goodbye)).toMatchObject([{ payload: { code: "flood" } }])
  })

  test.each([
    ["a superseded attempt", { attempt: 2 }],
    ["another epoch", { epoch: 6 }]
  ])("frames of %s are dropped by number", (_, wrong) => {
    const { client, worker } = scene()
    client.send(client.request({ stream: 1 }))
    const [assign] = worker.of(Type.assign)
    worker.send(worker.token({ ...assign!, ...wrong }, 0), worker.about({ ...assign!, ...wrong }, Type.done))
    expect(client.of(Type.token)).toEqual([])
    expect(client.of(Type.done)).toEqual([])
  })

  test("F27: cannot speak about another worker's request", () => {
    const { node, client, worker } = scene()
    const other = node.worker("w1")
    client.send(client.request({ stream: 1 }))
    const holder = worker.of(Type.assign).length > 0 ? worker : other
    const intruder = holder === worker ? other : worker
    intruder.send(intruder.token(holder.of(Type.assign)[0]!, 0))
    expect(client.of(Type.token)).toEqual([])
  })

  test("that comes, goes or is given up is seen, with the reason", () => {
    const { node } = scene()
    node.advance(5_000)
    const leaver = node.worker("w1")
    leaver.send(encodeFrame(Type.goodbye, {}, { payload: pack({ code: "drain", message: "drained" }) }))
    node.worker("w2").drop()
    node.worker("w3")
    node.worker("w3")
    expect(node.workersSeen).toEqual([
      ["w0"],
      ["w0", "lost: no heartbeat", undefined],
      ["w1"],
      ["w1", "goodbye: drain (drained)", "drain"],
      ["w2"],
      ["w2", "closed", undefined],
      ["w3"],
      ["w3", "done", "done"],
      ["w3"]
    ])
  })

  test.each([
    ["skips", 1],
    ["repeats", 0]
  ])("F26: that %s a token index loses the attempt, and is cut off at the third time", (_, index) => {
    const { node, client, worker } = scene()
    for (let strike = 1; strike <= 3; strike++) {
      client.send(client.request({ stream: strike }))
      const assign = worker.of(Type.assign).at(-1)!
      if (index === 0) worker.send(worker.token(assign, 0))
      worker.send(worker.token(assign, index))
      expect(worker.closed).toBe(strike === 3)
    }
    expect(node.violations).toEqual(["worker_protocol", "worker_protocol", "worker_protocol"])
    expect(client.of(Type.token).every(({ a }) => a === 0)).toBe(true)
  })

  test.each([
    ["more", 3],
    ["fewer", 1]
  ])("F26: whose DONE counts %s tokens than came loses the attempt", (_, count) => {
    const { node, client, worker } = scene()
    client.send(client.request({ stream: 1 }))
    const [assign] = worker.of(Type.assign)
    worker.send(worker.token(assign!, 0, 2), worker.about(assign!, Type.done, { a: count }))
    expect(client.of(Type.done)).toEqual([])
    expect(client.of(Type.error)).toMatchObject([{ stream: 1, a: Reason.workerProtocol, c: 2 }])
    expect(worker.of(Type.cancel)).toMatchObject([{ stream: assign!.stream, attempt: 1 }])
    expect(node.violations).toEqual(["worker_protocol"])
  })

  test("F29: that sends beyond the credit is sent away; with credit it may go on", () => {
    const { client, worker } = scene()
    client.send(client.request({ stream: 1 }))
    const [assign] = worker.of(Type.assign)
    worker.send(worker.token(assign!, 0, 256))
    client.send(encodeFrame(Type.credit, { stream: 1, a: 300 }))
    expect(worker.of(Type.credit)).toMatchObject([{ stream: assign!.stream, a: 300 }])
    worker.send(worker.token(assign!, 256, 44))
    expect(client.of(Type.token)).toHaveLength(2)
    worker.send(worker.token(assign!, 300, 1))
    expect(worker.of(Type.goodbye)).toHaveLength(1)
    expect(client.of(Type.token)).toHaveLength(2)
  })

  test("F29: bytes count as well: 64 KiB of TOKEN frames, and then what the client grants", () => {
    const { client, worker } = scene()
    client.send(client.request({ stream: 1 }))
    const [assign] = worker.of(Type.assign)
    const token = (index: number, bytes: number) =>
      encodeFrame(
        Type.token,
        { stream: assign!.stream, attempt: 1, epoch: 7, a: index, b: 1 },
        { payload: pack("x".repeat(bytes - 36)) }
      )
    expect(token(0, 40_000).length).toBe(40_000)
    worker.send(token(0, 30_000), token(1, 35_536))
    expect(client.of(Type.token)).toHaveLength(2)
    client.send(encodeFrame(Type.credit, { stream: 1, b: 65_536 + 30_000 }))
    expect(worker.of(Type.credit)).toMatchObject([{ stream: assign!.stream, a: 256, b: 95_536 }])
    // An old one changes nothing, and nobody hears of it.
    client.send(encodeFrame(Type.credit, { stream: 1, a: 10, b: 10 }))
    expect(worker.of(Type.credit)).toHaveLength(1)
    worker.send(token(2, 30_000))
    expect(worker.of(Type.goodbye)).toEqual([])
    worker.send(token(3, 40))
    expect(worker.of(Type.goodbye)).toMatchObject([{ payload: { code: "flow_control" } }])
    expect(client.of(Type.token)).toHaveLength(3)
  })

  test("F29: one frame larger than the credit passes while half of it is left, and none after it", () => {
    const { client, worker } = scene()
    client.send(client.request({ stream: 1 }))
    const [assign] = worker.of(Type.assign)
    const token = (index: number, length: number) =>
      encodeFrame(
        Type.token,
        { stream: assign!.stream, attempt: 1, epoch: 7, a: index, b: 1 },
        { payload: pack("x".repeat(length)) }
      )
    worker.send(token(0, 32_000), token(1, 500_000))
    expect(client.of(Type.token)).toHaveLength(2)
    worker.send(token(2, 1))
    expect(worker.of(Type.goodbye)).toMatchObject([{ payload: { code: "flow_control" } }])
  })

  test.each([
    [
      "F13: with the key __proto__",
      pack(JSON.parse(JSON.stringify(idleLoad).replace("{", '{"__proto__":{},'))),
      "payload: Expected object"
    ],
    ["F14: with a key twice", Buffer.from("82a16101a16102", "hex"), "payload: Expected object"],
    ["without its fields", pack({}), "running: Missing key"],
    ["F16: with a text for a number", pack({ ...idleLoad, steps: "7" }), "steps: Expected number"]
  ])("%s in a heartbeat is sent away, and told what is wrong", (_, payload, why) => {
    const { node, worker } = scene()
    worker.send(encodeFrame(Type.heartbeat, {}, { payload }))
    const message = `a HEARTBEAT is not valid: ${why}`
    expect(worker.of(Type.goodbye)).toMatchObject([{ payload: { code: "bad_message", message } }])
    expect(node.violations).toEqual(["bad_message"])
  })

  test("F32: a heartbeat with nonsense in it is clamped, and three of them end the connection", () => {
    const { node, client, worker } = scene()
    const nonsense = encodeFrame(
      Type.heartbeat,
      {},
      { payload: pack({ ...idleLoad, running: -1, waiting: 1e308 }) }
    )
    worker.send(nonsense)
    client.send(client.request({ stream: 1 }))
    expect(worker.of(Type.assign)).toHaveLength(1)
    expect(node.host.snapshot().workers[0]!.load).toMatchObject({
      running: 0,
      waiting: Number.MAX_SAFE_INTEGER
    })
    const { running, waiting } = node.host.workers
    expect([running[0], waiting[0]]).toEqual([0, 2 ** 31 - 1])
    worker.send(nonsense, nonsense)
    expect(node.violations).toEqual(["bad_heartbeat", "bad_heartbeat", "bad_heartbeat"])
    expect(worker.closed).toBe(true)
  })

  test.each([
    ["no models", { models: [] }, "models: Expected a value with a length of at least 1"],
    ["a capacity of 10⁹", { capacity: 1e9 }, "capacity: Expected a value between 1 and 65536"],
    ["a speed of 0", { speed: 0 }, "speed: Expected a value between 0.001 and 1000"],
    ["a role nobody knows", { role: "boss" }, 'role: Expected "both" | "prefill" | "decode"'],
    [
      "300 models",
      { models: Array.from({ length: 300 }, (_, i) => `m${i}`) },
      "models: Expected a value with a length of at most 256"
    ]
  ])("F33: that registers with %s is sent away, and told the field and its range", (_, wrong, why) => {
    const { node } = scene()
    const peer = new Peer(node, "worker", "bad")
    const offer = { models: ["sim"], role: "both", capacity: 4, speed: 1, kvCapacityTokens: 0, ...wrong }
    peer.send(encodeFrame(Type.register, {}, { payload: pack(offer) }))
    const message = `REGISTER is not valid: ${why}`
    expect(peer.of(Type.goodbye)).toMatchObject([{ payload: { code: "bad_message", message } }])
  })

  test("that returns under its name replaces its former self; requests not yet streaming go to it again", () => {
    const { node, client, worker } = scene()
    client.send(client.request({ stream: 1 }))
    const reborn = node.worker("w0", { incarnation: 2 })
    const message = "a worker has registered anew under this name"
    expect(worker.of(Type.goodbye)).toMatchObject([{ payload: { code: "replaced", message } }])
    expect(reborn.of(Type.assign)).toMatchObject([{ attempt: 2 }])
    reborn.send(reborn.about(reborn.of(Type.assign)[0]!, Type.done))
    expect(client.of(Type.done)).toMatchObject([{ stream: 1, attempt: 2 }])
  })

  test("that registers twice in one life is not told that another one has its name", () => {
    const { node, worker } = scene()
    node.worker("w0")
    expect(worker.of(Type.goodbye)).toMatchObject([{ payload: { code: "done" } }])
  })

  test("that returns with other models gets requests for these, and none for those it served before", () => {
    const node = new VirtualNode({ models: ["sim", "other"] })
    node.worker("w0")
    const client = node.client()
    client.send(client.request({ stream: 1 }))
    const reborn = node.worker("w0", { models: ["other"], incarnation: 2 })
    expect(reborn.of(Type.assign)).toEqual([])
    client.send(client.request({ stream: 2, model: "other" }))
    expect(reborn.of(Type.assign)).toMatchObject([{ model: 0 }])
  })

  test("that returns with other models keeps its place for these, though nobody told that it left the others", () => {
    const node = new VirtualNode({ models: ["sim", "other"] })
    node.worker("w0")
    node.managers.get("sim")!.kill()
    const reborn = node.worker("w0", { models: ["other"], incarnation: 2 })
    const client = node.client()
    client.send(client.request({ stream: 1 }), client.request({ stream: 2, model: "other" }))
    expect(reborn.of(Type.assign)).toMatchObject([{ model: 0 }])
  })

  test("that returns while its former connection is given up keeps the new one", () => {
    const { node, worker } = scene()
    node.advance(1_750)
    node.nowMs += 251
    const reborn = new Peer(node, "worker", "w0", 2)
    // Both in one turn: the manager looks before it hears of the return.
    node.managers.get("sim")!.tellControl({ _tag: "Check" })
    reborn.send(register(), heartbeat)
    expect([worker, reborn].map((peer) => peer.of(Type.goodbye).length)).toEqual([1, 0])
    expect(reborn.closed).toBe(false)
    expect(node.host.membersOf("sim")).toMatchObject([{ name: "w0", state: "ready" }])
  })

  test("that brings more models than there may be is sent away, and leaves nothing behind", () => {
    const node = new VirtualNode()
    const models = (name: string) => Array.from({ length: 255 }, (_, i) => `${name}-${i}`)
    for (const name of ["a", "b", "c", "d"]) node.worker(name, { models: models(name) })
    const late = node.worker("late", { models: models("late") })
    expect(late.of(Type.goodbye)).toMatchObject([{ payload: { code: "limit" } }])
    node.worker("w0")
    expect(node.host.membersOf("sim")).toMatchObject([{ name: "w0", state: "ready" }])
    expect(node.host.snapshot().workers.map(({ name }) => name)).toEqual(["a", "b", "c", "d", "w0"])
  })

  test("that is gone leaves its place to another one once all places are taken", () => {
    const { node, client, worker } = scene()
    const others = Array.from({ length: 15 }, (_, i) => node.worker(`other-${i}`))
    const late = node.worker("late")
    expect(late.of(Type.goodbye)).toHaveLength(1)
    for (const other of others) other.drop()
    worker.drop()
    const heir = node.worker("heir")
    client.send(client.request({ stream: 1 }))
    expect(heir.of(Type.assign)).toHaveLength(1)
  })

  test("that takes such a place in the turn in which it became free has its share, as all others", () => {
    const node = new VirtualNode()
    const workers = Array.from({ length: 16 }, (_, i) => node.worker(`w${i}`))
    const heir = new Peer(node, "worker", "heir")
    workers[3]!.connection.closed()
    heir.send(register(), heartbeat)
    const client = node.client()
    for (let stream = 1; stream <= 160; stream++) client.push(client.request({ stream }))
    node.settle()
    const shares = [...workers, heir].map((peer) => peer.of(Type.assign).length)
    expect(shares).toEqual(shares.map((_, i) => (i === 3 ? 0 : 10)))
  })

  test("that drains gets nothing new and finishes what it has", () => {
    const { node, client, worker } = scene()
    client.send(client.request({ stream: 1 }))
    worker.send(encodeFrame(Type.drain, {}))
    client.send(client.request({ stream: 2 }))
    expect(client.of(Type.rejected)).toMatchObject([{ stream: 2, a: Reason.noWorker }])
    worker.send(worker.about(worker.of(Type.assign)[0]!, Type.done))
    expect(client.of(Type.done)).toHaveLength(1)
    expect(node.host.snapshot().workers[0]!.state).toBe("draining")
  })

  test("that leaves in the middle of a burst gives back what it has not begun, and others do it", () => {
    const node = new VirtualNode()
    const [leaver, other] = [node.worker("w0"), node.worker("w1")]
    const client = node.client()
    for (let stream = 1; stream <= 60; stream++)
      client.push(client.request({ stream, flags: stream === 1 ? Flag.sideEffects : 0 }))
    node.settle()
    const given = leaver.of(Type.assign)
    expect(given).toHaveLength(30)
    leaver.send(
      encodeFrame(Type.drain, {}),
      ...given.map((assign) => leaver.about(assign, Type.error, { a: Reason.draining }))
    )
    expect(client.of(Type.error)).toEqual([])
    expect(other.of(Type.assign)).toHaveLength(60)
  })

  test("that left before what it was given had reached it has not begun that, and others do it", () => {
    const { node, client, worker } = scene()
    for (const stream of [1, 2]) client.send(client.request({ stream, flags: Flag.sideEffects }))
    worker.send(worker.token(worker.of(Type.assign)[0]!, 0))
    const other = node.worker("w1")
    worker.send(
      encodeFrame(Type.drain, {}),
      encodeFrame(Type.goodbye, {}, { payload: pack({ code: "drain", message: "drained" }) })
    )
    expect(client.of(Type.error)).toMatchObject([{ stream: 1, a: Reason.workerLost }])
    expect(other.of(Type.assign)).toMatchObject([{ attempt: 2 }])
  })

  test.each(["told to", "on its own"])(
    "that drains %s gets none of the requests that came just before",
    (why) => {
      const node = new VirtualNode()
      const [leaver, other] = [node.worker("w0"), node.worker("w1")]
      const client = node.client()
      client.push(...[1, 2, 3, 4].map((stream) => client.request({ stream })))
      // The balancer hears of all of it in the same turn, of the requests first.
      if (why === "told to") node.host.drainWorker("w0")
      else leaver.push(encodeFrame(Type.drain, {}))
      node.settle()
      expect([leaver.of(Type.assign), other.of(Type.assign)].map(({ length }) => length)).toEqual([0, 4])
      expect(other.of(Type.assign).map(({ attempt }) => attempt)).toEqual([1, 1, 1, 1])
      expect(node.host.snapshot().workers.map(({ inFlight, state }) => [inFlight, state])).toEqual([
        [0, "draining"],
        [4, "ready"]
      ])
    }
  )

  test("that drains does so under the next manager of its pool too", () => {
    const { node, client, worker } = scene()
    client.send(client.request({ stream: 1 }))
    worker.send(encodeFrame(Type.drain, {}))
    node.managers.get("sim")!.kill()
    node.startManager("sim")
    worker.send(heartbeat)
    client.send(client.request({ stream: 2 }))
    expect(client.of(Type.rejected)).toMatchObject([{ stream: 2, a: Reason.noWorker }])
    expect(node.host.membersOf("sim")).toMatchObject([{ state: "draining" }])
  })

  test("that leaves while its pool has no manager is not ready for the balancer under the next one", () => {
    const { node, client, worker } = scene()
    node.managers.get("sim")!.kill()
    worker.drop()
    node.startManager("sim")
    node.settle()
    client.send(client.request({ stream: 1 }))
    expect(client.of(Type.rejected)).toMatchObject([{ stream: 1, a: Reason.noWorker }])
  })

  test("that comes while its pool's manager can take no more heartbeats is ready with a later one", () => {
    const { node } = scene()
    const late = new Peer(node, "worker", "w1")
    overload(node)
    late.send(register(), heartbeat)
    late.send(heartbeat)
    expect(node.host.membersOf("sim")).toMatchObject([{ name: "w0" }, { name: "w1", state: "ready" }])
  })

  test("that falls silent is suspect, then lost: its requests go elsewhere", () => {
    const { node, client, worker } = scene()
    client.send(client.request({ stream: 1 }))
    expect(worker.of(Type.assign)).toHaveLength(1)
    const other = node.worker("w1")
    for (let elapsedMs = 0; elapsedMs < 1_200; elapsedMs += 200) {
      node.advance(200)
      other.send(heartbeat)
    }
    expect(node.host.snapshot().workers.map(({ state }) => state)).toEqual(["suspect", "ready"])
    expect(other.of(Type.assign)).toEqual([])
    for (let elapsedMs = 0; elapsedMs < 1_200; elapsedMs += 200) {
      node.advance(200)
      other.send(heartbeat)
    }
    expect(worker.closed).toBe(true)
    expect(other.of(Type.assign)).toMatchObject([{ attempt: 2 }])
  })
})

test("a model that is called as the part that workers do of another one has a pool of its own", () => {
  const model = "sim#prefill"
  const node = new VirtualNode({ models: ["sim", model] })
  node.worker("reader", { role: "prefill" })
  const worker = node.worker("w0", { models: [model] })
  const client = node.client()
  client.send(client.request({ stream: 1, model }))
  expect(worker.of(Type.assign)).toHaveLength(1)
})

test("a worker that is gone is shown as lost for ten minutes", () => {
  const { node, worker } = scene()
  worker.drop()
  const states = () => node.host.snapshot().workers.map(({ state }) => state)
  node.advance(10 * 60_000 - 1)
  expect(states()).toEqual(["lost"])
  node.advance(1)
  expect(states()).toEqual([])
})

test.each([true, false])(
  "an administrator may crash the balancer where faults are enabled: %p",
  (enabled) => {
    const node = new VirtualNode({ faultsEnabled: enabled })
    const worker = node.worker("w0")
    const [admin, client] = [new Peer(node, "admin", "admin"), node.client()]
    const payload = pack({ op: "crash", target: "balancer" })
    admin.send(encodeFrame(Type.adminRequest, { stream: 1 }, { payload }))
    const error = enabled ? {} : { error: "op: crash needs faults.enabled in the config" }
    expect(admin.of(Type.adminReply)).toMatchObject([{ stream: 1, payload: error }])
    client.send(client.request({ stream: 1 }))
    expect(worker.of(Type.assign)).toHaveLength(enabled ? 0 : 1)
  }
)

test("what a worker said about a failed attempt is not told about the next one", () => {
  const { node, client, worker } = scene()
  const other = node.worker("w1")
  client.send(client.request({ stream: 1 }))
  const [holder, heir] = worker.of(Type.assign).length > 0 ? [worker, other] : [other, worker]
  holder.send(holder.about(holder.of(Type.assign)[0]!, Type.error, { a: Reason.workerRefused }))
  heir.drop()
  holder.drop()
  expect(client.of(Type.error)).toMatchObject([
    { attempt: 3, a: Reason.workerLost, payload: { message: "the worker was lost" } }
  ])
})

test("what a worker said about a failed attempt is not told of an end for another reason", () => {
  const { node, client, worker } = scene()
  client.send(client.request({ stream: 1, timeoutMs: 1_000 }))
  worker.push(encodeFrame(Type.drain, {}))
  worker.send(worker.about(worker.of(Type.assign)[0]!, Type.error, { a: Reason.workerFailed }))
  node.advance(1_100)
  expect(client.of(Type.error)).toMatchObject([
    { stream: 1, a: Reason.expired, payload: { message: "the deadline passed" } }
  ])
})

test("a request that was begun nowhere because its workers left is told so, and not that the balancer stops", () => {
  const node = new VirtualNode()
  const client = node.client()
  const leaves = (name: string, meanwhile: () => void): void => {
    const worker = node.worker(name)
    meanwhile()
    worker.send(
      encodeFrame(Type.drain, {}),
      encodeFrame(Type.goodbye, {}, { payload: pack({ code: "drain", message: "drained" }) })
    )
  }
  leaves("w0", () => client.send(client.request({ stream: 1 })))
  for (const name of ["w1", "w2"]) leaves(name, () => undefined)
  expect(client.of(Type.error)).toMatchObject([
    { attempt: 3, a: Reason.draining, payload: { message: "the worker left before it had begun" } }
  ])
})

test("when the balancer is given up, a client whose outbox its last answer fills keeps none from the others", () => {
  const node = new VirtualNode({ outboxBytes: 64 * 1024 })
  const worker = node.worker("w0")
  const slow = node.client("slow")
  for (const stream of [1, 2]) slow.send(slow.request({ stream }))
  const client = node.client()
  client.send(client.request({ stream: 1 }))
  slow.room = 0
  const { stream, attempt, epoch } = worker.of(Type.assign)[0]!
  const payload = pack("x".repeat(64 * 1024 - 60))
  worker.send(encodeFrame(Type.token, { stream, attempt, epoch, a: 0, b: 1 }, { payload }))
  node.host.links.abandon()
  node.settle()
  expect([slow.closed, node.violations]).toEqual([true, ["slow_consumer"]])
  expect(client.of(Type.error)).toMatchObject([{ stream: 1, a: Reason.draining }])
  expect(node.host.links.table.size).toBe(0)
})

describe("an administrator", () => {
  test("gets a snapshot, drains a worker, and is told what is wrong", () => {
    const { node, worker } = scene()
    const admin = new Peer(node, "admin", "a")
    const ask = (stream: number, payload: unknown) =>
      admin.send(encodeFrame(Type.adminRequest, { stream }, { payload: pack(payload) }))
    ask(1, { op: "snapshot" })
    ask(2, { op: "drain", worker: "w0" })
    ask(3, { op: "drain", worker: "nobody" })
    ask(4, { op: "dance" })
    const replies = admin.of(Type.adminReply)
    expect(replies.map(({ stream }) => stream)).toEqual([1, 2, 3, 4])
    expect(replies[0]!.payload).toMatchObject({ epoch: 7, workers: [{ name: "w0", state: "ready" }] })
    expect(worker.of(Type.drain)).toHaveLength(1)
    expect(replies[2]!.payload).toMatchObject({ error: expect.stringContaining("nobody") })
    expect(replies[3]!.payload).toMatchObject({ error: expect.stringContaining("op") })
  })
})
