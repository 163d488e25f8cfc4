import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import { CacheFrames } from "../../src/actors/CacheFrames.ts"
import { Links, type PrefixPort } from "../../src/actors/Links.ts"
import { Worker } from "../../src/actors/Worker.ts"
import { WorkerLink } from "../../src/actors/WorkerLink.ts"
import type { PrefixChain } from "../../src/domain/PrefixChain.ts"
import { idleLoad } from "../../src/domain/WorkerLoad.ts"
import type { CacheSink, CacheWatch, Engine } from "../../src/engines/Engine.ts"
import { SimulatedEngine } from "../../src/engines/SimulatedEngine.ts"
import { presets } from "../../src/engines/simulated/CostModel.ts"
import { encodeFrame, type HeaderFields, locate, pack, parts } from "../../src/protocol/Codec.ts"
import type { Connection } from "../../src/protocol/Connection.ts"
import { dial } from "../../src/protocol/dial.ts"
import { At, Flag, HEADER_OFFSET, LENGTH_BYTES, Type } from "../../src/protocol/Header.ts"
import { defaultLimits } from "../../src/protocol/Limits.ts"
import { version } from "../../src/protocol/Message.ts"
import { serve } from "../../src/protocol/Server.ts"
import type { SocketEvents, Transport, TransportSocket } from "../../src/protocol/Transport.ts"
import { Histogram } from "../../src/structures/Histogram.ts"
import { hash64 } from "../../src/structures/hash.ts"
import { makeRng } from "../../src/structures/Rng.ts"
import { VirtualWorld } from "../client/support/VirtualWorld.ts"
import { holds } from "../support/arbitraries.ts"

const hex = (high: number, low: number): string =>
  high.toString(16).padStart(8, "0") + low.toString(16).padStart(8, "0")
const start = hex(0, 0)
const hashesOf = ({ count, high, low }: PrefixChain): ReadonlyArray<string> =>
  Array.from({ length: count }, (_, i) => hex(high[i]!, low[i]!))
const hashesIn = (bytes: Uint8Array): ReadonlyArray<string> =>
  Buffer.from(bytes).toString("hex").match(/.{16}/g) ?? []

/** What is known of caches: by worker, model and hash, the block before it. Never a block without its parent, nor one told twice. */
class Index implements PrefixPort {
  readonly known = new Map<string, string>()
  readonly log: Array<string> = []
  readonly stored = (worker: number, model: number, chain: PrefixChain, from: number): void => {
    this.log.push("stored")
    expect(from).toBe(1)
    const [first, ...blocks] = hashesOf(chain)
    expect(blocks.length).toBeGreaterThan(0)
    let parent = first!
    for (const block of blocks) {
      if (parent !== start) expect(this.known.has(`${worker} ${model} ${parent}`)).toBe(true)
      expect(this.known.has(`${worker} ${model} ${block}`)).toBe(false)
      this.known.set(`${worker} ${model} ${block}`, parent)
      parent = block
    }
  }
  readonly removed = (worker: number, model: number, chain: PrefixChain): void => {
    this.log.push("removed")
    const prefix = `${worker} ${model} `
    for (const hash of hashesOf(chain)) {
      expect(this.known.delete(`${worker} ${model} ${hash}`)).toBe(true)
      const children = [...this.known].filter(
        ([block, parent]) => parent === hash && block.startsWith(prefix)
      )
      expect(children).toEqual([])
    }
  }
  readonly cleared = (worker: number): void => {
    this.log.push("cleared")
    for (const block of this.known.keys()) if (block.startsWith(`${worker} `)) this.known.delete(block)
  }
}

/** Worker number and models as a balancer numbers them: not as the worker does. */
const WORKER = 3
const MODELS = [7, 4]

/** A balancer's port with nothing behind it but worker links. */
const listen = (world: VirtualWorld) => {
  const { turn, timers } = world
  const port = {
    index: new Index(),
    violations: [] as Array<string>,
    connection: undefined as Connection | undefined,
    /** KV frames that came: their type, and how many hashes they hold. */
    frames: [] as Array<readonly [type: number, hashes: number]>,
    longestFrameBytes: 0,
    /** KV frames, but for those that say everything is void, to be dropped before the link sees them, against all rules of TCP. */
    toLose: 0
  }
  const links = new Links({ requestsMax: 8, heldBytesMax: 1 << 16, epoch: 1, timers, timeScale: 1 })
  links.prefixes = port.index
  const note = (type: number, bytes: Buffer, from: number, to: number): void => {
    locate(bytes, from, to, defaultLimits)
    port.frames.push([type, Math.floor((parts.chainEnd - parts.chainStart) / 8)])
    port.longestFrameBytes = Math.max(port.longestFrameBytes, to - from - LENGTH_BYTES)
  }
  serve({
    transport: world.transport,
    context: {
      turn,
      timers,
      limits: defaultLimits,
      violation: (kind) => port.violations.push(kind)
    },
    host: "virtual",
    port: 0,
    connectionsMax: 8,
    greet: (connection) => {
      port.connection = connection
      const link = new WorkerLink(connection, {
        links,
        limits: defaultLimits,
        itlMs: new Histogram(),
        registered: (_, { models }) => ({ worker: WORKER, models: MODELS.slice(0, models.length) }),
        heartbeat: () => undefined,
        draining: () => undefined,
        closed: () => undefined
      })
      return {
        handler: {
          frame: (type, bytes, from, to) => {
            if (type === Type.kvStored || type === Type.kvRemoved) {
              note(type, bytes, from, to)
              const everything = (bytes[from + HEADER_OFFSET + At.flags]! & Flag.everything) !== 0
              if (port.toLose > 0 && !everything) return void port.toLose--
            }
            link.frame(type, bytes, from, to)
          },
          closed: () => {
            link.closed("gone")
            expect([...port.index.known]).toEqual([])
          }
        },
        welcome: {
          major: 1,
          minor: 0,
          identity: "balancer",
          incarnation: 1,
          frameBytes: defaultLimits.frameBytes,
          models: []
        }
      }
    }
  })
  return port
}

/** A worker that dials the port, over a socket whose kernel takes nothing while it is jammed. */
const startWorker = (world: VirtualWorld, engine: Engine, outboxBytes = defaultLimits.outboxBytes) => {
  const { turn, timers, transport } = world
  const sockets = new Set<SocketEvents>()
  const kernel = {
    jammed: false,
    release: () => {
      kernel.jammed = false
      for (const events of sockets) events.drain()
      world.settle()
    }
  }
  const jammable = (socket: TransportSocket): TransportSocket => ({
    ...socket,
    write: (bytes, from, length) => (kernel.jammed ? 0 : socket.write(bytes, from, length))
  })
  const connect: Transport["connect"] = (host, port, opened, failed) =>
    transport.connect(
      host,
      port,
      (socket) => {
        const events = opened(jammable(socket))
        sockets.add(events)
        return events
      },
      failed
    )
  new Worker({
    name: "w",
    incarnation: 1,
    engine,
    address: { host: "virtual", port: 7420 },
    transport: { ...transport, connect },
    context: { turn, timers, limits: { ...defaultLimits, outboxBytes } },
    rng: makeRng(5)
  }).start()
  world.settle()
  return kernel
}

const BLOCK = 16
const simulated = (world: VirtualWorld, blocks: number) =>
  new SimulatedEngine({
    models: ["m", "n"],
    preset: presets["8b-h100"],
    blockTokens: BLOCK,
    timeScale: 20,
    kvCapacityTokens: blocks * BLOCK,
    clock: {
      nowMs: world.timers.nowMs,
      // Whole milliseconds: a clock that stands still cannot wait for a part of its last digit.
      after: (delayMs, run) => world.timers.after(Math.ceil(delayMs), run),
      soon: (run) => world.turn.soon({ run })
    },
    rng: makeRng(1)
  })

const chainOf = (family: number, depth: number): Buffer => {
  const chain = Buffer.alloc(8 * depth)
  for (let i = 0; i < depth; i++) {
    const { high, low } = hash64(`${family} ${i}`)
    chain.writeUInt32BE(high, 8 * i)
    chain.writeUInt32BE(low, 8 * i + 4)
  }
  return chain
}

/** What the engine holds, asked for behind its back, under the balancer's numbers. */
const heldBy = (engine: SimulatedEngine): Map<string, string> => {
  const cached = engine["cached"]
  const held = new Map<string, string>()
  const { sink } = cached
  cached.sink = {
    stored: (model, chain) => {
      const hashes = hashesIn(chain)
      for (let i = 1; i < hashes.length; i++)
        held.set(`${WORKER} ${MODELS[model]} ${hashes[i]}`, hashes[i - 1]!)
    },
    removed: () => expect().fail("nothing is removed")
  }
  engine["batch"].cache.forEachRun(cached.tellRun)
  cached.sink = sink
  return held
}

const operation = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("assign" as const),
      model: fc.nat(1),
      family: fc.nat(5),
      depth: fc.integer({ min: 1, max: 20 }),
      outputTokens: fc.integer({ min: 1, max: 30 })
    })
  },
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant("wait" as const), ms: fc.integer({ min: 1, max: 400 }) })
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("cancel" as const), which: fc.nat(10) }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constantFrom("lose" as const, "storm" as const, "cut" as const) })
  }
)

const assignFrame = (
  stream: number,
  options: {
    readonly model: number
    readonly family: number
    readonly depth: number
    readonly outputTokens: number
  }
): Buffer => {
  const { model, family, depth, outputTokens } = options
  const routing = {
    idHigh: 0,
    idLow: stream,
    model,
    promptTokens: depth * BLOCK + 1,
    maxTokens: outputTokens
  }
  const body = { chain: chainOf(family, depth), payload: pack({ prompt: null }) }
  return encodeFrame(Type.assign, { stream, attempt: 1, epoch: 1 }, body, routing)
}

/** Whether the worker waits for a moment to say everything anew. */
const isBehind = (engine: SimulatedEngine): boolean => {
  const frames = engine["cached"].sink
  return !(frames instanceof CacheFrames) || frames["behind"]
}

describe("a worker's prefix cache and what its balancer knows of it", () => {
  test("agree whenever all was heard, however many frames were lost, left out, or cut off with their connection", () => {
    const seen = { lost: 0, leftOut: 0 }
    holds(
      fc.property(
        fc.integer({ min: 20, max: 50 }),
        fc.array(operation, { minLength: 10, maxLength: 40 }),
        (blocks, operations) => {
          const world = new VirtualWorld()
          const port = listen(world)
          const engine = simulated(world, blocks)
          // All there is fits into half of the outbox, 4 KiB; what happens in a storm does not.
          const kernel = startWorker(world, engine, 8192)
          let stream = 0
          let isWhole = true
          const assign = (model: number, family: number, depth: number, outputTokens: number) => {
            if (port.connection?.isOpen !== true) return
            port.connection.send(assignFrame(++stream, { model, family, depth, outputTokens }))
            world.settle()
          }
          const storm = () => {
            const { connection } = port
            kernel.jammed = true
            for (let i = 0; i < 12; i++) {
              assign(i % 2, 1000 + stream, 18, 1)
              world.advance(20)
            }
            if (connection?.isOpen === true && isBehind(engine)) seen.leftOut++
            expect(port.connection).toBe(connection)
            kernel.release()
          }
          for (const step of operations) {
            if (step.kind === "assign") assign(step.model, step.family, step.depth, step.outputTokens)
            else if (step.kind === "wait") world.advance(step.ms)
            else if (step.kind === "storm") storm()
            else if (step.kind === "cut") world.cutAll()
            else if (step.kind === "cancel") {
              const cancelled = { stream: Math.max(0, stream - step.which), attempt: 1 }
              port.connection?.outbox.control(encodeFrame(Type.cancel, cancelled))
            } else {
              port.toLose = 1
              isWhole = false
              seen.lost++
            }
            world.settle()
            if (isWhole && port.connection?.isOpen === true && !isBehind(engine))
              expect(port.index.known).toEqual(heldBy(engine))
          }
          port.toLose = 0
          world.advance(2_000)
          // Who lost the last frame of all learns it from the next one.
          assign(0, 100, 3, 1)
          world.advance(1_000)
          expect(port.index.known).toEqual(heldBy(engine))
          expect(port.index.known.size).toBeGreaterThan(0)
          expect(port.violations).toEqual([])
        }
      )
    )
    expect(seen.lost).toBeGreaterThan(0)
    expect(seen.leftOut).toBeGreaterThan(0)
  })
})

describe("a worker", () => {
  /** An engine whose cache the test speaks for. */
  const makePuppet = () => {
    const world = new VirtualWorld()
    const port = listen(world)
    const puppet = { sink: undefined as CacheSink | undefined, all: [] as ReadonlyArray<Buffer> }
    const watchCache = (sink: CacheSink): CacheWatch => {
      puppet.sink = sink
      return {
        tellAll: () => puppet.all.forEach((chain) => sink.stored(0, chain)),
        stop: () => (puppet.sink = undefined)
      }
    }
    startWorker(world, { ...silent, watchCache })
    return { world, port, puppet }
  }
  const silent: Engine = {
    models: ["m", "n"],
    capacity: 1,
    maxSequences: 1,
    kvCapacityTokens: 0,
    submit: () => () => undefined,
    load: () => idleLoad
  }
  /** The blocks `[from, to)` of a prompt, behind their parent. */
  const run = (from: number, to: number): Buffer =>
    Buffer.concat([Buffer.alloc(8), chainOf(9, to)]).subarray(8 * from)
  const block = (index: number): Buffer => chainOf(9, index + 1).subarray(8 * index)

  test("says in one frame what goes on in one turn, for one model", () => {
    const { world, port, puppet } = makePuppet()
    /** The frames of what is told in one turn. */
    const frames = (
      tell: (sink: CacheSink) => void
    ): ReadonlyArray<readonly [type: number, hashes: number]> => {
      tell(puppet.sink!)
      world.settle()
      return port.frames.splice(0)
    }
    const { kvStored, kvRemoved } = Type
    expect(frames(() => undefined)).toEqual([[kvRemoved, 0]])
    const goingOn = frames((sink) => {
      sink.stored(0, run(0, 3))
      sink.stored(0, run(3, 5))
      sink.removed(0, block(4))
      sink.removed(0, block(3))
      sink.stored(0, run(3, 4))
    })
    expect(goingOn).toEqual([
      [kvStored, 6],
      [kvRemoved, 2],
      [kvStored, 2]
    ])
    expect(frames((sink) => sink.stored(0, run(4, 5)))).toEqual([[kvStored, 2]])
    const twoModels = frames((sink) => {
      sink.stored(1, run(0, 4))
      sink.removed(0, block(4))
      sink.removed(1, block(3))
      sink.stored(1, run(3, 4))
      sink.stored(0, run(4, 5))
    })
    expect(twoModels.map(([, hashes]) => hashes)).toEqual([5, 1, 1, 2, 2])
    const apart = frames((sink) => {
      sink.stored(0, run(5, 6))
      sink.stored(0, chainOf(8, 2).fill(0, 0, 8))
    })
    expect(apart.map(([, hashes]) => hashes)).toEqual([2, 2])
    expect(port.index.known.size).toBe(4 + 7)
  })

  test("says everything in frames of 4 KiB, once: what waits for the end of the turn is part of it", () => {
    const { world, port, puppet } = makePuppet()
    puppet.all = [run(0, 1700)]
    world.cutAll()
    expect(puppet.sink).toBeUndefined()
    world.advance(1_000)
    expect(port.frames.slice(1).map(([, hashes]) => hashes)).toEqual([0, 500, 500, 500, 204])
    expect(port.longestFrameBytes).toBeLessThanOrEqual(4096)
    expect(port.index.known.size).toBe(1700)
    const backwards = hashesIn(chainOf(9, 1700)).toReversed().join("")
    puppet.sink!.removed(0, Buffer.from(backwards, "hex"))
    world.settle()
    expect(port.index.known.size).toBe(0)
    puppet.all = [run(0, 3)]
    const frames = puppet.sink as CacheFrames
    frames.stored(0, run(0, 3))
    frames.sync()
    frames.beat()
    world.settle()
    expect(port.index.known.size).toBe(3)
  })

  test("whose engine does not tell says nothing, asked or not", () => {
    const world = new VirtualWorld()
    const port = listen(world)
    startWorker(world, silent)
    port.connection!.send(encodeFrame(Type.kvSync, {}))
    world.advance(1_000)
    expect(port.frames).toEqual([])
    expect(port.index.log).toEqual([])
    expect(port.connection!.isOpen).toBe(true)
  })
})

test("a worker whose outbox overflows with the end of an answer dials again, and says everything", () => {
  const world = new VirtualWorld()
  const port = listen(world)
  const engine = simulated(world, 30)
  const kernel = startWorker(world, engine, 2048)
  const first = port.connection!
  kernel.jammed = true
  for (let stream = 1; stream <= 30; stream++) {
    first.send(assignFrame(stream, { model: 0, family: 1, depth: 4, outputTokens: 1 }))
    world.advance(10)
  }
  kernel.release()
  world.advance(2_000)
  expect(first.isOpen).toBe(false)
  expect(port.connection!.isOpen).toBe(true)
  expect(port.index.known).toEqual(heldBy(engine))
  expect(port.index.known.size).toBe(4)
})

describe("a worker link", () => {
  /** A peer that has registered two models, what it was told, and what the port was. */
  const makePeer = () => {
    const world = new VirtualWorld()
    const port = listen(world)
    const { timers, turn } = world
    const told: Array<number> = []
    let connection: Connection | undefined
    dial({
      transport: world.transport,
      context: { turn, timers, limits: defaultLimits },
      host: "virtual",
      port: 7420,
      introduction: { hello: { ...version, role: "worker", identity: "w", incarnation: 1 } },
      welcomed: (opened) => {
        connection = opened
        return { frame: (type) => told.push(type), closed: (why) => told.push(why.length) }
      },
      gone: () => undefined
    })
    world.settle()
    const send = (type: number, fields: HeaderFields, chain?: Buffer, payload?: Buffer): void => {
      connection!.send(encodeFrame(type, fields, { chain, payload }))
      world.settle()
    }
    const offer = { models: ["m", "n"], role: "both", capacity: 4, speed: 1, kvCapacityTokens: 0 }
    return {
      world,
      port,
      told,
      send,
      register: () => send(Type.register, {}, undefined, pack(offer)),
      everything: (sequence: number) => send(Type.kvRemoved, { flags: Flag.everything, b: sequence })
    }
  }
  const two = Buffer.from("00000000000000008000000000000001", "hex")
  const next = Buffer.from("8000000000000001ffffffffffffffff7fffffff80000000", "hex")

  test("hands on what it is told, in the balancer's numbers and the hashes as they came", () => {
    const { port, register, everything, send } = makePeer()
    register()
    everything(0xffff_fffe)
    send(Type.kvStored, { a: 1, b: 0xffff_ffff }, two)
    send(Type.kvStored, { a: 1, b: 0 }, next)
    send(Type.kvStored, { a: 0, b: 1 }, two)
    expect([...port.index.known]).toEqual([
      ["3 4 8000000000000001", start],
      ["3 4 ffffffffffffffff", "8000000000000001"],
      ["3 4 7fffffff80000000", "ffffffffffffffff"],
      ["3 7 8000000000000001", start]
    ])
    send(Type.kvRemoved, { a: 1, b: 2 }, next.subarray(16))
    send(Type.kvRemoved, { a: 0, b: 3 })
    expect([...port.index.known.keys()]).toEqual([
      "3 4 8000000000000001",
      "3 4 ffffffffffffffff",
      "3 7 8000000000000001"
    ])
  })

  test.each([
    ["skipped", 7],
    ["repeated", 5]
  ])(
    "where a number is %s knows nothing, asks once, and believes nothing until all is said",
    (_, sequence) => {
      const { port, told, register, everything, send } = makePeer()
      register()
      everything(4)
      send(Type.kvStored, { b: 5 }, two)
      port.index.log.length = 0
      send(Type.kvStored, { b: sequence }, next)
      send(Type.kvStored, { b: sequence + 1 }, next)
      send(Type.kvStored, { b: 6 }, next)
      expect(told).toEqual([Type.kvSync])
      expect(port.index.log).toEqual(["cleared"])
      everything(sequence + 9)
      send(Type.kvStored, { b: sequence + 10 }, two)
      expect(port.index.log).toEqual(["cleared", "cleared", "stored"])
      send(Type.kvStored, { b: sequence + 10 }, next)
      expect(told).toEqual([Type.kvSync, Type.kvSync])
      expect(port.violations).toEqual([])
    }
  )

  test("whose worker begins in the middle asks for the beginning", () => {
    const { port, told, register, send } = makePeer()
    register()
    send(Type.kvStored, { b: 0 }, two)
    expect(told).toEqual([Type.kvSync])
    expect([...port.index.known]).toEqual([])
  })

  const everything = { flags: Flag.everything, b: 4 }
  test.each([
    ["half a hash", Type.kvStored, {}, Buffer.alloc(20)],
    ["nothing as stored", Type.kvStored, {}, undefined],
    ["a block without its parent", Type.kvStored, {}, Buffer.alloc(8, 1)],
    ["a model that was not registered", Type.kvStored, { a: 2 }, two],
    ["a model beyond every bound", Type.kvRemoved, { a: 0xffff_ffff }, two],
    ["half a hash removed", Type.kvRemoved, {}, Buffer.alloc(12)],
    ["everything of a model that was not registered", Type.kvRemoved, { ...everything, a: 2 }, undefined]
  ])("sends a worker away that tells %s", (_, type, fields, chain) => {
    const { port, register, everything, send, world } = makePeer()
    register()
    everything(4)
    port.index.log.length = 0
    send(type, { b: 5, ...fields }, chain)
    expect(port.violations).toEqual(["bad_message"])
    expect(port.connection!.isOpen).toBe(false)
    world.advance(100)
    expect(port.index.log).toEqual(["cleared"])
  })

  test("sends a worker away that tells of its cache before it has registered", () => {
    const { port, everything } = makePeer()
    everything(0)
    expect(port.violations).toEqual(["unregistered"])
    expect(port.index.log).toEqual([])
  })

  test("reads every frame into the same columns", () => {
    const { port, register, everything, send } = makePeer()
    const columns = new Set<Uint32Array>()
    const { stored } = port.index
    Object.assign(port.index, {
      stored: (worker: number, model: number, chain: PrefixChain, from: number) => {
        columns.add(chain.high).add(chain.low)
        stored(worker, model, chain, from)
      }
    })
    register()
    everything(0)
    send(Type.kvStored, { b: 1 }, Buffer.concat([Buffer.alloc(8), chainOf(1, 5000)]))
    for (let family = 2; family < 9; family++)
      send(Type.kvStored, { b: family }, Buffer.concat([Buffer.alloc(8), chainOf(family, 500 * family)]))
    expect(columns.size).toBe(2)
    expect(port.index.known.size).toBe(5000 + 500 * 35)
  })
})
