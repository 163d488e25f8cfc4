import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import { Reason } from "../../src/domain/Outcome.ts"
import { encodeFrame } from "../../src/protocol/Codec.ts"
import { Flag, Type } from "../../src/protocol/Header.ts"
import { hash64 } from "../../src/structures/hash.ts"
import { splitting } from "./support/splitting.ts"
import { heartbeat, type Peer, type Received, VirtualNode } from "./support/VirtualNode.ts"

const PROMPT_TOKENS = 10

const prefilled = (worker: Peer, assign: Received, kvTokens = PROMPT_TOKENS): Buffer =>
  worker.about(assign, Type.prefilled, { a: kvTokens, b: 4 })

/** A reader, a producer, and whoever else is asked for. */
const makeNode = () => {
  const node = new VirtualNode({ placement: splitting })
  const reader = node.worker("reader", { role: "prefill" })
  const producer = node.worker("producer", { role: "decode" })
  return { node, reader, producer, client: node.client() }
}

/** A request whose prompt is read. */
const reading = () => {
  const scene = makeNode()
  scene.client.send(scene.client.request({ stream: 5, promptTokens: PROMPT_TOKENS }))
  return { ...scene, read: scene.reader.of(Type.assign)[0]! }
}

/** A request whose prompt was read, and whose KV cache is under way. */
const handedOver = () => {
  const scene = reading()
  scene.reader.send(prefilled(scene.reader, scene.read))
  return { ...scene, answer: scene.producer.of(Type.assign)[0]! }
}

const loadOf = (node: VirtualNode, worker: string): number =>
  node.host.snapshot().workers.find(({ name }) => name === worker)!.inFlight

const idle = (node: VirtualNode): void => {
  const { inFlight, queued, workers } = node.host.snapshot()
  expect({ inFlight, queued, held: node.host.links.table.size }).toEqual({ inFlight: 0, queued: 0, held: 0 })
  expect(workers.filter((worker) => worker.inFlight > 0)).toEqual([])
}

const passDeadline = (node: VirtualNode, peers: ReadonlyArray<Peer>): void => {
  for (let elapsedMs = 0; elapsedMs < 60_000; elapsedMs += 200) {
    for (const peer of peers) peer.push(heartbeat)
    node.advance(200)
  }
}

const crash = (node: VirtualNode): void => {
  node.host.tellBalancer({ _tag: "Crash" })
  node.settle()
  node.startBalancer()
}

describe("a request that is split", () => {
  test("goes to a reader with a place at a producer, then to that, and streams from there", () => {
    const { node, reader, producer, client, read } = reading()
    expect(read).toMatchObject({ flags: Flag.extras | Flag.prefillOnly, attempt: 1 })
    expect([loadOf(node, "reader"), loadOf(node, "producer")]).toEqual([1, 1])
    expect(producer.of(Type.assign)).toEqual([])

    reader.send(prefilled(reader, read))
    const { high, low } = hash64("reader")
    const answer = producer.of(Type.assign)[0]!
    expect(answer).toMatchObject({
      flags: Flag.extras | Flag.handedOver,
      attempt: 2,
      stream: read.stream,
      a: PROMPT_TOKENS,
      b: high,
      c: low
    })
    expect([loadOf(node, "reader"), loadOf(node, "producer")]).toEqual([0, 1])
    expect(reader.of(Type.cancel)).toEqual([])

    producer.send(producer.token(answer, 0))
    // The KV cache has come: it may go where it came from.
    expect(reader.of(Type.cancel)).toMatchObject([{ stream: read.stream, attempt: 1 }])
    producer.send(producer.token(answer, 1), producer.about(answer, Type.done, { a: 2, b: 9 }))
    expect(client.of(Type.token).map(({ a }) => a)).toEqual([0, 1])
    // What the reader had cached, not what was handed over.
    expect(client.of(Type.done)).toMatchObject([{ stream: 5, attempt: 2, a: 2, b: 4, flags: Flag.extras }])
    expect(reader.of(Type.cancel)).toHaveLength(1)
    idle(node)
  })

  test("is queued while there is no place at a producer, and refused while there are none", () => {
    const node = new VirtualNode({ placement: splitting })
    const client = node.client()
    const reader = node.worker("reader", { role: "prefill" })
    client.send(client.request({ stream: 1 }))
    expect(client.of(Type.rejected)).toMatchObject([{ a: Reason.noWorker }])
    const producer = node.worker("producer", { role: "decode", capacity: 1 })
    client.send(client.request({ stream: 3 }), client.request({ stream: 5 }))
    expect(reader.of(Type.assign)).toHaveLength(1)
    expect(node.host.snapshot().queued).toBe(1)
    const [read] = reader.of(Type.assign)
    reader.send(prefilled(reader, read!))
    producer.send(producer.about(producer.of(Type.assign)[0]!, Type.done, { a: 1 }))
    expect(reader.of(Type.assign)).toHaveLength(2)
  })

  test.each<readonly [string, () => ReturnType<typeof reading>]>([
    ["read", reading],
    ["handed over", handedOver]
  ])("ends with nothing left behind while it is %s", (_, begin) => {
    for (const end of ["cancel", "close", "deadline"] as const) {
      const { node, reader, producer, client, read } = begin()
      if (end === "cancel") client.send(encodeFrame(Type.cancel, { stream: 5 }))
      else if (end === "close") client.drop()
      else passDeadline(node, [reader, producer])
      expect(reader.of(Type.cancel)).toMatchObject([{ stream: read.stream, attempt: 1 }])
      expect(producer.of(Type.cancel)).toHaveLength(producer.of(Type.assign).length)
      idle(node)
    }
  })

  test("is not heard about from a producer that has not been sent it, and is sent as usual", () => {
    const node = new VirtualNode({ placement: splitting, outboxBytes: 128 * 1024 })
    const reader = node.worker("reader", { role: "prefill" })
    const producer = node.worker("producer", { role: "decode" })
    const client = node.client()
    producer.room = 0
    const prompt = "p".repeat(8_000)
    for (let id = 1; id <= 39; id += 2) client.send(client.request({ stream: id, prompt }))
    for (const read of reader.of(Type.assign)) reader.send(prefilled(reader, read))
    const link = node.host.links.workers.find((each) => each?.connection === producer.connection)!
    const [[stream, attempt] = [0, 0]] = link.unsent
    producer.send(encodeFrame(Type.token, { stream, attempt, epoch: 7, b: 1 }))
    producer.read(Infinity)
    expect(client.of(Type.token)).toEqual([])
    expect(producer.of(Type.assign)).toHaveLength(20)
  })

  test("is read anew when its reader fails, and what that says later is dropped", () => {
    const { node, reader, producer, read } = reading()
    reader.send(reader.about(read, Type.error, { a: Reason.workerFailed }))
    const [, again] = reader.of(Type.assign)
    expect(again).toMatchObject({ attempt: 2, stream: read.stream })
    reader.send(prefilled(reader, read))
    expect(producer.of(Type.assign)).toEqual([])
    reader.send(prefilled(reader, again!))
    expect(producer.of(Type.assign)).toMatchObject([{ attempt: 3 }])
    expect([loadOf(node, "reader"), loadOf(node, "producer")]).toEqual([0, 1])
  })

  test.each<readonly [string, (scene: ReturnType<typeof handedOver>) => void]>([
    [
      "its producer fails",
      ({ producer, answer }) => producer.send(producer.about(answer, Type.error, { a: Reason.workerRefused }))
    ],
    ["its producer is lost", ({ producer }) => producer.drop()],
    ["its reader is lost, and the KV cache with it", ({ reader }) => reader.drop()],
    ["its producer skips a token", ({ producer, answer }) => producer.send(producer.token(answer, 1))]
  ])("is tried whole when %s, where that can be", (_, fail) => {
    const scene = handedOver()
    const { node, reader, producer, client, read } = scene
    const whole = node.worker("whole")
    fail(scene)
    const assign = whole.of(Type.assign)[0]!
    expect(assign).toMatchObject({ flags: Flag.extras, attempt: 3, stream: read.stream })
    if (!reader.closed) expect(reader.of(Type.cancel).map(({ attempt }) => attempt)).toEqual([1])
    producer.push(producer.token(scene.answer, 0))
    whole.send(whole.token(assign, 0), whole.about(assign, Type.done, { a: 1, b: 7 }))
    expect(client.of(Type.token)).toMatchObject([{ attempt: 3, a: 0 }])
    expect(client.of(Type.done)).toMatchObject([{ b: 7 }])
    idle(node)
  })

  test("fails once where nobody else is there, when its producer is lost while it streams", () => {
    const { node, producer, client, answer } = handedOver()
    producer.send(producer.token(answer, 0))
    producer.drop()
    expect(client.of(Type.error)).toMatchObject([{ a: Reason.workerLost, c: 1 }])
    idle(node)
  })

  test.each<readonly [string, (worker: Peer, assign: Received) => Buffer]>([
    ["a token", (worker, assign) => worker.token(assign, 0)],
    ["DONE", (worker, assign) => worker.about(assign, Type.done, { a: 1 })],
    ["PREFILLED of a part of the prompt", (worker, assign) => prefilled(worker, assign, PROMPT_TOKENS - 1)]
  ])("of which a reader says %s is called off there, and the client hears nothing of it", (_, say) => {
    const { node, reader, client, read } = reading()
    reader.send(say(reader, read))
    expect(node.violations).toEqual(["worker_protocol"])
    expect(reader.of(Type.cancel)).toMatchObject([{ attempt: 1 }])
    expect(client.of(Type.token).length + client.of(Type.done).length).toBe(0)
  })

  test("cannot be PREFILLED by who was asked for all of it", () => {
    const node = new VirtualNode({ placement: splitting })
    const [worker, client] = [node.worker("whole"), node.client()]
    client.send(client.request({ stream: 5 }))
    worker.send(prefilled(worker, worker.of(Type.assign)[0]!))
    expect(node.violations).toEqual(["worker_protocol"])
  })

  test.each<readonly [string, () => ReturnType<typeof reading>]>([
    ["is read", reading],
    [
      "was read, and the balancer did not hear of it",
      () => {
        const scene = reading()
        scene.node.host.tellBalancer({ _tag: "Crash" })
        scene.reader.push(prefilled(scene.reader, scene.read))
        return scene
      }
    ]
  ])("is read anew after a crash of the balancer when it %s", (_, begin) => {
    const { node, reader, producer, client, read } = begin()
    crash(node)
    expect(reader.of(Type.cancel)).toMatchObject([{ stream: read.stream, attempt: 1 }])
    const again = reader.of(Type.assign).at(-1)!
    expect(again).toMatchObject({ attempt: 2, stream: read.stream })
    expect([loadOf(node, "reader"), loadOf(node, "producer")]).toEqual([1, 1])
    reader.send(prefilled(reader, again))
    producer.send(producer.about(producer.of(Type.assign)[0]!, Type.done, { a: 0 }))
    expect(client.of(Type.done)).toHaveLength(1)
    idle(node)
  })

  test("goes on after a crash of the balancer when it was handed over", () => {
    const { node, reader, producer, client, answer } = handedOver()
    crash(node)
    expect([loadOf(node, "reader"), loadOf(node, "producer")]).toEqual([0, 1])
    expect(reader.of(Type.cancel)).toEqual([])
    producer.send(producer.about(answer, Type.done, { a: 0 }))
    expect(reader.of(Type.cancel)).toHaveLength(1)
    expect(client.of(Type.done)).toHaveLength(1)
    idle(node)
  })
})

describe("when the balancer splits what it can", () => {
  interface Step {
    readonly do: "request" | "go" | "done" | "error" | "skip" | "drop" | "cancel" | "wait" | "crash"
    readonly which: number
    /** Whether more happens in the same turn. */
    readonly more: boolean
  }
  const step: fc.Arbitrary<Step> = fc.record({
    do: fc.constantFrom<Array<Step["do"]>>(
      ...(["request", "request", "request", "wait", "go", "go", "go", "go", "done"] as const),
      ...(["error", "skip", "drop", "cancel", "crash"] as const)
    ),
    which: fc.nat({ max: 1000 }),
    more: fc.boolean()
  })
  const roles = ["prefill", "prefill", "decode", "decode", "both"] as const

  /** Workers that do what they are told, by the last word of each attempt. */
  class Fleet {
    readonly node = new VirtualNode({ placement: splitting, retryBudget: 1 })
    readonly client = this.node.client()
    readonly peers: Array<Peer> = roles.map((role, at) => this.join(role, at, 1))
    /** Of each worker: the next token of each attempt it works on. */
    readonly work: Array<Map<Received, number>> = roles.map(() => new Map())
    /** Of each worker: attempts whose KV cache it keeps. */
    readonly kept: Array<Map<string, number>> = roles.map(() => new Map())
    private readonly seen = roles.map(() => ({ assigns: 0, cancels: 0 }))
    streams = 0
    handOvers = 0

    private join(role: (typeof roles)[number], at: number, incarnation: number): Peer {
      return this.node.worker(`w${at}`, { role, capacity: 3, incarnation })
    }

    replace(at: number, incarnation: number): void {
      this.peers[at]!.connection.closed()
      this.work[at]!.clear()
      this.kept[at]!.clear()
      this.seen[at] = { assigns: 0, cancels: 0 }
      this.peers[at] = this.join(roles[at]!, at, incarnation)
    }

    /** What the workers were told since. */
    hear(): void {
      for (const [at, peer] of this.peers.entries()) {
        const seen = this.seen[at]!
        const [assigns, cancels] = [peer.of(Type.assign), peer.of(Type.cancel)]
        for (const assign of assigns.slice(seen.assigns)) this.take(at, assign)
        for (const { attempt, stream } of cancels.slice(seen.cancels)) {
          const key = `${stream}/${attempt}`
          const count = this.kept[at]!.get(key)
          // What is kept is let go once, and never before it is kept.
          if (count !== undefined) {
            expect(count).toBe(0)
            this.kept[at]!.set(key, 1)
          }
          for (const assign of this.work[at]!.keys())
            if (assign.stream === stream && assign.attempt === attempt) this.work[at]!.delete(assign)
        }
        this.seen[at] = { assigns: assigns.length, cancels: cancels.length }
        // It broke the rules too often, and everything it had goes with the connection.
        if (!peer.connection.isOpen) this.kept[at]!.clear()
      }
    }

    private take(at: number, assign: Received): void {
      const flag = { both: 0, prefill: Flag.prefillOnly, decode: Flag.handedOver }[roles[at]!]
      expect(assign.flags & (Flag.prefillOnly | Flag.handedOver)).toBe(flag)
      if (roles[at] === "decode") {
        // The whole of a prompt that was read, and nothing before it was.
        expect(assign.a).toBe(PROMPT_TOKENS)
        const keeper = [0, 1].findIndex((reader) => hash64(`w${reader}`).low === assign.c)
        expect(this.kept[keeper]!.has(`${assign.stream}/${assign.attempt - 1}`)).toBe(true)
        this.handOvers++
      }
      this.work[at]!.set(assign, 0)
    }

    /** One step ahead with an attempt. */
    go(at: number, assign: Received, isLast: boolean): void {
      const peer = this.peers[at]!
      const index = this.work[at]!.get(assign)!
      if (roles[at] === "prefill") {
        this.work[at]!.delete(assign)
        this.kept[at]!.set(`${assign.stream}/${assign.attempt}`, 0)
        peer.push(prefilled(peer, assign))
      } else if (isLast) {
        this.work[at]!.delete(assign)
        peer.push(peer.about(assign, Type.done, { a: index }))
      } else {
        this.work[at]!.set(assign, index + 1)
        peer.push(peer.token(assign, index))
      }
    }

    act(what: Step["do"], which: number): void {
      const { client, node, peers } = this
      const at = which % peers.length
      const peer = peers[at]!
      const attempts = [...this.work[at]!.keys()]
      const assign = attempts[which % Math.max(1, attempts.length)]
      if (what === "request")
        return client.push(client.request({ stream: ++this.streams, promptTokens: PROMPT_TOKENS }))
      if (what === "wait") {
        for (const each of peers) each.push(heartbeat)
        return node.advance(25)
      }
      if (what === "cancel")
        return client.push(encodeFrame(Type.cancel, { stream: 1 + (which % Math.max(1, this.streams)) }))
      if (what === "crash") return crash(node)
      if (what === "drop") return this.replace(at, 2 + which)
      if (assign === undefined) return
      if (what === "go" || what === "done") return this.go(at, assign, what === "done")
      this.work[at]!.delete(assign)
      if (what === "error") peer.push(peer.about(assign, Type.error, { a: Reason.workerFailed }))
      else if (!peer.closed) peer.push(peer.token(assign, this.work[at]!.size + 7))
    }

    /** Faults stop: the workers finish what they have. */
    finish(): void {
      for (let round = 0; round < 12 && this.node.host.links.table.size > 0; round++) {
        this.node.settle()
        this.hear()
        for (const [at, attempts] of this.work.entries())
          for (const assign of attempts.keys()) this.go(at, assign, true)
        this.node.advance(25)
      }
      // Where all of one part broke the rules too often, requests wait for others in vain.
      if (this.node.host.links.table.size > 0) passDeadline(this.node, this.peers)
      this.hear()
    }
  }

  test("every request ends once, each KV cache is let go once, and no load is left", () => {
    let handOvers = 0
    fc.assert(
      fc.property(fc.array(step, { minLength: 20, maxLength: 60, size: "max" }), (steps) => {
        const fleet = new Fleet()
        const { client, node } = fleet
        for (const { do: what, which, more } of steps) {
          fleet.act(what, which)
          if (!more) node.settle()
          fleet.hear()
        }
        fleet.finish()
        idle(node)
        for (const kept of fleet.kept) for (const [, count] of kept) expect(count).toBe(1)
        client.of(Type.done)
        for (let stream = 1; stream <= fleet.streams; stream++) {
          const frames = client.received.filter(
            (frame) => frame.stream === stream && frame.type !== Type.accepted
          )
          const tokens = frames.filter(({ type }) => type === Type.token)
          expect(tokens.map(({ a }) => a)).toEqual(tokens.map((_, index) => index))
          expect(new Set(tokens.map(({ attempt }) => attempt)).size).toBeLessThanOrEqual(1)
          expect(frames.length).toBe(tokens.length + 1)
          expect(frames.at(-1)!.type).toBeOneOf([Type.done, Type.error, Type.rejected])
        }
        handOvers += fleet.handOvers
      }),
      { numRuns: 200 }
    )
    expect(handOvers).toBeGreaterThan(500)
  })
})
