import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { Client, type ClientOptions } from "./Client.ts"
import { ConnectFailed } from "./ConnectFailed.ts"
import type { Done, Ending } from "./Ending.ts"
import type { GenerateRequest } from "./GenerateRequest.ts"
import type { Token } from "./Generation.ts"

/** A request that did not end well, as an error with what its ending says of the next try. */
export class RequestFailed extends Schema.TaggedError<RequestFailed>()("RequestFailed", {
  outcome: Schema.Literals(["rejected", "error", "cancelled", "expired"]),
  reason: Schema.String,
  /** 0 when the balancer named no time. */
  retryAfterMs: Schema.Finite,
  retryable: Schema.Boolean,
  delivered: Schema.Int,
  /** 0 when it never reached a worker. */
  attempts: Schema.Int,
  /** Until the first token; undefined when none came. */
  ttftMs: Schema.UndefinedOr(Schema.Finite),
  e2eMs: Schema.Finite,
  message: Schema.String
}) {}

/** The client for callers that speak Effect: interruption cancels, a bad ending is a typed error. */
export class EffectClient extends Context.Service<
  EffectClient,
  {
    /** The tokens of one answer. */
    readonly stream: (request: GenerateRequest) => Stream.Stream<Token, RequestFailed>
    /** The whole answer. */
    readonly generate: (
      request: GenerateRequest
    ) => Effect.Effect<Done & { readonly text: string }, RequestFailed>
  }
>()("parallax/client/EffectClient") {
  /** Connects when built, closes in order with its scope. Dies with a `RangeError` of options that cannot be meant. */
  static readonly layer = (options: ClientOptions): Layer.Layer<EffectClient, ConnectFailed> =>
    Layer.effect(
      EffectClient,
      Effect.gen(function* () {
        const client = yield* Effect.acquireRelease(
          Effect.sync(() => new Client(options)),
          (client) => Effect.promise(() => client.close())
        )
        yield* Effect.tryPromise({ try: () => client.open(), catch: connectFailed })
        return {
          stream: (request) =>
            Stream.suspend(() => {
              const generation = client.generate(request)
              const ending = Effect.flatMap(
                Effect.promise(() => generation.ended),
                success
              )
              const tokens = Stream.fromAsyncIterable(generation, () => unreachable)
              return Stream.concat(tokens, Stream.drain(Stream.fromEffect(ending)))
            }),
          generate: (request) =>
            Effect.suspend(() => {
              const generation = client.generate(request)
              return Effect.promise(() => generation.collect()).pipe(
                Effect.flatMap(({ text, ending }) =>
                  Effect.map(success(ending), (done) => ({ ...done, text }))
                ),
                Effect.onInterrupt(() => Effect.sync(() => generation.cancel()))
              )
            })
        }
      })
    )
}

/** `open` rejects with nothing else: whatever did would be a defect. */
const connectFailed = (error: unknown): ConnectFailed => {
  if (error instanceof ConnectFailed) return error
  throw error
}

const success = (ending: Ending): Effect.Effect<Done, RequestFailed> =>
  ending.outcome === "done"
    ? Effect.succeed(ending)
    : Effect.fail(new RequestFailed({ delivered: 0, attempts: 0, ttftMs: undefined, ...ending }))

/** A generation never throws: its type is all this is for. */
const unreachable = new RequestFailed({
  outcome: "error",
  reason: "internal",
  retryAfterMs: 0,
  retryable: false,
  delivered: 0,
  attempts: 0,
  ttftMs: undefined,
  e2eMs: 0,
  message: "a generation threw"
})
