import { expect } from "bun:test"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { EffectClient } from "../../src/client/EffectClient.ts"
import { Reason } from "../../src/domain/Outcome.ts"
import { live } from "../support/effectTest.ts"
import { FakeBalancer, type FakeBalancerOptions } from "./support/FakeBalancer.ts"

const request = { prompt: "hello", maxTokens: 10 }

const setup = (onRequest: FakeBalancerOptions["onRequest"]) =>
  Effect.gen(function* () {
    const balancer = yield* Effect.acquireRelease(
      Effect.sync(() => new FakeBalancer(onRequest === undefined ? {} : { onRequest })),
      (balancer) => Effect.promise(() => balancer.close())
    )
    const context = yield* Layer.build(EffectClient.layer({ address: balancer.address }))
    return { balancer, client: yield* EffectClient.pipe(Effect.provide(context)) }
  })

live("streams tokens, collects text, over loopback", () =>
  Effect.gen(function* () {
    const { client } = yield* setup((received, balancer) => balancer.answer(received, ["a", "b"]))
    const tokens = yield* Stream.runCollect(client.stream(request))
    expect(tokens.map(({ text }) => text)).toEqual(["a", "b"])
    expect(yield* client.generate(request)).toMatchObject({ outcome: "done", text: "ab", tokens: 2 })
  })
)

live("a bad ending is a typed error", () =>
  Effect.gen(function* () {
    const { client } = yield* setup((received, balancer) => balancer.reject(received, Reason.queueFull, 50))
    const expected = {
      _tag: "RequestFailed",
      outcome: "rejected",
      reason: "queue_full",
      retryAfterMs: 50,
      attempts: 0,
      ttftMs: undefined,
      e2eMs: expect.any(Number)
    }
    expect(yield* Effect.flip(client.generate(request))).toMatchObject(expected)
    expect(yield* Effect.flip(Stream.runDrain(client.stream(request)))).toMatchObject(expected)
  })
)

live("of an answer that broke off the error knows the attempts and the times", () =>
  Effect.gen(function* () {
    const { client } = yield* setup((received, balancer) => {
      balancer.accept(received)
      balancer.token(received, "a", { attempt: 2 })
      balancer.error(received, Reason.workerLost, { attempt: 2 })
    })
    const { attempts, delivered, e2eMs, ttftMs } = yield* Effect.flip(client.generate(request))
    expect({ attempts, delivered }).toEqual({ attempts: 2, delivered: 1 })
    expect(ttftMs!).toBeGreaterThanOrEqual(0)
    expect(e2eMs).toBeGreaterThanOrEqual(ttftMs!)
  })
)

live("interruption cancels", () =>
  Effect.gen(function* () {
    const { balancer, client } = yield* setup(undefined)
    const fiber = yield* Effect.forkChild(Stream.runDrain(client.stream(request)))
    yield* Effect.promise(() => balancer.until(() => balancer.requests.length === 1))
    yield* Fiber.interrupt(fiber)
    // A second request on the same connection comes after the CANCEL.
    const second = yield* Effect.forkChild(client.generate(request))
    yield* Effect.promise(() => balancer.until(() => balancer.requests.length === 2))
    expect(balancer.requests[0]!.cancels).toBe(1)
    yield* Fiber.interrupt(second)
  })
)

live("nobody there fails the layer", () =>
  Effect.gen(function* () {
    const failure = yield* Effect.flip(Layer.build(EffectClient.layer({ address: "127.0.0.1:1" })))
    expect(failure._tag).toBe("ConnectFailed")
  })
)

live("interruption abandons a connection that is being made", () =>
  Effect.gen(function* () {
    const silent = yield* Effect.acquireRelease(
      Effect.sync(() => Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => undefined } })),
      (listener) => Effect.sync(() => listener.stop(true))
    )
    const layer = EffectClient.layer({ address: { host: "127.0.0.1", port: silent.port }, connectMs: 60_000 })
    const built = yield* Effect.timeoutOption(Effect.scoped(Layer.build(layer)), "50 millis")
    expect(Option.isNone(built)).toBe(true)
  })
)

live("options that cannot be meant are a defect, and no typed error", () =>
  Effect.gen(function* () {
    const exit = yield* Effect.exit(Effect.scoped(Layer.build(EffectClient.layer({ address: "nowhere" }))))
    const cause = Exit.isFailure(exit) ? exit.cause : Cause.empty
    expect(Cause.hasFails(cause)).toBe(false)
    expect(Cause.squash(cause)).toBeInstanceOf(RangeError)
  })
)

live("a stream that is left early cancels", () =>
  Effect.gen(function* () {
    const { balancer, client } = yield* setup((received, fake) => {
      fake.accept(received)
      fake.token(received)
      fake.token(received)
    })
    expect(yield* Stream.runCollect(Stream.take(client.stream(request), 1))).toHaveLength(1)
    yield* Effect.promise(() => balancer.until(() => balancer.requests[0]!.cancels === 1))
  })
)
