/** What the first line of a trace says. */
export interface TraceHeader {
  readonly name: string
  /** How much of a request is measured: `real`, `synthetic-by-authors` … */
  readonly kind: string
  /** Tokens per prefix block; null when the trace has no blocks. */
  readonly blockSize: number | null
  /** Whether the last block of a prompt may be partly filled. */
  readonly partialTail: boolean
}

/** One recorded request. Labels are opaque. */
export interface TraceRequest {
  /** From the start of the trace. */
  readonly arrivalMs: number
  readonly promptTokens: number
  readonly outputTokens: number
  /** Prefix block ids, first block first: an equal id means equal content and equal everything before it. Empty without blocks. */
  readonly blocks: ReadonlyArray<number>
  readonly session: string | undefined
  readonly tenant: string | undefined
  readonly model: string | undefined
}

export interface Trace {
  readonly header: TraceHeader
  /** In order of arrival. */
  readonly requests: ReadonlyArray<TraceRequest>
}

/** A client states a limit, not the length it is going to get: the length rounded up to a power of two. */
export const limitOf = ({ outputTokens }: TraceRequest): number => 2 ** Math.ceil(Math.log2(outputTokens))

/** Problems reported at once; a file with more is hardly a trace. */
const PROBLEMS_MAX = 5
const FORMAT = "llm-trace/1"

/**
 * Reads the text of a trace in the format llm-trace/1, at most its first `limit` requests. Gives the trace, or what is wrong with the
 * text, as `line:field: rule`, the five first ones. Fields it does not know are ignored. Cost: one pass.
 */
export const parseTrace = (text: string, limit: number): Trace | ReadonlyArray<string> => {
  const problems: Array<string> = []
  let number = 0
  let at = 0
  const next = (): Line | undefined => {
    while (at < text.length && problems.length < PROBLEMS_MAX) {
      const end = text.indexOf("\n", at)
      const line = text.slice(at, end === -1 ? text.length : end)
      at = end === -1 ? text.length : end + 1
      number++
      if (line.trim() !== "") return new Line(line, number, problems)
    }
    return undefined
  }

  const first = next()
  if (first === undefined) return ["1: the file is empty"]
  const header = readHeader(first)
  if (problems.length > 0) return problems
  const requests: Array<TraceRequest> = []
  let lastMs = 0
  while (requests.length < limit) {
    const line = next()
    if (line === undefined) break
    const request = readRequest(line, header.blockSize)
    if (request.arrivalMs < lastMs) line.problem("t", "must not be before the line above it")
    lastMs = request.arrivalMs
    requests.push(request)
  }
  return problems.length === 0 ? { header, requests } : problems
}

const readHeader = (line: Line): TraceHeader => {
  if (line.value("format") !== FORMAT) line.problem("format", `must be "${FORMAT}"`)
  const blockSize = line.value("blockSize") === null ? null : line.integer("blockSize", 1)
  return {
    name: line.label("name") ?? "",
    kind: line.label("kind") ?? "",
    blockSize,
    partialTail: line.value("partialTail") === true
  }
}

const readRequest = (line: Line, blockSize: number | null): TraceRequest => {
  const promptTokens = line.integer("in", 1)
  const blocks = blockSize === null ? [] : line.integers("blocks")
  if (blockSize !== null && blocks.length > Math.ceil(promptTokens / blockSize))
    line.problem("blocks", `must not be more than ${promptTokens} prompt tokens fill`)
  return {
    arrivalMs: line.integer("t", 0),
    promptTokens,
    outputTokens: line.integer("out", 1),
    blocks,
    session: line.label("session"),
    tenant: line.label("tenant"),
    model: line.label("model")
  }
}

/** One line of the file. Its readers note a problem and give a stand-in for a field that breaks its rule. */
class Line {
  private readonly fields: Readonly<Record<string, unknown>>
  private readonly number: number
  private readonly problems: Array<string>

  constructor(text: string, number: number, problems: Array<string>) {
    this.number = number
    this.problems = problems
    this.fields = this.parse(text)
  }

  problem(field: string, rule: string): void {
    if (this.problems.length < PROBLEMS_MAX) this.problems.push(`${this.number}:${field}: ${rule}`)
  }

  value(field: string): unknown {
    return this.fields[field]
  }

  integer(field: string, minimum: number): number {
    const value = this.fields[field]
    if (isCount(value) && value >= minimum) return value
    this.problem(field, `must be a whole number of at least ${minimum}`)
    return minimum
  }

  integers(field: string): ReadonlyArray<number> {
    const value = this.fields[field]
    if (value === undefined) return []
    if (Array.isArray(value) && value.every(isCount)) return value
    this.problem(field, "must be a list of whole numbers")
    return []
  }

  label(field: string): string | undefined {
    const value = this.fields[field]
    if (value === undefined) return undefined
    if (typeof value === "string" && /^[\x21-\x7e]{1,128}$/.test(value)) return value
    this.problem(field, "must be 1 to 128 visible characters")
    return undefined
  }

  private parse(text: string): Readonly<Record<string, unknown>> {
    try {
      const value: unknown = JSON.parse(text)
      if (isObject(value)) return value
    } catch {
      // Said below, like any other line that is no object.
    }
    this.problems.push(`${this.number}: must be a JSON object`)
    return {}
  }
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)
