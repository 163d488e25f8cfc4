import type { TraceHeader, TraceRequest } from "../Trace.ts"
import type { TraceLine } from "./TraceLine.ts"

/** How the lines of a file are read. */
export interface TraceFormat {
  /** The fields of a line; undefined when it is no line of this format. */
  readonly fieldsOf: (line: string) => Readonly<Record<string, unknown>> | undefined
  /** What a line must be. */
  readonly rule: string
  /** Reads the first line as a header. Where there is none, the header follows from the format, and says no name. */
  readonly readHeader: ((line: TraceLine) => TraceHeader) | undefined
  readonly header: TraceHeader
  /** Whether the first line is a request as any other. */
  readonly startsAtOnce: boolean
  /** A request, at the time that the file states. */
  readonly readRequest: (line: TraceLine, header: TraceHeader) => TraceRequest
  /** The field that holds the time, and whether the first request is to begin at 0. */
  readonly timeField: string
  readonly isRelative: boolean
}

/** The format of a file, by its first line that is not empty: llm-trace/1 unless that says otherwise. */
export const formatOf = (first: string): TraceFormat => {
  const columns = first.split(",").map((column) => column.trim())
  const csv = (table: Table): TraceFormat | undefined =>
    table.columns.every((column) => columns.includes(column)) ? tableFormat(table, columns) : undefined
  const fields = jsonFields(first)
  const isMooncake = fields !== undefined && "input_length" in fields && !("format" in fields)
  return csv(azure) ?? csv(burstGpt) ?? (isMooncake ? mooncake : llmTrace)
}

const jsonFields = (text: string): Readonly<Record<string, unknown>> | undefined => {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return { ...value }
  } catch {
    // As any other line that is no object.
  }
  return undefined
}

const unknown: TraceHeader = { name: "", kind: "", blockSize: null, partialTail: false }
const unlabelled = { session: undefined, tenant: undefined, model: undefined }

const FORMAT = "llm-trace/1"

const llmTrace: TraceFormat = {
  fieldsOf: jsonFields,
  rule: "a JSON object",
  readHeader: (line) => {
    if (line.value("format") !== FORMAT) line.problem("format", `must be "${FORMAT}"`)
    const blockSize = line.value("blockSize") === null ? null : line.integer("blockSize", 1)
    return {
      name: line.label("name") ?? "",
      kind: line.label("kind") ?? "",
      blockSize,
      partialTail: line.value("partialTail") === true
    }
  },
  header: unknown,
  startsAtOnce: false,
  readRequest: (line, { blockSize }) => {
    const promptTokens = line.integer("in", 1)
    return {
      arrivalMs: line.integer("t", 0),
      promptTokens,
      outputTokens: line.integer("out", 1),
      blocks: readBlocks(line, "blocks", promptTokens, blockSize),
      session: line.label("session"),
      tenant: line.label("tenant"),
      model: line.label("model")
    }
  },
  timeField: "t",
  isRelative: true
}

/** Source: kvcache-ai/Mooncake, FAST'25 trace release: ms, and blocks of 512 tokens, the last one partly filled. */
const mooncake: TraceFormat = {
  fieldsOf: jsonFields,
  rule: "a JSON object",
  readHeader: undefined,
  header: { name: "", kind: "real", blockSize: 512, partialTail: true },
  startsAtOnce: true,
  readRequest: (line, { blockSize }) => {
    const promptTokens = line.integer("input_length", 1)
    return {
      arrivalMs: line.decimal("timestamp", 0),
      promptTokens,
      outputTokens: line.integer("output_length", 1),
      blocks: readBlocks(line, "hash_ids", promptTokens, blockSize),
      ...unlabelled
    }
  },
  timeField: "timestamp",
  isRelative: false
}

const readBlocks = (
  line: TraceLine,
  field: string,
  promptTokens: number,
  blockSize: number | null
): ReadonlyArray<number> => {
  if (blockSize === null) return []
  const blocks = line.integers(field)
  if (blocks.length > Math.ceil(promptTokens / blockSize))
    line.problem(field, `must not be more than ${promptTokens} prompt tokens fill`)
  return blocks
}

/** A file of comma-separated values with the names of its columns in the first line. */
interface Table {
  /** Time, prompt tokens and output tokens; others are ignored. */
  readonly columns: readonly [time: string, promptTokens: string, outputTokens: string]
  readonly timeMs: (line: TraceLine, field: string) => number
  readonly modelColumn?: string
}

/** Source: Azure/AzurePublicDataset, LLM inference traces of 2023 and 2024. */
const azure: Table = {
  columns: ["TIMESTAMP", "ContextTokens", "GeneratedTokens"],
  timeMs: (line, field) => line.moment(field)
}

/** Source: HPMLL/BurstGPT: seconds. */
const burstGpt: Table = {
  columns: ["Timestamp", "Request tokens", "Response tokens"],
  timeMs: (line, field) => 1000 * line.decimal(field, 0),
  modelColumn: "Model"
}

const tableFormat = (
  { columns: [timeField, promptField, outputField], modelColumn, timeMs }: Table,
  columns: ReadonlyArray<string>
): TraceFormat => ({
  // None of them has quotes.
  fieldsOf: (text) => {
    const cells = text.split(",").map((cell) => cell.trim())
    return cells.length === columns.length
      ? Object.fromEntries(cells.map((cell, i) => [columns[i], valueOf(cell)]))
      : undefined
  },
  rule: `${columns.length} values with commas between`,
  readHeader: undefined,
  header: { ...unknown, kind: "real" },
  startsAtOnce: false,
  readRequest: (line) => ({
    arrivalMs: timeMs(line, timeField),
    promptTokens: line.integer(promptField, 1),
    outputTokens: line.integer(outputField, 1),
    blocks: [],
    ...unlabelled,
    model: modelColumn === undefined ? undefined : line.label(modelColumn)
  }),
  timeField,
  isRelative: false
})

const valueOf = (cell: string): unknown =>
  cell !== "" && Number.isFinite(Number(cell)) ? Number(cell) : cell
