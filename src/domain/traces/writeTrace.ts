import { requestIdOf } from "../requestId.ts"
import type { Trace, TraceRequest } from "../Trace.ts"
import { LLM_TRACE, MOONCAKE_BLOCK } from "./formats.ts"

/** How a trace is written. What is read of it has the same requests, but for what `losses` says of them in words. */
export interface TraceWriter {
  readonly lines: (trace: Trace) => ReadonlyArray<string>
  readonly losses: (trace: Trace) => ReadonlyArray<string>
}

const llmTrace: TraceWriter = {
  lines: ({ header, ids, requests }) => {
    const { about, blockSize, kind, name, partialTail } = header
    const lines = requests.map((request, number) => {
      const { arrivalMs, blocks, model, outputTokens, promptTokens, session, tenant, thinkMs, turn } = request
      return {
        t: Math.floor(arrivalMs),
        id: ids?.[number] ? requestIdOf(ids[number]) : undefined,
        in: promptTokens,
        out: outputTokens,
        blocks: blockSize === null || blocks.length === 0 ? undefined : blocks,
        session,
        turn,
        think: thinkMs,
        tenant,
        model
      }
    })
    const fields = Object.keys(lines[0] ?? {}) as ReadonlyArray<keyof (typeof lines)[number]>
    const first = {
      format: LLM_TRACE,
      // A label, as every name that is read of a trace.
      name: labelOf(name),
      kind: labelOf(kind),
      ...about,
      blockSize,
      partialTail,
      requests: lines.length,
      durationMs: lines.at(-1)?.t ?? 0,
      fields: fields.filter((field) => lines.some((line) => line[field] !== undefined))
    }
    return [first, ...lines].map((line) => JSON.stringify(line))
  },
  losses: ({ requests }) =>
    requests.every(({ arrivalMs }) => Number.isInteger(arrivalMs))
      ? []
      : ["arrival times are rounded down to whole milliseconds"]
}

/** Nothing for no name. */
const labelOf = (name: string): string | undefined =>
  name === "" ? undefined : name.replaceAll(/[^\x21-\x7e]/g, "_").slice(0, 128)

/** What Mooncake's lines have no place for, and its name. */
const displaced = [
  ["session", "session"],
  ["turn", "turn"],
  ["thinkMs", "think time"],
  ["tenant", "tenant"],
  ["model", "model"]
] as const

const mooncake: TraceWriter = {
  // Its own files begin at 0.
  lines: ({ header, requests }) =>
    requests.map((request) =>
      JSON.stringify({
        timestamp: request.arrivalMs - requests[0]!.arrivalMs,
        input_length: request.promptTokens,
        output_length: request.outputTokens,
        hash_ids: inBlocksOf(MOONCAKE_BLOCK, header.blockSize, request)
      })
    ),
  losses: ({ header: { about, blockSize, name }, ids, requests }) => {
    const missing = displaced.filter(([field]) => requests.some((request) => request[field] !== undefined))
    const blocks =
      blockSize === null ||
      blockSize === MOONCAKE_BLOCK ||
      !requests.some((request) => request.blocks.length > 0)
        ? []
        : canBeIn(MOONCAKE_BLOCK, blockSize)
          ? [
              `blocks of ${blockSize} tokens are regrouped into ${MOONCAKE_BLOCK}; what ends within one is not shared`
            ]
          : [`blocks of ${blockSize} tokens are left out: they cannot be regrouped into ${MOONCAKE_BLOCK}`]
    return [
      ...(name === "" && about === undefined
        ? []
        : ["there is no place for name, source, licence and notes"]),
      ...(ids === undefined ? [] : ["there is no place for the id of a request"]),
      ...missing.map(([, name]) => `there is no place for the ${name} of a request`),
      ...blocks
    ]
  }
}

const canBeIn = (size: number, blockSize: number): boolean => size % blockSize === 0 || blockSize % size === 0

/**
 * The blocks of a request as blocks of another size. Several together go by the name of the last, which stands for all before it, and one
 * that is divided gives each part a name. Only what the trace says to be equal comes out equal.
 */
const inBlocksOf = (
  size: number,
  blockSize: number | null,
  { blocks, promptTokens }: TraceRequest
): ReadonlyArray<number> => {
  if (blockSize === null || !canBeIn(size, blockSize)) return []
  const count = Math.ceil(promptTokens / size)
  if (blockSize >= size) {
    const parts = blockSize / size
    return blocks
      .flatMap((block) => Array.from({ length: parts }, (_, part) => block * parts + part))
      .slice(0, count)
  }
  const together = size / blockSize
  const isComplete = blocks.length * blockSize >= promptTokens
  return Array.from(
    { length: isComplete ? count : Math.floor(blocks.length / together) },
    (_, i) => blocks[Math.min((i + 1) * together, blocks.length) - 1]!
  )
}

/** The formats that can be written. */
export const traceWriters = { [LLM_TRACE]: llmTrace, mooncake } as const
