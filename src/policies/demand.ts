import type { PoolView } from "../domain/PoolView.ts"
import type { RequestView } from "../domain/RequestView.ts"
import type { OptionSpecs } from "./Policy.ts"

/** What a token counts for where tokens are summed up. */
export interface TokenPrices {
  readonly inputPrice: number
  readonly outputPrice: number
}

export const priceOptions = {
  inputPrice: {
    kind: "number",
    default: 1,
    minimum: 0,
    maximum: 1_000_000,
    unit: "per prompt token",
    summary: "What a prompt token that must be computed counts for. Larger makes long prompts dear."
  },
  outputPrice: {
    kind: "number",
    default: 2,
    minimum: 0,
    maximum: 1_000_000,
    unit: "per output token",
    summary: "What an output token counts for. Larger makes long answers dear."
  }
} as const satisfies OptionSpecs

/** Prompt tokens in the first `blocks` blocks of a request: one at least is never held, since the first answer token comes of it. */
export const heldTokens = ({ promptTokens }: RequestView, pool: PoolView, blocks: number): number =>
  Math.max(0, Math.min(blocks * pool.blockTokens, promptTokens - 1))

/** Prompt tokens of a request that some worker holds, or is about to: the longest match in the prefix index. */
export const matchedTokens = (request: RequestView, pool: PoolView): number => {
  const { blocks, count } = pool.match(request)
  return count === 0 ? 0 : heldTokens(request, pool, blocks[0]!)
}

/** What a request is expected to cost where most of its prompt is held: at least 1, so that no request is free. */
export const expectedCost = (
  request: RequestView,
  pool: PoolView,
  { inputPrice, outputPrice }: TokenPrices,
  outputTokens: number
): number =>
  Math.max(1, inputPrice * (request.promptTokens - matchedTokens(request, pool)) + outputPrice * outputTokens)
