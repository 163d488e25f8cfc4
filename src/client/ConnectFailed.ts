import * as Schema from "effect/Schema"

/** No connection to the balancer: nobody listens there, it refused the greeting, or it did not answer in time. */
export class ConnectFailed extends Schema.TaggedError<ConnectFailed>()("ConnectFailed", {
  address: Schema.String,
  /** As the transport or the balancer said it. */
  why: Schema.String,
  /** For programs: the code of the balancer's GOODBYE, or the kind of rule that what answers broke; undefined where nothing answers. */
  code: Schema.optional(Schema.String)
}) {
  override get message(): string {
    return `cannot connect to the balancer at ${this.address}: ${this.why}`
  }
}
