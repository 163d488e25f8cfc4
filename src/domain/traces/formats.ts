import { recordIn } from "../../structures/record.ts"
import type { TraceHeader, TraceRequest } from "../Trace.ts"
import type { NumberedText } from "./lines.ts"
import { LOG_BLOCK, LOG_MARK, requestsIn } from "./serverLog.ts"
import type { TraceLine } from "./TraceLine.ts"

/** What a line says of one request. */
export interface TraceRow {
  readonly fields: Readonly<Record<string, unknown>>
  /** Which of several requests of the line it is, as it is to stand behind the name of a field. */
  readonly place?: string
}

/** The requests of a line, and its number; none when it is no line of the format. */
export interface NumberedRows {
  readonly number: number
  readonly rows: ReadonlyArray<TraceRow> | undefined
}

/** How the lines of a file are read. */
export interface TraceFormat {
  /** The requests of some lines, which may be told of by several each. */
  readonly rowsIn: (lines: Iterable<NumberedText>) => Iterable<NumberedRows>
  /** What a line must be. */
  readonly rule: string
  /** Reads the first line as a header. Where there is none, the header follows from the format, and says no name. */
  readonly readHeader: ((line: TraceLine) => TraceHeader) | undefined
  readonly header: TraceHeader
  /** Whether the first line is a request as any other. */
  readonly startsAtOnce: boolean
  /** A request, at the time that the file states. */
  readonly readRequest: (line: TraceLine, header: TraceHeader) => TraceRequest
  /** The field that holds the id of a request, in a format that has one. */
  readonly idField?: string
  /** The field that holds the time, and whether the first request is to begin at 0. */
  readonly timeField: string
  readonly isRelative: boolean
}

/** How the formats begin, to be read after "must be". */
export const FIRST_LINES =
  "an object with format (llm-trace/1), input_length (Mooncake) or input_lens (vllm bench serve), or the names of columns with TIMESTAMP, ContextTokens, GeneratedTokens (Azure) or Timestamp, Request tokens, Response tokens (BurstGPT), or a line of a log in which vllm serve tells of requests"

/**
 * The format of a file, by its first line that is not empty, and a log by what stands somewhere in it; undefined when it is none that is
 * known.
 */
export const formatOf = (first: string, text: string): TraceFormat | undefined => {
  const columns = first.split(",").map((column) => column.trim())
  const csv = (table: Table): TraceFormat | undefined =>
    table.columns.every((column) => columns.includes(column)) ? tableFormat(table, columns) : undefined
  const table = csv(azure) ?? csv(burstGpt)
  if (table !== undefined) return table
  const fields = recordIn(first) ?? {}
  if ("format" in fields) return llmTrace
  if ("input_length" in fields) return mooncake
  if ("request_throughput" in fields || "input_lens" in fields) return vllmBench
  return text.includes(LOG_MARK) ? vllmLog : undefined
}

/** Reads each line by itself. */
const each = (rowsOf: (text: string) => ReadonlyArray<TraceRow> | undefined): TraceFormat["rowsIn"] =>
  function* (lines) {
    for (const { number, text } of lines) yield { number, rows: rowsOf(text) }
  }

const jsonRow = (text: string): ReadonlyArray<TraceRow> | undefined => {
  const fields = recordIn(text)
  return fields && [{ fields }]
}

const unknown: TraceHeader = { name: "", kind: "", blockSize: null, partialTail: false }
const unlabelled = { session: undefined, tenant: undefined, model: undefined }

/** As the header of the project's own format names it. */
export const LLM_TRACE = "llm-trace/1"

/** What a header holds that is either taken over or follows from the requests. */
const headerFields = new Set([
  "format",
  "name",
  "kind",
  "blockSize",
  "partialTail",
  "requests",
  "durationMs",
  "fields"
])

const llmTrace: TraceFormat = {
  rowsIn: each(jsonRow),
  rule: "a JSON object",
  readHeader: (line) => {
    if (line.value("format") !== LLM_TRACE) {
      line.problem("format", `must be "${LLM_TRACE}"`)
      return unknown
    }
    const about = line.others(headerFields)
    return {
      name: line.label("name") ?? "",
      kind: line.label("kind") ?? "",
      blockSize: line.integerOrNull("blockSize", 1),
      partialTail: line.value("partialTail") === true,
      ...(about && { about })
    }
  },
  header: unknown,
  startsAtOnce: false,
  readRequest: (line, { blockSize }) => {
    const promptTokens = line.tokens("in")
    return {
      arrivalMs: line.integer("t", 0),
      promptTokens,
      outputTokens: line.tokens("out"),
      blocks: readBlocks(line, "blocks", promptTokens, blockSize),
      session: line.label("session"),
      turn: line.value("turn") === undefined ? undefined : line.integer("turn", 1),
      thinkMs: line.value("think") === undefined ? undefined : line.decimal("think", 0),
      tenant: line.label("tenant"),
      model: line.label("model")
    }
  },
  idField: "id",
  timeField: "t",
  isRelative: true
}

/** Tokens of a block in Mooncake's traces. */
export const MOONCAKE_BLOCK = 512

/** Source: kvcache-ai/Mooncake, FAST'25 trace release: ms, and blocks of 512 tokens, the last one partly filled. */
const mooncake: TraceFormat = {
  rowsIn: each(jsonRow),
  rule: "a JSON object",
  readHeader: undefined,
  header: { name: "", kind: "real", blockSize: MOONCAKE_BLOCK, partialTail: true },
  startsAtOnce: true,
  readRequest: (line, { blockSize }) => {
    const promptTokens = line.tokens("input_length")
    return {
      arrivalMs: line.decimal("timestamp", 0),
      promptTokens,
      outputTokens: line.tokens("output_length"),
      blocks: readBlocks(line, "hash_ids", promptTokens, blockSize),
      ...unlabelled
    }
  },
  timeField: "timestamp",
  isRelative: false
}

const benchColumns = ["start_times", "input_lens", "output_lens"] as const

/**
 * One object for all requests, with a list for each figure: seconds since some moment, in the order of the data set. A request that failed
 * has 0 output tokens. Source: vllm-project/vllm, vllm/benchmarks/serve.py, with --save-result and --save-detailed.
 */
const vllmBench: TraceFormat = {
  rowsIn: each((text) => {
    const fields = recordIn(text)
    const lists = benchColumns.map((name) => fields?.[name])
    const [starts] = lists
    if (
      !Array.isArray(starts) ||
      !lists.every((list) => Array.isArray(list) && list.length === starts.length)
    )
      return undefined
    const order = starts.map((start, i) => [typeof start === "number" ? start : 0, i] as const)
    return order
      .toSorted(([a], [b]) => a - b)
      .map(([, i]) => ({
        fields: {
          ...Object.fromEntries(
            benchColumns.map((name, column) => [name, (lists[column] as Array<unknown>)[i]])
          ),
          model_id: fields!["model_id"]
        },
        place: `[${i}]`
      }))
  }),
  rule: `an object with the lists ${benchColumns.join(", ")}, equally long, as vllm bench serve writes it with --save-detailed`,
  readHeader: undefined,
  header: { ...unknown, kind: "measured-engine-run" },
  startsAtOnce: true,
  readRequest: (line) => ({
    arrivalMs: 1000 * line.decimal("start_times", 0),
    promptTokens: line.tokens("input_lens"),
    outputTokens: line.tokens("output_lens"),
    blocks: [],
    ...unlabelled,
    model: line.label("model_id")
  }),
  timeField: "start_times",
  isRelative: false
}

/** Lines that together tell of its requests, among others that do not. */
const vllmLog: TraceFormat = {
  rowsIn: (lines) =>
    requestsIn(lines).map(({ blocks, number, outputTokens, promptTokens, time }) => ({
      number,
      rows: [{ fields: { time, prompt_token_ids: promptTokens, output_token_ids: outputTokens, blocks } }]
    })),
  rule: "a line of a log",
  readHeader: undefined,
  header: { name: "", kind: "real", blockSize: LOG_BLOCK, partialTail: false },
  startsAtOnce: true,
  readRequest: (line) => ({
    arrivalMs: line.moment("time"),
    promptTokens: loggedTokens(
      line,
      "prompt_token_ids",
      "--enable-log-requests and VLLM_LOGGING_LEVEL=DEBUG"
    ),
    outputTokens: loggedTokens(line, "output_token_ids", "--enable-log-outputs"),
    blocks: line.integers("blocks"),
    ...unlabelled
  }),
  timeField: "time",
  isRelative: false
}

const loggedTokens = (line: TraceLine, field: string, flags: string): number => {
  if (line.value(field) !== undefined) return line.tokens(field)
  line.problem(field, `must be in the log, where vllm serve writes it with ${flags}`)
  return Number.NaN
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
  rowsIn: each((text) => {
    const cells = text.split(",").map((cell) => cell.trim())
    return cells.length === columns.length
      ? [{ fields: Object.fromEntries(cells.map((cell, i) => [columns[i], valueOf(cell)])) }]
      : undefined
  }),
  rule: `${columns.length} values with commas between`,
  readHeader: undefined,
  header: { ...unknown, kind: "real" },
  startsAtOnce: false,
  readRequest: (line) => ({
    arrivalMs: timeMs(line, timeField),
    promptTokens: line.tokens(promptField),
    outputTokens: line.tokens(outputField),
    blocks: [],
    ...unlabelled,
    model: modelColumn === undefined ? undefined : line.label(modelColumn)
  }),
  timeField,
  isRelative: false
})

const valueOf = (cell: string): unknown =>
  cell !== "" && Number.isFinite(Number(cell)) ? Number(cell) : cell
