import { parseTrace } from "../../src/domain/traces/parseTrace.ts"
import type { Trace } from "../../src/domain/Trace.ts"
import { assert } from "../../src/structures/assert.ts"
import type { Extent } from "./cells.ts"

/** Reads a whole trace, gzipped. */
export const readWhole = async (path: string, name: string): Promise<Trace> => {
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
  return { ...trace, requests: requests.slice(from, from + count) }
}
