const words =
  " a be can do each fast go has in just keep long may new of part quick run so take up very was you zero and both call day ever far get how if join kind low made next one pace queue rest share time use view well yet all batch cache done edge flow gain hold idea jump known load more node open place route step".split(
    /(?= )/u
  )

/**
 * The text of token `index` of a simulated answer: a short word with a space before it (none before the first), the same for the same
 * request and index on every machine. Cost: a multiplication and a table look-up.
 */
export const tokenText = (seed: number, index: number): string => {
  const mixed = Math.imul(seed ^ Math.imul(index + 1, 0x9e3779b9), 0x85ebca6b) >>> 16
  const word = words[mixed % words.length]!
  return index === 0 ? word.slice(1) : word
}
