/** Shortest column: tables of a few rows never grow. */
const ROWS_MIN = 64

/**
 * A copy of `column` long enough to hold `slot`, made by `make` and filled from the start. Lengths are powers of two, so that a table
 * that grows row by row is copied O(log rows) times.
 */
export const grow = <Column extends { readonly length: number; readonly set: (from: Column) => void }>(
  column: Column,
  slot: number,
  make: (length: number) => Column
): Column => {
  const copy = make(Math.max(ROWS_MIN, 2 ** Math.ceil(Math.log2(slot + 1))))
  copy.set(column)
  return copy
}

/** A page of memory, and a line of the processor's caches, in bytes. */
const PAGE = 4096
const LINE = 64
/** Where in its page the last large column begins. */
let start = 0

/**
 * Memory for a column. A row of a table is looked at in all its columns at once, and what lies at one place of different pages competes
 * for the same few places in the first cache, where large columns would all begin: so each begins a line later than the one before it.
 */
const memory = (size: number): [ArrayBuffer, number] => {
  if (size < PAGE / 2) return [new ArrayBuffer(size), 0]
  start = (start + LINE) % PAGE
  return [new ArrayBuffer(start + size), start]
}

/** Columns of zeros. */
export const bytes = (length: number): Uint8Array<ArrayBuffer> => new Uint8Array(...memory(length), length)
export const words = (length: number): Uint32Array<ArrayBuffer> =>
  new Uint32Array(...memory(4 * length), length)
export const ints = (length: number): Int32Array<ArrayBuffer> => new Int32Array(...memory(4 * length), length)
export const floats = (length: number): Float64Array<ArrayBuffer> =>
  new Float64Array(...memory(8 * length), length)

/** A column of −1, for places that hold nothing. */
export const nones = (length: number): Int32Array<ArrayBuffer> => ints(length).fill(-1)
