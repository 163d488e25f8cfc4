import { LABEL_RULE, labelPattern } from "../label.ts"
import { isRequestId } from "../requestId.ts"
import { TOKENS_MAX } from "../Trace.ts"
import { momentOf } from "./moment.ts"

/** Problems reported at once; a file with more is hardly a trace. */
export const PROBLEMS_MAX = 5

/**
 * A request, or the header, on a line of a file that holds a trace. Its readers note a problem for a field that breaks its rule, and give
 * what breaks no other: NaN for a number.
 */
export class TraceLine {
  private readonly fields: Readonly<Record<string, unknown>>
  private readonly number: number
  private readonly problems: Array<string>
  private readonly place: string

  /** `place` says which of several requests of the line it is, behind the name of a field. */
  constructor(
    fields: Readonly<Record<string, unknown>>,
    number: number,
    problems: Array<string>,
    place: string = ""
  ) {
    this.fields = fields
    this.number = number
    this.problems = problems
    this.place = place
  }

  problem(field: string, rule: string): void {
    if (this.problems.length < PROBLEMS_MAX)
      this.problems.push(`${this.number}:${field}${this.place}: ${rule}`)
  }

  /** All fields but those of these names; undefined for none. */
  others(names: ReadonlySet<string>): Readonly<Record<string, unknown>> | undefined {
    const others = Object.entries(this.fields).filter(([name]) => !names.has(name))
    return others.length === 0 ? undefined : Object.fromEntries(others)
  }

  value(field: string): unknown {
    return this.fields[field]
  }

  integer(field: string, minimum: number): number {
    const value = this.fields[field]
    if (isCount(value) && value >= minimum) return value
    this.problem(field, `must be a whole number of at least ${minimum}`)
    return Number.NaN
  }

  /** Null where the field says that there is none; left out it says nothing. */
  integerOrNull(field: string, minimum: number): number | null {
    const value = this.fields[field]
    if (value === null || (isCount(value) && value >= minimum)) return value
    this.problem(field, `must be a whole number of at least ${minimum}, or null`)
    return null
  }

  tokens(field: string): number {
    const value = this.fields[field]
    if (isCount(value) && value >= 1 && value <= TOKENS_MAX) return value
    this.problem(field, `must be a whole number from 1 to ${TOKENS_MAX}`)
    return Number.NaN
  }

  decimal(field: string, minimum: number): number {
    const value = this.fields[field]
    if (typeof value === "number" && Number.isFinite(value) && value >= minimum) return value
    this.problem(field, `must be a number of at least ${minimum}`)
    return Number.NaN
  }

  /** In milliseconds from 1970 on. */
  moment(field: string): number {
    const ms = momentOf(String(this.fields[field]))
    if (Number.isNaN(ms)) this.problem(field, "must be a date and a time, as 2023-11-16 18:17:03.979")
    return ms
  }

  integers(field: string): ReadonlyArray<number> {
    const value = this.fields[field]
    if (value === undefined) return []
    if (Array.isArray(value) && value.every(isCount)) return value
    this.problem(field, "must be a list of whole numbers")
    return []
  }

  /** A number that is written as the id of a request; 0 where there is none. */
  id(field: string): bigint {
    const value = this.fields[field]
    if (value === undefined) return 0n
    const id = typeof value === "string" && isRequestId(value) ? BigInt(`0x${value}`) : 0n
    if (id === 0n) this.problem(field, "must be 16 hexadecimal digits, not all of them 0")
    return id
  }

  label(field: string): string | undefined {
    const value = this.fields[field]
    if (value === undefined) return undefined
    if (typeof value === "string" && labelPattern.test(value)) return value
    this.problem(field, `must be ${LABEL_RULE}`)
    return undefined
  }
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0
