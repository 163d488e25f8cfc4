/** A line of a text. */
export interface NumberedText {
  readonly text: string
  /** From 1 on. */
  readonly number: number
}

/** The lines of a text that are not empty. */
export function* linesOf(text: string): Generator<NumberedText, undefined> {
  for (let at = 0, number = 1; at < text.length; number++) {
    const end = text.indexOf("\n", at)
    const line = text.slice(at, end === -1 ? text.length : end).trim()
    at = end === -1 ? text.length : end + 1
    if (line !== "") yield { text: line, number }
  }
}
