import {
  Connection,
  type ConnectionContext,
  type ConnectionHandler,
  type Introduction
} from "./Connection.ts"
import type { Welcome } from "./Message.ts"
import { SWEEP_MS } from "./Server.ts"
import type { Transport } from "./Transport.ts"

export interface DialOptions {
  readonly transport: Transport
  readonly context: ConnectionContext
  readonly host: string
  readonly port: number
  readonly introduction: Introduction
  /** The greeting is over: returns who handles what comes. */
  readonly welcomed: (connection: Connection, welcome: Welcome) => ConnectionHandler
  /** The connection could not be made, or is gone. Called exactly once, last. */
  readonly gone: (why: string) => void
}

/** Connects and greets. The connection's deadlines are kept until it is gone. */
export const dial = (options: DialOptions): void => {
  const { context } = options
  options.transport.connect(
    options.host,
    options.port,
    (socket) => {
      const connection = Connection.open(
        socket,
        context,
        options.introduction,
        options.welcomed,
        (_, why) => {
          stopSweeping()
          options.gone(why)
        }
      )
      const stopSweeping = context.timers.every(SWEEP_MS, () => connection.sweep(context.timers.nowMs()))
      return connection
    },
    options.gone
  )
}
