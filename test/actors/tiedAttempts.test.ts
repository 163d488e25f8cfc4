import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import { Reason } from "../../src/domain/Outcome.ts"
import type { Rescue } from "../../src/policies/Rescue.ts"
import { encodeFrame } from "../../src/protocol/Codec.ts"
import { Type } from "../../src/protocol/Header.ts"
import { heartbeat, type Peer, type Received, VirtualNode } from "./support/VirtualNode.ts"

/** Copies every request that has not started, as soon as it may, to a worker that has room. */
const copying: Rescue = {
  review: (pool, placed, { hedge }) =>
    placed.unstarted(({ slot }, worker) => {
      const to = pool.eligible.subarray(0, pool.eligibleCount).find((other) => other !== worker)
      if (to !== undefined) hedge(slot, to)
    })
}

/** Longer than the balancer takes to look at what it placed. */
const REVIEW_MS = 25

/** A request with two attempts: the one it got first, and its copy, each with its worker. */
const tie = () => {
  const node = new VirtualNode({ rescues: [copying] })
  const workers = [node.worker("w0"), node.worker("w1")]
  const client = node.client()
  client.send(client.request({ stream: 5 }))
  const [first, second] = workers[0]!.of(Type.assign).length > 0 ? workers : workers.toReversed()
  node.advance(REVIEW_MS)
  const attempts = [first!, second!].map((worker) => ({ worker, assign: worker.of(Type.assign)[0]! }))
  return { node, client, attempts }
}

/** Attempts charged to the workers, least first. */
const loadsOf = (node: VirtualNode): ReadonlyArray<number> =>
  node.host
    .snapshot()
    .workers.map(({ inFlight }) => inFlight)
    .toSorted((one, other) => one - other)

const idle = (node: VirtualNode): void => {
  expect(node.host.snapshot()).toMatchObject({ inFlight: 0, queued: 0 })
  expect(loadsOf(node).every((load) => load === 0)).toBe(true)
  expect(node.host.links.table.size).toBe(0)
}

describe("a request with two attempts", () => {
  test("has one stream and two numbers, and counts as one request and two loads", () => {
    const { attempts, node } = tie()
    expect(attempts.map(({ assign }) => assign.attempt)).toEqual([1, 2])
    expect(attempts[0]!.assign.stream).toBe(attempts[1]!.assign.stream)
    expect(node.host.snapshot().inFlight).toBe(1)
    expect(loadsOf(node)).toEqual([1, 1])
  })

  describe.each([
    ["the first attempt", 0],
    ["the copy", 1]
  ])("%s", (_, index) => {
    const scene = () => {
      const { attempts, client, node } = tie()
      return { node, client, one: attempts[index]!, other: attempts[1 - index]! }
    }

    test("goes on when it starts first; the other is called off by number, and what it still says is dropped", () => {
      const { client, node, one, other } = scene()
      one.worker.send(one.worker.token(one.assign, 0))
      expect(node.host.totals.hedges).toEqual({ won: index, lost: 1 - index, cancelled: 0 })
      expect(other.worker.of(Type.cancel)).toMatchObject([
        { stream: other.assign.stream, attempt: other.assign.attempt }
      ])
      expect(one.worker.of(Type.cancel)).toEqual([])
      expect(loadsOf(node)).toEqual([0, 1])
      other.worker.send(
        other.worker.token(other.assign, 0),
        other.worker.token(other.assign, 1),
        other.worker.about(other.assign, Type.error, { a: Reason.workerFailed }),
        other.worker.about(other.assign, Type.done)
      )
      one.worker.send(one.worker.token(one.assign, 1), one.worker.about(one.assign, Type.done, { a: 2 }))
      expect(client.of(Type.token).map(({ a }) => a)).toEqual([0, 1])
      expect(client.of(Type.done)).toMatchObject([{ stream: 5, attempt: one.assign.attempt, a: 2 }])
      expect(client.of(Type.error)).toEqual([])
      idle(node)
    })

    test("ends the request when it is done without a token", () => {
      const { client, node, one, other } = scene()
      one.worker.send(one.worker.about(one.assign, Type.done))
      expect(other.worker.of(Type.cancel)).toHaveLength(1)
      other.worker.send(other.worker.about(other.assign, Type.done))
      expect(client.of(Type.done)).toHaveLength(1)
      idle(node)
    })

    test.each<readonly [string, (worker: Peer, assign: Received) => void]>([
      [
        "fails",
        (worker, assign) => worker.send(worker.about(assign, Type.error, { a: Reason.workerFailed }))
      ],
      ["is lost with its worker", (worker) => worker.drop()],
      ["breaks the protocol", (worker, assign) => worker.send(worker.token(assign, 1))],
      ["is beyond its credit", (worker, assign) => worker.send(worker.token(assign, 0, 257))]
    ])("leaves the other one when it %s", (_how, fail) => {
      const { client, node, one, other } = scene()
      fail(one.worker, one.assign)
      expect(node.host.totals.hedges).toEqual({ won: 1 - index, lost: index, cancelled: 0 })
      expect(loadsOf(node)).toEqual([0, 1])
      expect(other.worker.of(Type.cancel)).toEqual([])
      one.worker.send(one.worker.token(one.assign, 0))
      other.worker.send(
        other.worker.token(other.assign, 0),
        other.worker.about(other.assign, Type.done, { a: 1 })
      )
      expect(client.of(Type.token)).toMatchObject([{ attempt: other.assign.attempt, a: 0 }])
      expect(client.of(Type.error)).toEqual([])
      expect(client.of(Type.done)).toHaveLength(1)
      idle(node)
    })

    test("goes on after a crash of the balancer, whose successor knows of both", () => {
      const { client, node, one, other } = scene()
      node.host.tellBalancer({ _tag: "Crash" })
      node.settle()
      node.startBalancer()
      expect(loadsOf(node)).toEqual([1, 1])
      one.worker.send(one.worker.token(one.assign, 0))
      expect(other.worker.of(Type.cancel)).toHaveLength(1)
      expect(loadsOf(node)).toEqual([0, 1])
      one.worker.send(one.worker.about(one.assign, Type.done, { a: 1 }))
      expect(client.of(Type.done)).toHaveLength(1)
      idle(node)
    })

    test("has won also where the balancer crashed before it heard of it", () => {
      const { client, node, one } = scene()
      node.host.tellBalancer({ _tag: "Crash" })
      one.worker.push(one.worker.token(one.assign, 0))
      node.settle()
      node.startBalancer()
      expect(loadsOf(node)).toEqual([0, 1])
      one.worker.send(one.worker.about(one.assign, Type.done, { a: 1 }))
      expect(client.of(Type.done)).toHaveLength(1)
      idle(node)
    })

    test("has the credit that the client gave before it started", () => {
      const { client, one } = scene()
      client.send(encodeFrame(Type.credit, { stream: 5, a: 400, b: 0 }))
      expect(one.worker.of(Type.credit)).toEqual([])
      one.worker.send(one.worker.token(one.assign, 0))
      expect(one.worker.of(Type.credit)).toMatchObject([{ attempt: one.assign.attempt, a: 400 }])
      one.worker.send(one.worker.token(one.assign, 1, 399))
      expect(client.of(Type.token)).toHaveLength(2)
    })
  })

  test("fails once when both fail, and the last reason is told", () => {
    const { attempts, client, node } = tie()
    for (const [i, { assign, worker }] of attempts.entries())
      worker.push(
        worker.about(assign, Type.error, { a: i === 0 ? Reason.workerFailed : Reason.contextLength })
      )
    node.settle()
    expect(client.of(Type.error)).toMatchObject([{ stream: 5, a: Reason.contextLength }])
    idle(node)
  })

  test.each<readonly [string, (node: VirtualNode, client: Peer) => void]>([
    ["the client cancels it", (_, client) => client.send(encodeFrame(Type.cancel, { stream: 5 }))],
    ["the client goes away", (_, client) => client.drop()],
    [
      "its deadline passes",
      (node) => {
        for (let elapsedMs = 0; elapsedMs < 60_000; elapsedMs += 200) node.advance(200)
      }
    ]
  ])("is called off in both places when %s", (_, end) => {
    const { attempts, client, node } = tie()
    const beat = node.context.timers.every(200, () => {
      for (const { worker } of attempts) worker.push(heartbeat)
    })
    end(node, client)
    expect(node.host.totals.hedges).toEqual({ won: 0, lost: 0, cancelled: 1 })
    beat()
    for (const { assign, worker } of attempts)
      expect(worker.of(Type.cancel)).toMatchObject([{ stream: assign.stream, attempt: assign.attempt }])
    expect(client.of(Type.error).length).toBeLessThanOrEqual(1)
    idle(node)
  })
})

describe("when the balancer copies whatever it can", () => {
  interface Step {
    readonly do: "request" | "token" | "done" | "error" | "skip" | "drop" | "cancel" | "wait" | "crash"
    readonly which: number
    /** Whether more happens in the same turn. */
    readonly more: boolean
  }
  const step: fc.Arbitrary<Step> = fc.record({
    do: fc.constantFrom<Array<Step["do"]>>(
      ...(["request", "request", "wait", "wait", "token", "token", "token", "done"] as const),
      ...(["error", "skip", "drop", "cancel", "crash"] as const)
    ),
    which: fc.nat({ max: 1000 }),
    more: fc.boolean()
  })

  test("every request ends once, its tokens are one attempt's from 0 on, and no load is left", () => {
    let copies = 0
    fc.assert(
      fc.property(fc.array(step, { minLength: 20, maxLength: 60, size: "max" }), (steps) => {
        const node = new VirtualNode({ rescues: [copying], retryBudget: 1 })
        const client = node.client()
        const peers = ["w0", "w1", "w2"].map((name) => node.worker(name, { capacity: 4 }))
        /** Of each worker: the next token of each attempt that it works on. */
        const work: Array<Map<Received, number>> = peers.map(() => new Map())
        const seen = peers.map(() => 0)
        let streams = 0
        const readAssigns = (): void => {
          for (const [i, peer] of peers.entries()) {
            const assigns = peer.of(Type.assign)
            for (const assign of assigns.slice(seen[i])) work[i]!.set(assign, 0)
            seen[i] = assigns.length
            for (const { attempt, stream } of peer.of(Type.cancel))
              for (const assign of work[i]!.keys())
                if (assign.stream === stream && assign.attempt === attempt) work[i]!.delete(assign)
          }
        }
        const act = (what: Step["do"], which: number): void => {
          const at = which % peers.length
          const peer = peers[at]!
          const assign = [...work[at]!.keys()][which % Math.max(1, work[at]!.size)]
          if (what === "request") return client.push(client.request({ stream: ++streams }))
          if (what === "wait") {
            for (const each of peers) each.push(heartbeat)
            return node.advance(REVIEW_MS)
          }
          if (what === "cancel")
            return client.push(encodeFrame(Type.cancel, { stream: 1 + (which % Math.max(1, streams)) }))
          if (what === "crash") {
            node.host.tellBalancer({ _tag: "Crash" })
            node.settle()
            return node.startBalancer()
          }
          if (what === "drop") {
            peer.connection.closed()
            peers[at] = node.worker(`w${at}`, { capacity: 4, incarnation: 2 + which })
            work[at] = new Map()
            seen[at] = 0
            return
          }
          if (assign === undefined) return
          const index = work[at]!.get(assign)!
          if (what === "token") {
            work[at]!.set(assign, index + 1)
            return peer.push(peer.token(assign, index))
          }
          work[at]!.delete(assign)
          if (what === "done") peer.push(peer.about(assign, Type.done, { a: index }))
          else if (what === "error") peer.push(peer.about(assign, Type.error, { a: Reason.workerFailed }))
          else if (!peer.closed) peer.push(peer.token(assign, index + 1))
        }
        for (const { do: what, which, more } of steps) {
          act(what, which)
          if (!more) node.settle()
          readAssigns()
        }
        // Faults stop: the workers finish what they have.
        for (let round = 0; round < 8 && node.host.links.table.size > 0; round++) {
          node.settle()
          readAssigns()
          for (const [i, attempts] of work.entries()) {
            for (const [assign, index] of attempts)
              peers[i]!.push(peers[i]!.about(assign, Type.done, { a: index }))
            attempts.clear()
          }
          node.advance(REVIEW_MS)
        }
        idle(node)
        client.of(Type.done)
        for (let stream = 1; stream <= streams; stream++) {
          const frames = client.received.filter(
            (frame) => frame.stream === stream && frame.type !== Type.accepted
          )
          const tokens = frames.filter(({ type }) => type === Type.token)
          expect(tokens.map(({ a }) => a)).toEqual(tokens.map((_, index) => index))
          expect(new Set(tokens.map(({ attempt }) => attempt)).size).toBeLessThanOrEqual(1)
          expect(frames.length).toBe(tokens.length + 1)
          expect(frames.at(-1)!.type).toBeOneOf([Type.done, Type.error, Type.rejected])
        }
        copies += peers.reduce((sum, peer) => sum + peer.of(Type.cancel).length, 0)
      }),
      { numRuns: 200 }
    )
    expect(copies).toBeGreaterThan(300)
  })
})
