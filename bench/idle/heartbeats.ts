import { HEADER_OFFSET, Type } from "../../src/protocol/Header.ts"
import { systemTimers } from "../../src/protocol/Timers.ts"
import { heartbeatFrame, helloFrame, pingFrame, registerFrame } from "../hop/frames.ts"
import { Latencies } from "../hop/Latencies.ts"
import { Cutter } from "../hop/wire.ts"

const WORKERS = 8
const HEARTBEAT_MS = 250
/** The workers' heartbeats are spread evenly over the period. */
const STAGGER_MS = Math.floor(HEARTBEAT_MS / WORKERS)

export interface HeartbeatProbe {
  /** From writing a HEARTBEAT to the PONG of the PING right behind it: an upper bound of when the broker had read it. */
  readonly delays: Latencies
  /** Worker connections the broker has closed. */
  readonly lost: () => number
}

/** Keeps registered workers connected that do nothing but send heartbeats, and measures how late these are read. */
export const probeHeartbeats = async (address: string): Promise<HeartbeatProbe> => {
  const [hostname, port] = address.split(":")
  const delays = new Latencies()
  let lost = 0
  const start = async (index: number): Promise<void> => {
    const welcomed = Promise.withResolvers<void>()
    let sentMs = 0
    const cutter = new Cutter({
      frame: (bytes, from) => {
        const type = bytes[from + HEADER_OFFSET]
        if (type === Type.welcome) welcomed.resolve()
        else if (type === Type.pong) delays.record(performance.now() - sentMs)
      }
    })
    const socket = await Bun.connect({
      hostname: hostname!,
      port: Number(port),
      socket: {
        binaryType: "buffer",
        open: (socket) => {
          socket.setNoDelay(true)
          socket.write(helloFrame("worker", `bench-${index}`, index + 1))
        },
        data: (_, chunk) => cutter.push(chunk),
        close: () => {
          lost++
        }
      }
    })
    await welcomed.promise
    socket.write(registerFrame)
    const beat = Buffer.concat([heartbeatFrame, pingFrame])
    systemTimers.after(index * STAGGER_MS, () =>
      systemTimers.every(HEARTBEAT_MS, () => {
        sentMs = performance.now()
        socket.write(beat)
      })
    )
  }
  await Promise.all(Array.from({ length: WORKERS }, (_, i) => start(i)))
  return { delays, lost: () => lost }
}
