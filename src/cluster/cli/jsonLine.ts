import { rounding } from "../../structures/rounding.ts"

/** A value as one line of JSON, its numbers rounded. */
export const jsonLine = (value: unknown): string => `${JSON.stringify(value, rounding)}\n`
