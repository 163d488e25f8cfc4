import { assert } from "../structures/assert.ts"
import { DEPTH_MAX } from "./Scan.ts"

/** What one connection may ask of us. Every number is a bound that the reader or the writer enforces. */
export interface Limits {
  /** Largest frame before HELLO was accepted, and after, in bytes without the length prefix. */
  readonly greetingFrameBytes: number
  readonly frameBytes: number
  /** Deepest nesting and most values inside one frame, counted before anything is unpacked. */
  readonly depth: number
  readonly nodes: number
  /** A peer that has not said HELLO by then is cut off. */
  readonly greetingMs: number
  /** A frame that was begun must be complete by then. */
  readonly frameMs: number
  /** Silence after which we PING, and after which we give the peer up. */
  readonly pingMs: number
  readonly silenceMs: number
  /** Bytes we hold for a peer that does not read: above it the connection is cut off. */
  readonly outboxBytes: number
  /** How long a peer may leave bytes unread. */
  readonly unreadMs: number
  /** How long we wait for the peer's FIN after our GOODBYE. */
  readonly goodbyeMs: number
}

export const defaultLimits: Limits = {
  greetingFrameBytes: 4 * 1024,
  frameBytes: 1024 * 1024,
  depth: 16,
  nodes: 65_536,
  greetingMs: 2_000,
  frameMs: 10_000,
  pingMs: 10_000,
  silenceMs: 30_000,
  outboxBytes: 8 * 1024 * 1024,
  unreadMs: 30_000,
  goodbyeMs: 5_000
}

assert(defaultLimits.greetingFrameBytes < defaultLimits.frameBytes, "a greeting is smaller than a frame")
assert(defaultLimits.frameBytes < defaultLimits.outboxBytes, "an outbox holds at least one frame")
assert(defaultLimits.pingMs < defaultLimits.silenceMs, "a silent peer is pinged before it is given up")
assert(defaultLimits.depth <= DEPTH_MAX, "the scan can count that deep")

/** Tokens of a stream that may be under way before the reader grants more: part of the protocol, the same on both sides. */
export const FIRST_CREDIT = 256
