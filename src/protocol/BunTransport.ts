import type { Socket } from "bun"
import { messageOf } from "../structures/messageOf.ts"
import type { SocketEvents, Transport, TransportSocket } from "./Transport.ts"

interface Owner {
  events: SocketEvents | undefined
}

const handlers = (accept: (socket: TransportSocket) => SocketEvents) => ({
  binaryType: "buffer" as const,
  open: (socket: Socket<Owner>) => {
    socket.setNoDelay(true)
    // A listener's sockets share no data object: each gets its own here.
    socket.data = { events: undefined }
    socket.data.events = accept(socket)
  },
  data: (socket: Socket<Owner>, bytes: Buffer) => socket.data.events!.data(bytes),
  drain: (socket: Socket<Owner>) => socket.data.events!.drain(),
  end: (socket: Socket<Owner>) => socket.data.events!.ended(),
  // A socket that is refused at once closes without having been opened.
  close: (socket: Socket<Owner>) => socket.data?.events?.closed(),
  error: (socket: Socket<Owner>) => socket.terminate()
})

/** Bun's own TCP sockets: half-open, so that a peer's FIN leaves us the time to flush. */
export const bunTransport: Transport = {
  listen: (host, port, accept) => {
    const listener = Bun.listen<Owner>({
      hostname: host,
      port,
      allowHalfOpen: true,
      socket: handlers(accept)
    })
    return { host, port: listener.port, close: () => listener.stop() }
  },
  connect: (host, port, opened, failed) => {
    let told = false
    const fail = (error: unknown) => {
      if (told) return
      told = true
      failed(messageOf(error))
    }
    const socket = {
      ...handlers((s) => {
        told = true
        return opened(s)
      }),
      connectError: (_: Socket<Owner>, error: Error) => fail(error)
    }
    Bun.connect<Owner>({
      hostname: host,
      port,
      allowHalfOpen: true,
      socket,
      data: { events: undefined }
    }).then(() => undefined, fail)
  }
}
