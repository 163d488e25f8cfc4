/**
 * Sends all of it, in segments of `sizeOf()` bytes, and FIN; reads to the end, and keeps nothing. Over when the socket is closed, by
 * whomever.
 */
export const visit = async (
  port: number,
  bytes: Uint8Array,
  sizeOf: () => number = () => bytes.length
): Promise<void> => {
  const { promise, resolve } = Promise.withResolvers<void>()
  let at = 0
  const write = (socket: Bun.Socket): void => {
    while (at < bytes.length) {
      const size = Math.min(bytes.length - at, sizeOf())
      const taken = socket.write(bytes, at, size)
      if (taken < 0) return
      at += taken
      if (taken < size) return
    }
    socket.shutdown()
  }
  await Bun.connect({
    hostname: "127.0.0.1",
    port,
    allowHalfOpen: true,
    socket: {
      open: write,
      drain: write,
      data: () => undefined,
      close: () => resolve(),
      error: () => undefined
    }
  })
  return promise
}
