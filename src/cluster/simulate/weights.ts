import * as Effect from "effect/Effect"
import { makeSchema } from "../../domain/config/schema.ts"
import type { Workload } from "../../simulator/replay/Workload.ts"
import { catalogue } from "../catalogue.ts"
import { type CliFailure, misused } from "../cli/CliFailure.ts"

/** What is said of tenants. */
export interface WeightFlags {
  /** `name=weight`, separated by commas. */
  readonly weights: string | undefined
}

/** What a configuration takes for a weight. */
const { decode, rule } = makeSchema(catalogue).fields.tenants.item.fields.weight

/** Tenants that a message names. */
const NAMED_MAX = 8

/** The weights that are given, by the names of tenants. A name may hold "=", and no comma. */
export const weightsOf = Effect.fnUntraced(function* ({
  weights: list
}: WeightFlags): Effect.fn.Return<ReadonlyMap<string, number>, CliFailure> {
  const weights = new Map<string, number>()
  for (const item of list?.split(",") ?? []) {
    const [, name = "", text] = /^(.+)=(.+)$/.exec(item.trim()) ?? []
    const weight = decode(Number(text))
    if (weight === undefined)
      return yield* misused(`--weights: "${item}" must be tenant=weight, the weight ${rule}, as in chat=3.`)
    if (weights.has(name)) return yield* misused(`--weights: ${name} is given twice.`)
    weights.set(name, weight)
  }
  return weights
})

/** Fails where a weight is given to a tenant that sends nothing. The traffic is looked at where there are weights. */
export const checkTenants = Effect.fnUntraced(function* (
  flags: WeightFlags,
  traffic: () => Workload
): Effect.fn.Return<void, CliFailure> {
  if (flags.weights === undefined) return
  const { requests, tenants } = traffic()
  const there = new Set(requests.map(({ tenant }) => tenants[tenant]!))
  for (const name of (yield* weightsOf(flags)).keys()) {
    if (there.has(name)) continue
    const named = [...there].slice(0, NAMED_MAX).join(", ")
    const others = there.size > NAMED_MAX ? ` and ${there.size - NAMED_MAX} others` : ""
    return yield* misused(
      `--weights: no request is of a tenant "${name}". The tenants are ${named}${others}.`
    )
  }
})
