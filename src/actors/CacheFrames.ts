import type { CacheSink, CacheWatch, Engine } from "../engines/Engine.ts"
import { encodeFrame } from "../protocol/Codec.ts"
import type { Connection } from "../protocol/Connection.ts"
import { Flag, Type } from "../protocol/Header.ts"
import type { Task, Turn } from "../protocol/Turn.ts"

const HASH_BYTES = 8
/** Fits into the smallest frame limit that can be configured, 4096 bytes. */
const CHAIN_BYTES_MAX = 500 * HASH_BYTES

/**
 * A worker's news of its prefix cache, as KV frames. What is told in one turn shares a frame where it can.
 *
 * When the balancer leaves half of what the outbox may hold unread, frames are left out, and their numbers with them. The next beat for
 * which there is room again says everything anew; so does one after the balancer asked for it, and the first.
 */
export class CacheFrames implements CacheSink, Task {
  private readonly connection: Connection
  private readonly turn: Turn
  private readonly watch: CacheWatch | undefined
  private sequence = 0
  /** Whether the balancer lacks something: it gets nothing until everything can be said. */
  private behind = true
  /** The frame that is being filled. It is empty while `length` is 0. */
  private type = 0
  private model = 0
  private length = 0
  private readonly chain = new Uint8Array(CHAIN_BYTES_MAX)
  /** Whether this turn will end it. */
  private asked = false

  constructor(connection: Connection, turn: Turn, engine: Engine) {
    this.connection = connection
    this.turn = turn
    this.watch = engine.watchCache?.(this)
  }

  /** The balancer asks for everything. */
  sync(): void {
    this.behind = true
  }

  /** To be called a few times a second. */
  beat(): void {
    if (this.watch === undefined || !this.behind || this.connection.outbox.isHalfFull) return
    // What waits is part of what is told now.
    this.length = 0
    this.behind = false
    const fields = { flags: Flag.everything, b: this.nextSequence() }
    this.connection.send(encodeFrame(Type.kvRemoved, fields))
    this.watch.tellAll()
  }

  stop(): void {
    this.watch?.stop()
  }

  readonly stored = (model: number, chain: Uint8Array): void => {
    const goesOn =
      this.length > 0 && this.type === Type.kvStored && this.model === model && this.endsIn(chain)
    for (let at = HASH_BYTES; at < chain.length; at += HASH_BYTES) {
      if ((at === HASH_BYTES && !goesOn) || this.length === CHAIN_BYTES_MAX) {
        this.begin(Type.kvStored, model)
        this.add(chain, at - HASH_BYTES)
      }
      this.add(chain, at)
    }
  }

  readonly removed = (model: number, hashes: Uint8Array): void => {
    for (let at = 0; at < hashes.length; at += HASH_BYTES) {
      const goesOn = this.length > 0 && this.type === Type.kvRemoved && this.model === model
      if (!goesOn || this.length === CHAIN_BYTES_MAX) this.begin(Type.kvRemoved, model)
      this.add(hashes, at)
    }
  }

  /** The end of a turn. */
  readonly run = (): void => {
    this.asked = false
    this.end()
  }

  private begin(type: number, model: number): void {
    this.end()
    this.type = type
    this.model = model
    if (this.asked) return
    this.asked = true
    this.turn.soon(this)
  }

  private end(): void {
    if (this.length === 0) return
    const fields = { a: this.model, b: this.nextSequence() }
    const chain = this.chain.subarray(0, this.length)
    this.length = 0
    this.behind ||= this.connection.outbox.isHalfFull
    if (!this.behind) this.connection.send(encodeFrame(this.type, fields, { chain }))
  }

  private nextSequence(): number {
    const { sequence } = this
    this.sequence = (sequence + 1) >>> 0
    return sequence
  }

  private add(hashes: Uint8Array, at: number): void {
    for (let i = 0; i < HASH_BYTES; i++) this.chain[this.length++] = hashes[at + i]!
  }

  /** Whether the last block of the frame is the first of `chain`. */
  private endsIn(chain: Uint8Array): boolean {
    const end = this.length - HASH_BYTES
    for (let i = 0; i < HASH_BYTES; i++) if (this.chain[end + i] !== chain[i]) return false
    return true
  }
}
