import { HEADER_OFFSET, Type } from "../../src/protocol/Header.ts"
import { systemTimers } from "../../src/protocol/Timers.ts"
import { helloFrame, pingFrame, pongFrame } from "../hop/frames.ts"
import { Cutter, type Sink } from "../hop/wire.ts"

/*
 * Idle clients: they greet, answer PINGs, and do nothing else. Told over IPC what to do; every answer is a `Standing`.
 */

export type Order =
  /** Opens `count` connections at once; answers when all were welcomed or have failed. */
  | {
      readonly do: "connect"
      readonly address: string
      readonly firstIdentity: number
      readonly count: number
    }
  /** Sends a PING on every connection and waits for the PONGs. */
  | { readonly do: "check" }
  /** Closes every connection at once, without a word. */
  | { readonly do: "drop" }

export interface Standing {
  readonly elapsedMs: number
  /** Connections that were welcomed and are open. */
  readonly open: number
  /** Since the last "connect": connections that failed or that the other side closed, PINGs answered, and PONGs to our own. */
  readonly lost: number
  readonly pingsAnswered: number
  readonly pongs: number
}

/** An answer comes by then, whatever is missing. */
const PATIENCE_MS = 30_000

let open = 0
let lost = 0
let pingsAnswered = 0
let pongs = 0
let dropping = false
/** Looked at after every event: ends the order being carried out. */
let settled = (): boolean => true
let settle = (): void => undefined

const changed = (): void => {
  if (settled()) settle()
}

class IdleClient implements Sink {
  readonly cutter = new Cutter(this)
  readonly socket: Bun.Socket<IdleClient>
  welcomed = false

  constructor(socket: Bun.Socket<IdleClient>) {
    this.socket = socket
  }

  frame(bytes: Buffer, start: number): void {
    const type = bytes[start + HEADER_OFFSET]
    if (type === Type.welcome) {
      this.welcomed = true
      open++
    } else if (type === Type.ping) {
      pingsAnswered++
      this.socket.write(pongFrame)
    } else if (type === Type.pong) pongs++
    changed()
  }
}

const clients = new Set<IdleClient>()

const connect = (address: string, identity: number): void => {
  const [hostname, port] = address.split(":")
  const failed = () => {
    lost++
    changed()
  }
  Bun.connect<IdleClient>({
    hostname: hostname!,
    port: Number(port),
    socket: {
      binaryType: "buffer",
      open: (socket) => {
        socket.data = new IdleClient(socket)
        clients.add(socket.data)
        socket.write(helloFrame("client", `idle-${identity}`, Math.imul(identity, 0x9e3779b1) >>> 0))
      },
      data: (socket, chunk) => socket.data.cutter.push(chunk),
      close: (socket) => {
        clients.delete(socket.data)
        if (socket.data.welcomed) open--
        if (!dropping) lost++
        changed()
      }
    }
  }).catch(failed)
}

const carryOut = async (order: Order): Promise<Standing> => {
  const startedMs = performance.now()
  const done = Promise.withResolvers<void>()
  settle = done.resolve
  dropping = order.do === "drop"
  pongs = 0
  if (order.do === "connect") {
    lost = pingsAnswered = 0
    settled = () => open + lost >= order.count
    for (let i = 0; i < order.count; i++) connect(order.address, order.firstIdentity + i)
  } else if (order.do === "check") {
    settled = () => pongs >= open
    for (const client of clients) client.socket.write(pingFrame)
  } else {
    settled = () => clients.size === 0
    for (const client of clients) client.socket.terminate()
  }
  const giveUp = systemTimers.after(PATIENCE_MS, settle)
  changed()
  await done.promise
  giveUp()
  settled = () => false
  return { elapsedMs: performance.now() - startedMs, open, lost, pingsAnswered, pongs }
}

process.on("message", (order: Order) => {
  void (async () => process.send!(await carryOut(order)))()
})
process.on("disconnect", () => process.exit(0))
