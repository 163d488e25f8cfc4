import { LABEL_RULE, labelPattern } from "../domain/label.ts"
import { recordIn } from "../structures/record.ts"
import { type HttpError, httpError } from "./HttpError.ts"

/** What POST /generate takes. Other fields are ignored. */
export interface GenerateBody {
  readonly prompt: string
  readonly model?: string
  readonly maxTokens?: number
  readonly class?: number
  readonly session?: string
  readonly tenant?: string
  readonly timeoutMs?: number
  readonly stream?: boolean
}

/** Deepest nesting of a body: parsing deeper ones costs more than they can be worth. */
const DEPTH_MAX = 32
export const TIMEOUT_MS_MAX = 24 * 60 * 60 * 1000
export const TOKENS_MAX = 1_000_000

interface Rule {
  readonly says: string
  readonly holds: (value: unknown) => boolean
}

const integer = (min: number, max: number): Rule => ({
  says: `must be an integer from ${min} to ${max}`,
  holds: (value) => Number.isInteger(value) && (value as number) >= min && (value as number) <= max
})
const label: Rule = {
  says: `must be ${LABEL_RULE}`,
  holds: (value) => typeof value === "string" && labelPattern.test(value)
}
const rules: Readonly<Record<keyof GenerateBody, Rule>> = {
  prompt: {
    says: "must be a string that is not empty",
    holds: (value) => typeof value === "string" && value !== ""
  },
  model: label,
  maxTokens: integer(1, TOKENS_MAX),
  class: integer(0, 255),
  session: {
    says: "must be a string of 1 to 256 characters",
    holds: (value) => typeof value === "string" && value.length >= 1 && value.length <= 256
  },
  tenant: label,
  timeoutMs: integer(1, TIMEOUT_MS_MAX),
  stream: { says: "must be true or false", holds: (value) => typeof value === "boolean" }
}

/** Reads a body, or says what is wrong with it: the first field that breaks its rule. Messages never quote the body. */
export const readGenerateBody = (text: string): GenerateBody | HttpError => {
  if (depthOf(text) > DEPTH_MAX)
    return httpError(400, "invalid_json", `the body is nested deeper than ${DEPTH_MAX}`)
  const body = recordIn(text)
  if (body === undefined) return httpError(400, "invalid_json", "the body must be a JSON object")
  const fields: Record<string, unknown> = {}
  for (const [field, { says, holds }] of Object.entries(rules)) {
    const value = Object.hasOwn(body, field) ? body[field] : undefined
    if (value === undefined && field !== "prompt") continue
    if (!holds(value)) return httpError(400, "invalid_value", `${field} ${says}`, { param: field })
    fields[field] = value
  }
  return fields as unknown as GenerateBody
}

/** How deep brackets nest, outside strings. Cost about 1 ms for 1 MiB. */
const depthOf = (text: string): number => {
  let depth = 0
  let deepest = 0
  for (let at = 0; at < text.length; at++) {
    const char = text.charCodeAt(at)
    if (char === QUOTE) at = endOfString(text, at)
    else if (char === OPEN_ARRAY || char === OPEN_OBJECT) deepest = Math.max(deepest, ++depth)
    else if (char === CLOSE_ARRAY || char === CLOSE_OBJECT) depth--
  }
  return deepest
}

const endOfString = (text: string, start: number): number => {
  let at = start + 1
  while (at < text.length && text.charCodeAt(at) !== QUOTE) at += text.charCodeAt(at) === BACKSLASH ? 2 : 1
  return at
}

const QUOTE = 0x22
const BACKSLASH = 0x5c
const OPEN_ARRAY = 0x5b
const CLOSE_ARRAY = 0x5d
const OPEN_OBJECT = 0x7b
const CLOSE_OBJECT = 0x7d
