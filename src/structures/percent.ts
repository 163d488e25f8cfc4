/** A share from 0 to 1 in percent, without the sign. */
export const percent = (share: number): string => (100 * share).toFixed(1)
