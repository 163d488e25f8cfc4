import type { Trace, TraceRequest } from "../Trace.ts"
import { FIRST_LINES, formatOf } from "./formats.ts"
import { RequestIds } from "./RequestIds.ts"
import { PROBLEMS_MAX, TraceLine } from "./TraceLine.ts"

export interface ParseOptions {
  /** Requests to read at most, from the start. */
  readonly limit?: number
  /** What the trace is called where it does not say. */
  readonly name?: string
  /** Whether lines that break a rule are left out and counted, rather than held against the whole file. */
  readonly skipBad?: boolean
}

export interface ParsedTrace {
  readonly trace: Trace
  /** Lines that were left out. */
  readonly skipped: number
}

/**
 * Reads the text of a trace in any format of `formatOf`, as its first line tells. Gives the trace, or what is wrong with the text, as
 * `line:field: rule`, one for a line that is none of its format, the five first ones. Fields it does not know are ignored. Cost: one pass.
 */
export const parseTrace = (
  text: string,
  { limit = Number.POSITIVE_INFINITY, name = "", skipBad = false }: ParseOptions = {}
): ParsedTrace | ReadonlyArray<string> => {
  const problems: Array<string> = []
  const lines = linesOf(text)
  let next = lines.next()
  if (next.done === true) return ["1: the file is empty"]
  const format = formatOf(next.value.text)
  if (format === undefined) return [`${next.value.number}: must be ${FIRST_LINES}`]
  const read = ({ number, text }: NumberedText): ReadonlyArray<TraceLine> | undefined =>
    format.rowsOf(text)?.map(({ fields, place }) => new TraceLine(fields, number, problems, place))

  const header = format.readHeader?.(read(next.value)![0]!) ?? { ...format.header, name }
  if (problems.length > 0) return problems
  if (!format.startsAtOnce) next = lines.next()
  const requests: Array<TraceRequest> = []
  const ids = new RequestIds()
  let skipped = 0
  let startMs = format.isRelative ? 0 : Number.NaN
  let lastMs = Number.NEGATIVE_INFINITY
  const goesOn = (): boolean => requests.length < limit && problems.length < PROBLEMS_MAX
  for (; next.done !== true && goesOn(); next = lines.next()) {
    const rows = read(next.value)
    if (rows === undefined) {
      if (skipBad) skipped++
      else problems.push(`${next.value.number}: must be ${format.rule}`)
      continue
    }
    for (const line of rows) {
      if (!goesOn()) break
      const before = problems.length
      const request = format.readRequest(line, header)
      const id = format.idField === undefined ? 0n : line.id(format.idField)
      if (request.arrivalMs < lastMs) line.problem(format.timeField, "must not be before the line above it")
      if (problems.length > before) {
        if (skipBad) {
          problems.length = before
          skipped++
        }
        continue
      }
      lastMs = request.arrivalMs
      if (Number.isNaN(startMs)) startMs = lastMs
      ids.set(requests.length, id)
      requests.push({ ...request, arrivalMs: lastMs - startMs })
    }
  }
  if (problems.length > 0) return problems
  const known = ids.upTo(requests.length)
  return { trace: { header, requests, ...(known && { ids: known }) }, skipped }
}

interface NumberedText {
  readonly text: string
  /** From 1 on. */
  readonly number: number
}

/** The lines of a text that are not empty. */
function* linesOf(text: string): Generator<NumberedText, undefined> {
  for (let at = 0, number = 1; at < text.length; number++) {
    const end = text.indexOf("\n", at)
    const line = text.slice(at, end === -1 ? text.length : end).trim()
    at = end === -1 ? text.length : end + 1
    if (line !== "") yield { text: line, number }
  }
}
