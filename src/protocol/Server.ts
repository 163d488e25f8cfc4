import { Connection, type ConnectionContext, type Greet, type Verdict } from "./Connection.ts"
import type { Hello } from "./Message.ts"
import { Quarantine } from "./Quarantine.ts"
import { Strangers } from "./Strangers.ts"
import type { Transport } from "./Transport.ts"

/** How often deadlines are checked. */
export const SWEEP_MS = 250
/** Connections above the limit that are told so, each for as long as it takes to say it. Beyond, they are cut without a word. */
const TURNED_AWAY_MAX = 64

export interface ServerOptions {
  readonly transport: Transport
  readonly context: ConnectionContext
  readonly host: string
  /** 0 picks a free port. */
  readonly port: number
  /** Open connections, greeted or not; one more is closed as soon as it is accepted. */
  readonly connectionsMax: number
  /** Decides about a HELLO. Not asked about identities in quarantine. Must not write to the connection: WELCOME comes first. */
  readonly greet: Greet
}

export interface Server {
  readonly host: string
  readonly port: number
  readonly connectionCount: () => number
  /** Stops accepting, says GOODBYE to everyone, and runs `then` once no socket is left (each has its own deadline). */
  readonly close: (message: string, then: () => void) => void
}

/** Listens, and keeps the deadlines of everything it accepted. Throws when the address cannot be bound. */
export const serve = (options: ServerOptions): Server => {
  const { context } = options
  const connections = new Set<Connection>()
  const quarantine = new Quarantine()
  const strangers = new Strangers<Connection>(context.limits.strangers, context.limits.strangerMs)
  let whenEmpty: (() => void) | undefined
  const settle = (): void => {
    if (connections.size > 0 || whenEmpty === undefined) return
    const then = whenEmpty
    whenEmpty = undefined
    stopSweeping()
    then()
  }
  const greet: Greet = (connection, hello) => {
    const known = (): void => strangers.delete(connection.remoteAddress, connection)
    const leftMs = quarantine.leftMs(nameOf(connection, hello), context.timers.nowMs())
    if (leftMs > 0) {
      known()
      const seconds = Math.ceil(leftMs / 1000)
      return {
        refuse: "quarantined",
        message: `rules were broken under this identity: come back in ${seconds} s`
      }
    }
    const greeting = options.greet(connection, hello)
    // Who is to prove something is a stranger until then.
    if (!("nonce" in greeting)) {
      known()
      return greeting
    }
    const judge = (proof: Uint8Array): Verdict => {
      known()
      return greeting.judge(proof)
    }
    return { nonce: greeting.nonce, judge }
  }
  const gone = (connection: Connection): void => {
    connections.delete(connection)
    strangers.delete(connection.remoteAddress, connection)
    const { peer } = connection
    if (connection.isOutlaw && peer !== undefined)
      quarantine.add(nameOf(connection, peer), context.timers.nowMs())
    settle()
  }
  /** A newcomer counts from now on; strangers of its address that have had their time make room for it. */
  const admit = (connection: Connection): void => {
    const nowMs = context.timers.nowMs()
    const { remoteAddress } = connection
    connections.add(connection)
    strangers.add(remoteAddress, connection, nowMs)
    let oldest = strangers.excess(remoteAddress, nowMs)
    for (; oldest !== undefined; oldest = strangers.excess(remoteAddress, nowMs)) {
      oldest.violate("connections", "too many connections without a greeting")
      oldest.cut("too many connections without a greeting")
    }
  }
  const stopSweeping = context.timers.every(SWEEP_MS, () => {
    const nowMs = context.timers.nowMs()
    for (const connection of connections) connection.sweep(nowMs)
  })
  const listen = () => {
    try {
      return options.transport.listen(options.host, options.port, (socket) => {
        const connection = Connection.accept(socket, context, greet, gone)
        admit(connection)
        const excess = connections.size - options.connectionsMax
        if (excess > TURNED_AWAY_MAX) connection.cut("too many connections")
        else if (excess > 0) connection.refuse("limit", "connections", "too many connections")
        return connection
      })
    } catch (error) {
      stopSweeping()
      throw error
    }
  }
  const listening = listen()
  return {
    host: listening.host,
    port: listening.port,
    connectionCount: () => connections.size,
    close: (message, then) => {
      listening.close()
      whenEmpty = then
      for (const connection of connections) connection.goodbye("drain", message)
      settle()
    }
  }
}

/** Whom the quarantine is about: the identity as seen from one address, so that nobody can have another's refused. */
const nameOf = (connection: Connection, peer: Pick<Hello, "identity">): string =>
  `${connection.remoteAddress} ${peer.identity}`
