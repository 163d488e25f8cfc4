import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import { Reason } from "../../src/domain/Outcome.ts"
import { encodeFrame } from "../../src/protocol/Codec.ts"
import { Type } from "../../src/protocol/Header.ts"
import { heartbeat, type Peer, type Received, VirtualNode } from "./support/VirtualNode.ts"
import { overload, scene } from "./support/scene.ts"

describe("when the balancer actor crashes", () => {
  test("the account of a request that streams has the time of its first token, and not of the crash", () => {
    const { client, node, worker } = scene()
    client.send(client.request({ stream: 1, id: 7 }))
    const [assign] = worker.of(Type.assign)
    node.advance(30)
    worker.send(worker.token(assign!, 0))
    node.advance(500)
    node.host.tellBalancer({ _tag: "Crash" })
    node.settle()
    node.startBalancer()
    worker.send(worker.about(assign!, Type.done, { a: 1 }))
    expect(node.host.explain(0, 7)?.outcome).toMatchObject({ reason: "done", ttftMs: 30, e2eMs: 530 })
  })

  /** Everything a client got for a stream, in order. */
  const story = (client: Peer, stream: number): ReadonlyArray<Received> => {
    client.of(Type.done)
    return client.received.filter((frame) => frame.stream === stream && frame.type !== Type.accepted)
  }

  test("its successor is shown with what the former one had, until it has heard of all there is", () => {
    const node = new VirtualNode()
    const worker = node.worker("w0", { capacity: 2 })
    const client = node.client()
    for (const stream of [1, 2, 3]) client.send(client.request({ stream }))
    const counts = {
      inFlight: 2,
      queued: 1,
      models: [{ name: "sim", inFlight: 2, queued: 1 }],
      workers: [{ inFlight: 2 }]
    }
    const shown = (): void => expect(node.host.snapshot()).toMatchObject(counts)
    for (let crash = 0; crash < 2; crash++) {
      node.host.tellBalancer({ _tag: "Crash" })
      node.settle()
      shown()
      node.startBalancer(() => {
        shown()
        // One that crashes before it has heard of any changes nothing.
        if (crash === 0) node.host.tellBalancer({ _tag: "Crash" })
      })
      shown()
    }
    worker.send(worker.about(worker.of(Type.assign)[0]!, Type.done))
    expect(node.host.snapshot()).toMatchObject({ inFlight: 2, queued: 0, workers: [{ inFlight: 2 }] })
  })

  test("a request that comes while its successor asks who is there is served", () => {
    const node = new VirtualNode()
    const worker = node.worker("w0", { capacity: 4 })
    const client = node.client()
    node.host.tellBalancer({ _tag: "Crash" })
    node.settle()
    node.startBalancer(() => client.push(client.request({ stream: 1 })))
    expect(client.of(Type.rejected)).toEqual([])
    expect(worker.of(Type.assign)).toHaveLength(1)
  })

  test("its successor refuses new requests where it was told to, and finishes the others", () => {
    const { node, client, worker } = scene()
    client.send(client.request({ stream: 1 }))
    node.host.drain()
    node.host.tellBalancer({ _tag: "Crash" })
    node.settle()
    node.startBalancer()
    client.send(client.request({ stream: 2 }))
    worker.send(worker.about(worker.of(Type.assign)[0]!, Type.done))
    expect(client.of(Type.rejected)).toMatchObject([{ stream: 2, a: Reason.draining }])
    expect(client.of(Type.done)).toMatchObject([{ stream: 1 }])
  })

  test("its successor waits for no pool manager that dies with the question unread", () => {
    const { node, client, worker } = scene()
    node.host.tellBalancer({ _tag: "Crash" })
    node.settle()
    node.startBalancer(() => node.managers.get("sim")!.kill())
    node.startManager("sim")
    worker.send(heartbeat)
    client.send(client.request({ stream: 1 }))
    expect(worker.of(Type.assign)).toHaveLength(1)
  })

  test("its successor is told by a pool manager that can take no more heartbeats", () => {
    const { node, client, worker } = scene()
    node.host.tellBalancer({ _tag: "Crash" })
    node.settle()
    overload(node)
    node.startBalancer()
    client.send(client.request({ stream: 1 }))
    expect(worker.of(Type.assign)).toHaveLength(1)
  })

  test("its successor hears no answer to what it asked itself", () => {
    const { node, client, worker } = scene()
    client.send(client.request({ stream: 1 }))
    node.host.tellBalancer({ _tag: "Crash" })
    node.settle()
    node.startBalancer(() => {
      node.host.tellBalancer({ _tag: "Crash" })
      // The first question waits behind all this, the second goes ahead.
      overload(node)
      node.startBalancer()
    })
    const assign = worker.of(Type.assign)[0]!
    worker.send(worker.token(assign, 0), worker.about(assign, Type.done, { a: 1 }))
    expect(client.of(Type.done)).toHaveLength(1)
    expect(node.host.snapshot()).toMatchObject({ inFlight: 0, queued: 0 })
  })

  test("its successor obeys a CANCEL that it had not read, of a request that it had not either", () => {
    const { node, client, worker } = scene()
    node.host.tellBalancer({ _tag: "Crash" })
    client.send(client.request({ stream: 1 }), encodeFrame(Type.cancel, { stream: 1 }))
    node.startBalancer()
    expect(client.of(Type.error)).toMatchObject([{ stream: 1, a: Reason.cancelled }])
    expect(worker.of(Type.cancel)).toHaveLength(worker.of(Type.assign).length)
    expect(node.host.snapshot()).toMatchObject({ inFlight: 0, queued: 0, cancelled: 1 })
  })

  test("its successor sheds what is overdue by then, cancelled meanwhile or not", () => {
    const node = new VirtualNode({
      admissions: [{ decide: () => null, isOverdue: ({ arrivedMs }, nowMs) => nowMs - arrivedMs > 250 }]
    })
    const worker = node.worker("w0", { capacity: 1 })
    const client = node.client()
    for (const stream of [1, 2, 3]) client.send(client.request({ stream }))
    node.advance(300)
    worker.send(heartbeat)
    node.host.tellBalancer({ _tag: "Crash" })
    client.push(encodeFrame(Type.cancel, { stream: 2 }))
    worker.send(worker.about(worker.of(Type.assign)[0]!, Type.done))
    node.startBalancer()
    expect(client.of(Type.error).map(({ stream, a }) => [stream, a])).toEqual([
      [2, Reason.shed],
      [3, Reason.shed]
    ])
    client.send(client.request({ stream: 4 }))
    expect(worker.of(Type.assign)).toHaveLength(2)
  })

  test.each([
    ["a bad request, which is over", Reason.badRequest, 1],
    ["a failure of its engine, which is tried again", Reason.workerFailed, 2]
  ])("what a worker called %s, is that to its successor", (_, reason, attempts) => {
    const { node, client, worker } = scene()
    client.send(client.request({ stream: 1 }))
    node.host.tellBalancer({ _tag: "Crash" })
    worker.send(worker.about(worker.of(Type.assign)[0]!, Type.error, { a: reason }))
    node.startBalancer()
    expect(worker.of(Type.assign)).toHaveLength(attempts)
    const told = client.of(Type.error)
    expect(told.map(({ a, payload }) => [a, payload])).toEqual(
      attempts === 1 ? [[reason, { message: "m" }]] : []
    )
  })

  test("a request whose end brought it down is counted once", () => {
    let breaks = false
    const node = new VirtualNode({
      placement: (made) => ({
        ...made,
        pick: (...of) => {
          if (breaks) throw new Error("a defect")
          return made.pick(...of)
        }
      })
    })
    const worker = node.worker("w0", { capacity: 1 })
    const client = node.client()
    client.send(client.request({ stream: 1 }), client.request({ stream: 2 }))
    breaks = true
    const [assign] = worker.of(Type.assign)
    worker.send(worker.token(assign!, 0), worker.about(assign!, Type.done, { a: 1 }))
    breaks = false
    node.startBalancer()
    expect(client.of(Type.done)).toHaveLength(1)
    expect(node.host.snapshot()).toMatchObject({ accepted: 2, done: 1, outputTokens: 1, inFlight: 1 })
    expect(node.host.totals.e2eMs.count).toBe(1)
  })

  test("a request whose failure brought it down is not counted as done", () => {
    let breaks = true
    const node = new VirtualNode({
      admissions: [
        {
          decide: () => null,
          ended: () => {
            if (breaks) throw new Error("a defect")
          }
        }
      ]
    })
    const worker = node.worker("w0")
    const client = node.client()
    client.send(client.request({ stream: 1 }))
    worker.send(worker.about(worker.of(Type.assign)[0]!, Type.error, { a: Reason.badRequest }))
    breaks = false
    node.startBalancer()
    expect(client.of(Type.error)).toHaveLength(1)
    expect(node.host.snapshot()).toMatchObject({ accepted: 1, done: 0, failed: 1, inFlight: 0 })
    expect(node.host.links.table.size).toBe(0)
  })

  test("100 requests in flight are all finished by its successor: each ends once, no token is missing or repeated", () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat({ max: 5 }), { minLength: 100, maxLength: 100 }),
        fc.nat({ max: 99 }),
        (progress, cancelled) => {
          const node = new VirtualNode()
          const workers = ["w0", "w1"].map((name) => node.worker(name, { capacity: 40 }))
          const client = node.client()
          for (let i = 0; i < 100; i++) client.push(client.request({ stream: i + 1 }))
          node.settle()
          const told = new Map<number, number>()
          const advance = (worker: Peer, assign: Received, upTo: number) => {
            for (let index = told.get(assign.stream) ?? 0; index < upTo; index++)
              worker.push(worker.token(assign, index))
            told.set(assign.stream, Math.max(upTo, told.get(assign.stream) ?? 0))
          }
          for (const worker of workers)
            for (const [i, assign] of worker.of(Type.assign).entries()) advance(worker, assign, progress[i]!)
          // In the same turn: the crash, more tokens, an end, a cancel, and a new request.
          node.host.tellBalancer({ _tag: "Crash" })
          for (const worker of workers) {
            const [first, second] = worker.of(Type.assign)
            advance(worker, first!, 6)
            advance(worker, second!, 6)
            worker.push(worker.about(second!, Type.done, { a: 6 }))
          }
          client.push(encodeFrame(Type.cancel, { stream: cancelled + 1 }), client.request({ stream: 101 }))
          node.settle()
          node.startBalancer()
          for (let round = 0; round < 4; round++) {
            for (const worker of workers) {
              for (const assign of worker.of(Type.assign)) {
                advance(worker, assign, 8)
                worker.push(worker.about(assign, Type.done, { a: 8 }))
              }
            }
            node.settle()
          }
          for (let stream = 1; stream <= 101; stream++) {
            const frames = story(client, stream)
            const end = frames.at(-1)!
            expect(
              frames.filter(({ type }) => type === Type.done || type === Type.error || type === Type.rejected)
            ).toEqual([end])
            if (stream !== cancelled + 1) expect(end.type).toBe(Type.done)
            const indices = frames.filter(({ type }) => type === Type.token).map(({ a }) => a)
            expect(indices).toEqual(indices.map((_, index) => index))
          }
          expect(node.host.snapshot()).toMatchObject({ inFlight: 0, queued: 0 })
          expect(node.host.links.table.size).toBe(0)
        }
      ),
      { numRuns: 10 }
    )
  })
})
