/** What the first line of a trace says. */
export interface TraceHeader {
  readonly name: string
  /** How much of a request is measured: `real`, `synthetic-by-authors` … */
  readonly kind: string
  /** Tokens per prefix block; null when the trace has no blocks. */
  readonly blockSize: number | null
  /** Whether the last block of a prompt may be partly filled. */
  readonly partialTail: boolean
  /** What else the first line says: where the trace comes from, its licence, notes. */
  readonly about?: Readonly<Record<string, unknown>>
}

/** One recorded request. Labels are opaque. */
export interface TraceRequest {
  /** From the start of the trace. */
  readonly arrivalMs: number
  readonly promptTokens: number
  readonly outputTokens: number
  /** Prefix block ids, first block first: an equal id means equal content and equal everything before it. Empty without blocks. */
  readonly blocks: ReadonlyArray<number>
  readonly session: string | undefined
  /** Its number in the session, from 1 on. */
  readonly turn?: number | undefined
  /** How long its client waited after the previous answer of the session. */
  readonly thinkMs?: number | undefined
  readonly tenant: string | undefined
  readonly model: string | undefined
}

export interface Trace {
  readonly header: TraceHeader
  /** In order of arrival. */
  readonly requests: ReadonlyArray<TraceRequest>
  /** By number of the request: what its client was told as its id, 0 where that is not known. Left out where it is of none. */
  readonly ids?: BigUint64Array
}

/** Longest prompt or answer, in tokens: what the header of a REQUEST can state. */
export const TOKENS_MAX = 0xffff_ffff

/** A client states a limit, not the length it is going to get: the length rounded up to a power of two. */
export const limitOf = ({ outputTokens }: TraceRequest): number =>
  Math.min(TOKENS_MAX, 2 ** Math.ceil(Math.log2(outputTokens)))
