import { expect } from "bun:test"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { startBalancerNode } from "../../src/actors/BalancerNode.ts"
import { Dispatcher } from "../../src/actors/runtime/Dispatcher.ts"
import { Reason } from "../../src/domain/Outcome.ts"
import { Type } from "../../src/protocol/Header.ts"
import { defaultLimits } from "../../src/protocol/Limits.ts"
import { VirtualWorld } from "../client/support/VirtualWorld.ts"
import { it } from "../support/effectTest.ts"
import { heartbeat, hostOptions, Peer, register } from "./support/VirtualNode.ts"

/** A balancer process with its supervisors, in a virtual world to which its peers bring their own sockets. */
const start = Effect.fnUntraced(function* () {
  const world = new VirtualWorld()
  const { timers, transport, turn } = world
  const context = { turn, timers, limits: defaultLimits, violation: () => undefined }
  /** Lets turns end and fibers run. */
  const settle = Effect.repeat(
    Effect.andThen(
      Effect.sync(() => world.settle()),
      Effect.yieldNow
    ),
    { times: 50 }
  )
  const scope = yield* Scope.make()
  yield* Effect.addFinalizer(() =>
    Effect.gen(function* () {
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* settle
      yield* Fiber.join(closing)
    })
  )
  const node = yield* startBalancerNode({
    host: hostOptions(context),
    dispatcher: new Dispatcher(turn, timers.nowMs),
    transport,
    listenHost: "virtual",
    listenPort: 0,
    connectionsMax: 16,
    heartbeatMs: 250,
    suspectMs: 1_000,
    lostMs: 2_000,
    onEvent: () => undefined
  }).pipe(Effect.provideService(Scope.Scope, scope))
  const peer = { context, host: node.host, settle: () => world.settle() }
  const worker = Effect.fnUntraced(function* (name: string) {
    const joined = new Peer(peer, "worker", name)
    joined.send(register())
    // Its pool may get a manager first.
    yield* settle
    joined.send(heartbeat)
    return joined
  })
  return { node, settle, worker, client: new Peer(peer, "client", "client") }
})

it("pool managers are there again when their supervisor is", () =>
  Effect.gen(function* () {
    const { client, node, settle, worker } = yield* start()
    yield* worker("w0")
    const pools = node.root.children().find(({ id }) => id === "pools")!
    pools.process!.interrupt()
    yield* settle
    const later = yield* worker("w1")
    expect(node.host.membersOf("sim").map(({ name, state }) => [name, state])).toEqual([
      ["w0", "ready"],
      ["w1", "ready"]
    ])
    client.send(client.request({ stream: 1 }), client.request({ stream: 2 }))
    expect(later.of(Type.assign)).toHaveLength(1)
  }))

it("a drain waits for requests that a restarted balancer does not know yet", () =>
  Effect.gen(function* () {
    const { client, node, settle, worker } = yield* start()
    const only = yield* worker("w0")
    client.send(client.request({ stream: 1 }))
    node.host.tellBalancer({ _tag: "Crash" })
    client.send()
    // It is started anew, and knows of nobody until turns end again.
    yield* Effect.repeat(Effect.yieldNow, { times: 50 })
    expect(node.host.restarts).toBe(1)
    const draining = yield* Effect.forkChild(node.drain(60_000), { startImmediately: true })
    yield* settle
    yield* TestClock.adjust("10 millis")
    yield* settle
    expect(draining.pollUnsafe()).toBeUndefined()
    only.send(only.about(only.of(Type.assign)[0]!, Type.done))
    yield* TestClock.adjust("10 millis")
    yield* settle
    expect(draining.pollUnsafe()).toBeDefined()
    expect(client.of(Type.done)).toHaveLength(1)
  }))

it("a drain that takes too long ends what is left in an error, and frees the workers", () =>
  Effect.gen(function* () {
    const { client, node, settle, worker } = yield* start()
    const only = yield* worker("w0")
    for (let stream = 1; stream <= 70; stream++) client.send(client.request({ stream }))
    const assigns = only.of(Type.assign)
    // Others wait for their turn.
    expect(assigns).toHaveLength(64)
    only.send(only.token(assigns[0]!, 0))
    const draining = yield* Effect.forkChild(node.drain(0), { startImmediately: true })
    yield* settle
    yield* TestClock.adjust("10 millis")
    yield* settle
    expect(draining.pollUnsafe()).toBeDefined()
    expect(client.of(Type.error).map(({ a }) => a)).toEqual(Array.from({ length: 70 }, () => Reason.draining))
    // Some of those that waited got a place for a moment.
    expect(only.of(Type.cancel)).toHaveLength(only.of(Type.assign).length)
    expect(node.host.snapshot()).toMatchObject({ failed: 70, inFlight: 0, queued: 0 })
  }))

it("when the balancer is given up, every request ends at once, and each that still comes", () =>
  Effect.gen(function* () {
    const { client, node, settle, worker } = yield* start()
    const only = yield* worker("w0")
    for (let stream = 1; stream <= 70; stream++) client.send(client.request({ stream }))
    const assigns = only.of(Type.assign)
    // One streams, one is over without the balancer's knowing, six wait for their turn.
    expect(assigns).toHaveLength(64)
    only.send(only.token(assigns[0]!, 0))
    for (let crashes = 0; crashes < 6; crashes++) {
      node.host.tellBalancer({ _tag: "Crash" })
      if (crashes === 5) {
        only.push(only.about(assigns[1]!, Type.done))
        client.push(client.request({ stream: 71 }))
      }
      yield* settle
    }
    expect(node.host.restarts).toBe(5)
    client.send(client.request({ stream: 72 }))
    yield* settle
    expect(client.of(Type.done)).toHaveLength(1)
    const ends = [...client.of(Type.error), ...client.of(Type.rejected)]
    expect(ends.map(({ a }) => a)).toEqual(Array.from({ length: 71 }, () => Reason.draining))
    expect(client.of(Type.rejected).map(({ stream }) => stream)).toEqual([71, 72])
    expect(only.of(Type.cancel)).toHaveLength(63)
    expect(node.host.links.table.size).toBe(0)
    const draining = yield* Effect.forkChild(node.drain(60_000), { startImmediately: true })
    expect(draining.pollUnsafe()).toBeDefined()
  }))
