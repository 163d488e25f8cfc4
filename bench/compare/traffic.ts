import { existsSync } from "node:fs"
import { join } from "node:path"
import { parseTrace } from "../../src/domain/traces/parseTrace.ts"
import type { Trace } from "../../src/domain/Trace.ts"
import { generateTraffic, type TrafficOptions } from "../../src/simulator/replay/generate.ts"
import { assert } from "../../src/structures/assert.ts"
import type { Extent } from "./cells.ts"

/**
 * Traffic that is made up, by name: prompts that begin alike, which no recording that is held out tells of. Turns of conversations, and
 * questions about documents, in equal parts.
 */
const madeUp: Readonly<Record<string, TrafficOptions>> = {
  "made-up-conversations": {
    seed: 1,
    requests: 18_000,
    requestsPerSecond: 30,
    dispersion: 2,
    promptTokens: { mean: 900, variation: 1.5 },
    outputTokens: { mean: 250, variation: 1 },
    tenants: { count: 8, skew: 1 },
    sessions: { share: 0.5, turns: 8, thinkMs: 20_000 }
  },
  "made-up-documents": {
    seed: 2,
    requests: 18_000,
    requestsPerSecond: 30,
    dispersion: 4,
    promptTokens: { mean: 400, variation: 1 },
    outputTokens: { mean: 300, variation: 1 },
    tenants: { count: 4, skew: 1 },
    sharedPrefix: { count: 120, tokens: 12_288, share: 0.8 }
  }
}

const pathOf = (name: string, directory: string): string => join(directory, `${name}.jsonl.gz`)

/** Where a trace is missed; undefined when it is there. */
export const missingFrom = (name: string, directory: string): string | undefined => {
  const path = pathOf(name, directory)
  return name in madeUp || existsSync(path) ? undefined : path
}

/** A whole trace of a directory, gzipped, or one that is made up. */
export const traceOf = async (name: string, directory: string): Promise<Trace> => {
  const options = madeUp[name]
  if (options !== undefined) return generateTraffic(options)
  const path = pathOf(name, directory)
  const text = new TextDecoder().decode(Bun.gunzipSync(await Bun.file(path).bytes()))
  const parsed = parseTrace(text, { limit: Number.POSITIVE_INFINITY, name })
  assert("trace" in parsed, `${path} keeps its format`)
  return parsed.trace
}

/**
 * The traffic of one seed: a window of a trace, or of the trace laid over itself. A copy begins at another place of the trace and goes on
 * from its start, so that all of them together are as busy at one time as at another.
 */
export const windowOf = (trace: Trace, { copies, requests: count }: Extent, seed: number): Trace => {
  const spanMs = trace.requests.at(-1)!.arrivalMs
  const requests = Array.from({ length: copies }, (_, copy) =>
    trace.requests.map((request) => ({
      ...request,
      arrivalMs: (request.arrivalMs + (copy * spanMs) / copies) % (spanMs + 1),
      ...(copies === 1
        ? {}
        : {
            tenant: `${copy}/${request.tenant ?? ""}`,
            session: request.session && `${copy}/${request.session}`
          })
    }))
  )
    .flat()
    .toSorted((a, b) => a.arrivalMs - b.arrivalMs)
  const from = ((seed - 1) * count) % Math.max(1, requests.length - count + 1)
  return { header: trace.header, requests: requests.slice(from, from + count) }
}
