import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { BalancerSnapshot } from "../domain/Snapshot.ts"
import { encodeFrame, pack, unpackPayload } from "../protocol/Codec.ts"
import type { Connection, ConnectionHandler } from "../protocol/Connection.ts"
import { At, HEADER_OFFSET, readU32, Type } from "../protocol/Header.ts"
import type { Limits } from "../protocol/Limits.ts"

/** What an administrator may ask for. */
const AdminRequest = Schema.Union([
  Schema.Struct({ op: Schema.Literal("snapshot") }),
  Schema.Struct({ op: Schema.Literal("drain"), worker: Schema.String }),
  Schema.Struct({ op: Schema.Literal("crash"), target: Schema.Literal("balancer") })
])
const decode = Schema.decodeUnknownResult(AdminRequest)

export interface AdminLinkOptions {
  readonly limits: Limits
  readonly snapshot: () => BalancerSnapshot
  /** False when there is no such worker. */
  readonly drainWorker: (name: string) => boolean
  /** False when faults are not enabled. */
  readonly crashBalancer: () => boolean
}

/** One administrator's connection: each ADMIN_REQUEST gets one ADMIN_REPLY with the same stream id. */
export class AdminLink implements ConnectionHandler {
  private readonly connection: Connection
  private readonly options: AdminLinkOptions

  constructor(connection: Connection, options: AdminLinkOptions) {
    this.connection = connection
    this.options = options
  }

  readonly frame = (_type: number, bytes: Buffer, start: number, end: number): void => {
    const stream = readU32(bytes, start + HEADER_OFFSET + At.stream)
    const request = decode(unpackPayload(bytes, start, end, this.options.limits))
    const answer = Result.isSuccess(request)
      ? this.answer(request.success)
      : { error: "op: must be snapshot, drain or crash, with its fields" }
    this.connection.send(encodeFrame(Type.adminReply, { stream }, { payload: pack(answer) }))
  }

  readonly closed = (): void => {}

  private answer(request: typeof AdminRequest.Type): unknown {
    const { options } = this
    switch (request.op) {
      case "snapshot":
        return options.snapshot()
      case "drain":
        return options.drainWorker(request.worker)
          ? {}
          : { error: `worker: there is none called ${request.worker}` }
      case "crash":
        return options.crashBalancer() ? {} : { error: "op: crash needs faults.enabled in the config" }
    }
  }
}
