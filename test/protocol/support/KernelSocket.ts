import type { TransportSocket } from "../../../src/protocol/Transport.ts"

/**
 * A socket whose kernel takes as many bytes as it has room for, keeps nothing of the rest, and never calls back by itself. What it took
 * is in `received`; what else was asked of it, in order, in `acts`.
 */
export class KernelSocket implements TransportSocket {
  readonly remoteAddress = "192.0.2.1"
  readonly acts: Array<"shutdown" | "terminate" | "pause" | "resume"> = []
  /** Bytes the kernel takes before it refuses. */
  room = Infinity
  private readonly chunks: Array<Buffer> = []

  get received(): Buffer {
    return Buffer.concat(this.chunks)
  }

  /** What was taken since the last call. */
  takeReceived(): Buffer {
    const all = this.received
    this.chunks.length = 0
    return all
  }

  write(bytes: Uint8Array, from: number, length: number): number {
    if (this.acts.includes("shutdown") || this.acts.includes("terminate")) return -1
    const taken = Math.min(this.room, length)
    this.room -= taken
    if (taken > 0) this.chunks.push(Buffer.from(bytes.subarray(from, from + taken)))
    return taken
  }

  shutdown(): void {
    this.acts.push("shutdown")
  }

  terminate(): void {
    this.acts.push("terminate")
  }

  pause(): void {
    this.acts.push("pause")
  }

  resume(): void {
    this.acts.push("resume")
  }
}
