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

/** Columns of zeros. */
export const bytes = (length: number): Uint8Array<ArrayBuffer> => new Uint8Array(length)
export const words = (length: number): Uint32Array<ArrayBuffer> => new Uint32Array(length)
export const ints = (length: number): Int32Array<ArrayBuffer> => new Int32Array(length)
export const floats = (length: number): Float64Array<ArrayBuffer> => new Float64Array(length)

/** A column of −1, for places that hold nothing. */
export const nones = (length: number): Int32Array<ArrayBuffer> => new Int32Array(length).fill(-1)
