/** One open socket. A Bun TCP socket is one as it is. */
export interface TransportSocket {
  /** Hands bytes to the kernel; returns how many it took (the rest is ours to keep until `drain`), or -1 when the socket is closed. */
  readonly write: (bytes: Uint8Array, from: number, length: number) => number
  /** Sends FIN once everything taken by `write` is sent. Never `end()`: it drops bytes already taken (see docs/protocol.md). */
  readonly shutdown: () => void
  /** Closes at once, with what is unsent. */
  readonly terminate: () => void
  readonly pause: () => void
  readonly resume: () => void
  readonly remoteAddress: string
}

/** What a socket tells its owner. None of these may throw. */
export interface SocketEvents {
  /** The bytes are the owner's: nobody writes there any more. */
  readonly data: (bytes: Buffer) => void
  /** The kernel takes bytes again after a short `write`. */
  readonly drain: () => void
  /** The peer sent FIN: it will send nothing more, and may still read. After our own FIN, `closed` is told in its place. */
  readonly ended: () => void
  /** The socket is gone. Told exactly once. */
  readonly closed: () => void
}

export interface Listening {
  readonly host: string
  readonly port: number
  /** Stops accepting; open sockets stay. */
  readonly close: () => void
}

/** Where sockets come from. The fault simulator brings its own. */
export interface Transport {
  /** Throws when the address cannot be bound; the error's `code` is the system's (`EADDRINUSE`). `port` 0 picks a free one. */
  readonly listen: (
    host: string,
    port: number,
    accept: (socket: TransportSocket) => SocketEvents
  ) => Listening
  /** Calls `opened` once, or `failed` once. */
  readonly connect: (
    host: string,
    port: number,
    opened: (socket: TransportSocket) => SocketEvents,
    failed: (why: string) => void
  ) => void
}
