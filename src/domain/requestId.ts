/** Whether a text is the id of a request as people are told it: 16 hexadecimal digits. */
export const isRequestId = (text: string): boolean => /^[\da-f]{16}$/i.test(text)

/** The id of this number, from 0 to 2^64 - 1. */
export const requestIdOf = (id: bigint): string => id.toString(16).padStart(16, "0")
