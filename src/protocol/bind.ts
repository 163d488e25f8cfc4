import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/** The address cannot be bound; `code` is the system's, such as `EADDRINUSE`. */
export class BindFailed extends Schema.TaggedError<BindFailed>()("BindFailed", {
  host: Schema.String,
  port: Schema.Int,
  code: Schema.String
}) {}

/** What `listen` gives, which throws when the address cannot be bound. */
export const bind = <A>(host: string, port: number, listen: () => A): Effect.Effect<A, BindFailed> =>
  Effect.try({ try: listen, catch: (error) => new BindFailed({ host, port, code: codeOf(error) }) })

const codeOf = (error: unknown): string =>
  typeof error === "object" && error !== null && "code" in error ? String(error.code) : String(error)
