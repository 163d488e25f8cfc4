import {
  type Connection,
  type ConnectionContext,
  type ConnectionHandler,
  deaf
} from "../protocol/Connection.ts"
import { dial } from "../protocol/dial.ts"
import { type Hello, version, type Welcome } from "../protocol/Message.ts"
import type { Transport } from "../protocol/Transport.ts"
import type { Address } from "./address.ts"
import type { ConnectFailed } from "./ConnectFailed.ts"

/** Whom to greet, and as whom. */
export interface GreetOptions {
  readonly transport: Transport
  readonly context: ConnectionContext
  readonly address: Address
  /** From the dial to the balancer's WELCOME. */
  readonly connectMs: number
  readonly hello: Omit<Hello, "major" | "minor">
  readonly credential?: string | undefined
}

/** Why it came to nothing. */
export type FailedDial = Pick<ConnectFailed, "why" | "code">

/** One of `opened` and `failed` is called, once; `gone` follows `opened` when the socket is gone. */
export interface Greeted {
  readonly opened: (connection: Connection, welcome: Welcome) => ConnectionHandler
  readonly failed: (failure: FailedDial) => void
  readonly gone: () => void
}

/** Connects and greets within `connectMs`. Returns what abandons the attempt: after it nothing is called but `gone`. */
export const greet = (options: GreetOptions, greeted: Greeted): (() => void) => {
  const { address, connectMs, context, credential, hello, transport } = options
  let decided = false
  let opened = false
  const decide = (): boolean => {
    if (decided) return false
    decided = true
    stopWaiting()
    return true
  }
  const stopWaiting = context.timers.after(connectMs, () => {
    if (decide()) greeted.failed({ why: `no answer within ${connectMs} ms` })
  })
  const cut = dial({
    transport,
    // Whoever dials says how long it waits for the greeting.
    context: { ...context, limits: { ...context.limits, greetingMs: connectMs } },
    host: address.host,
    port: address.port,
    introduction: { hello: { ...version, ...hello }, credential },
    welcomed: (connection, welcome) => {
      if (!decide()) {
        connection.goodbye("done", "")
        return deaf
      }
      opened = true
      return greeted.opened(connection, welcome)
    },
    gone: (why, code) => {
      if (opened) greeted.gone()
      else if (decide()) greeted.failed({ why, code })
    }
  })
  return () => {
    if (decide()) cut()
  }
}
