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
  /** How long the connection may take to be made, greeting not included; left out, as long as the machine tries. */
  readonly connectMs?: number
  readonly introduction: Introduction
  /** The greeting is over: returns who handles what comes. */
  readonly welcomed: (connection: Connection, welcome: Welcome) => ConnectionHandler
  /** The connection could not be made, or is gone; `code` is as `Connection.peerCode`. Called exactly once, last. */
  readonly gone: (why: string, code?: string) => void
}

/** Connects and greets. The connection's deadlines are kept until it is gone. Returns what cuts it, also before it is made. */
export const dial = (options: DialOptions): (() => void) => {
  const { connectMs, context } = options
  let dialled: Connection | undefined
  let over = false
  const gone = (why: string, code?: string): void => {
    if (over) return
    over = true
    stopWaiting()
    options.gone(why, code)
  }
  const stopWaiting =
    connectMs === undefined
      ? () => undefined
      : context.timers.after(connectMs, () => gone(`no connection within ${connectMs} ms`))
  options.transport.connect(
    options.host,
    options.port,
    (socket) => {
      stopWaiting()
      const connection = Connection.open(
        socket,
        context,
        options.introduction,
        options.welcomed,
        ({ peerCode }, why) => {
          stopSweeping()
          gone(why, peerCode)
        }
      )
      const stopSweeping = context.timers.every(SWEEP_MS, () => connection.sweep(context.timers.nowMs()))
      dialled = connection
      if (over) connection.cut("too late")
      return connection
    },
    gone
  )
  return () => {
    if (dialled === undefined) gone("given up")
    else dialled.cut("given up")
  }
}
