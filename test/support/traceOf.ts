import { parseTrace, type ParseOptions } from "../../src/domain/traces/parseTrace.ts"
import type { Trace } from "../../src/domain/Trace.ts"

/** The trace that a text holds, which breaks no rule of its format. */
export const traceOf = (text: string, options?: ParseOptions): Trace => {
  const parsed = parseTrace(text, options)
  if (!("trace" in parsed)) throw new Error(parsed.join("\n"))
  return parsed.trace
}
