/** A number of 64 bits, given by its halves, as 16 hexadecimal digits. */
export const hex64 = (high: number, low: number): string => hex32(high) + hex32(low)

const hex32 = (half: number): string => half.toString(16).padStart(8, "0")
