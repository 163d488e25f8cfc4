import { counted } from "../structures/counted.ts"

/** So many models are named, and so much of each name is shown. The whole then fits in the message of a failure, quoted as it may be. */
const NAMED_MAX = 5
const SHOWN_MAX = 64

/** Why a request is refused whose model is not among those that are served: which was asked for, and what to ask for instead. */
export const notServed = (asked: string, served: ReadonlyArray<string>): string => {
  const named = served.slice(0, NAMED_MAX).map(shown).join(", ")
  const others = served.length > NAMED_MAX ? ` and ${counted(served.length - NAMED_MAX, "other")}` : ""
  return `model: ${shown(asked)} is not served here, only ${named}${others}`
}

const shown = (name: string): string =>
  JSON.stringify(name.length > SHOWN_MAX ? `${name.slice(0, SHOWN_MAX)}…` : name)
