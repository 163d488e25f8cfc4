import { Connection, type ConnectionContext, type Greeting } from "./Connection.ts"
import type { Hello } from "./Message.ts"
import type { Transport } from "./Transport.ts"

/** How often deadlines are checked. */
export const SWEEP_MS = 250

export interface ServerOptions {
  readonly transport: Transport
  readonly context: ConnectionContext
  readonly host: string
  /** 0 picks a free port. */
  readonly port: number
  /** Open connections, greeted or not; one more is closed as soon as it is accepted. */
  readonly connectionsMax: number
  readonly greet: (connection: Connection, hello: Hello) => Greeting
}

export interface Server {
  readonly host: string
  readonly port: number
  readonly connectionCount: () => number
  /** Stops accepting; open connections stay. */
  readonly stopAccepting: () => void
  /** Stops accepting, says GOODBYE to everyone, and runs `then` once no socket is left (each has its own deadline). */
  readonly close: (message: string, then: () => void) => void
}

/** Listens, and keeps the deadlines of everything it accepted. Throws when the address cannot be bound. */
export const serve = (options: ServerOptions): Server => {
  const { context } = options
  const connections = new Set<Connection>()
  let whenEmpty: (() => void) | undefined
  const settle = (): void => {
    if (connections.size > 0 || whenEmpty === undefined) return
    const then = whenEmpty
    whenEmpty = undefined
    stopSweeping()
    then()
  }
  const gone = (connection: Connection): void => {
    connections.delete(connection)
    settle()
  }
  const stopSweeping = context.timers.every(SWEEP_MS, () => {
    const nowMs = context.timers.nowMs()
    for (const connection of connections) connection.sweep(nowMs)
  })
  const bind = () => {
    try {
      return options.transport.listen(options.host, options.port, (socket) => {
        const connection = Connection.accept(socket, context, options.greet, gone)
        connections.add(connection)
        if (connections.size > options.connectionsMax) connection.refuse("limit", "connections", "too many connections")
        return connection
      })
    } catch (error) {
      stopSweeping()
      throw error
    }
  }
  const listening = bind()
  return {
    host: listening.host,
    port: listening.port,
    connectionCount: () => connections.size,
    stopAccepting: listening.close,
    close: (message, then) => {
      listening.close()
      whenEmpty = then
      for (const connection of connections) connection.goodbye("drain", message)
      settle()
    }
  }
}
