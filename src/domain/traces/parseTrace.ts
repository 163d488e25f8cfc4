import type { Trace, TraceRequest } from "../Trace.ts"
import { FIRST_LINES, formatOf, type NumberedRows } from "./formats.ts"
import { linesOf } from "./lines.ts"
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
  const first = linesOf(text).next().value
  if (first === undefined) return ["1: there is nothing to read"]
  const format = formatOf(first.text, text)
  const lines = format?.rowsIn(linesOf(text))[Symbol.iterator]()
  let next = lines?.next()
  if (format === undefined || lines === undefined || next === undefined || next.done === true)
    return [`${first.number}: must be ${FIRST_LINES}`]
  const read = ({ number, rows }: NumberedRows): ReadonlyArray<TraceLine> | undefined =>
    rows?.map(({ fields, place }) => new TraceLine(fields, number, problems, place))

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
