import { assert } from "../structures/assert.ts"
import { DEPTH_MAX, NODES_MAX } from "./Scan.ts"

/** What one connection may ask of us. Every number is a bound that the reader or the writer enforces. */
export interface Limits {
  /** Largest frame before HELLO was accepted, and after, in bytes without the length prefix. */
  readonly greetingFrameBytes: number
  readonly frameBytes: number
  /** Deepest nesting and most values inside one frame, counted before anything is unpacked. */
  readonly depth: number
  readonly nodes: number
  /** Values that who dialled us may have us scan, a second; a second's worth may come at once. */
  readonly nodesPerSecond: number
  /** A peer that has not said HELLO by then is cut off. */
  readonly greetingMs: number
  /** Connections of one address that have not said HELLO: above it, those that have been silent for `strangerMs` are cut off. */
  readonly strangers: number
  readonly strangerMs: number
  /** A frame that was begun must be complete by then. */
  readonly frameMs: number
  /** Silence after which we PING, and after which we give the peer up. */
  readonly pingMs: number
  readonly silenceMs: number
  /** Bytes we hold for a peer that does not read: above it the connection is cut off. */
  readonly outboxBytes: number
  /** How long a peer may leave bytes unread. */
  readonly unreadMs: number
  /** How long a client may leave more than so many bytes unread. */
  readonly behindBytes: number
  readonly behindMs: number
  /** How long we wait for the peer's FIN after our GOODBYE. */
  readonly goodbyeMs: number
}

/** What bounds a scan of one value. */
export type ScanLimits = Pick<Limits, "depth" | "nodes">

/** Of a HELLO, which comes from a stranger and has six fields. */
export const helloLimits: ScanLimits = { depth: 4, nodes: 64 }

/** Of the answer to an operator, who dialled: a snapshot of 1,024 workers, with one model and two reasons each, has 65,590 values. */
export const replyLimits: ScanLimits = { depth: 16, nodes: NODES_MAX }

export const defaultLimits: Limits = {
  greetingFrameBytes: 4 * 1024,
  frameBytes: 1024 * 1024,
  depth: 16,
  nodes: 65_536,
  nodesPerSecond: 2_000_000,
  greetingMs: 2_000,
  strangers: 64,
  strangerMs: 1_000,
  frameMs: 10_000,
  pingMs: 10_000,
  silenceMs: 30_000,
  outboxBytes: 8 * 1024 * 1024,
  unreadMs: 30_000,
  behindBytes: 256 * 1024,
  behindMs: 1_000,
  goodbyeMs: 5_000
}

assert(defaultLimits.greetingFrameBytes < defaultLimits.frameBytes, "a greeting is smaller than a frame")
assert(
  defaultLimits.strangerMs < defaultLimits.greetingMs,
  "strangers may be cut off before their time is over"
)
assert(defaultLimits.frameBytes < defaultLimits.outboxBytes, "an outbox holds at least one frame")
assert(
  defaultLimits.behindBytes < defaultLimits.outboxBytes,
  "a client may be behind before its outbox is full"
)
assert(defaultLimits.pingMs < defaultLimits.silenceMs, "a silent peer is pinged before it is given up")
assert(defaultLimits.depth <= DEPTH_MAX, "the scan can count that deep")
assert(defaultLimits.nodes <= NODES_MAX, "the scan can count that many")

/**
 * What of a stream may be under way before the reader grants more: so many tokens, and so many bytes of TOKEN frames, counted whole. Part
 * of the protocol, the same on both sides.
 */
export const FIRST_CREDIT = 256
export const FIRST_CREDIT_BYTES = 64 * 1024

/**
 * Whether a TOKEN frame of `frameBytes` may be sent after `sentBytes` of them, with a credit of `upToBytes`: it stays within the credit,
 * or at least half of the first credit is left. So one that is larger gets through as well, since who has read everything has granted
 * that much; and no more is ever under way than the first credit, or half of it and one larger frame.
 */
export const mayFollow = (sentBytes: number, frameBytes: number, upToBytes: number): boolean =>
  sentBytes + frameBytes <= upToBytes || upToBytes - sentBytes >= FIRST_CREDIT_BYTES / 2
