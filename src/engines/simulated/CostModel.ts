/**
 * What one step of a continuous-batching engine costs, in milliseconds:
 *
 * `base + prefillToken·tokens + prefillAttention·Σ chunk·(context before it + chunk/2) + decodeSequence·sequences + decodeContext·Σ context`
 *
 * with the tokens of all prefill chunks of the step, and the sequences that decode one token in it.
 */
export interface StepCost {
  readonly baseMs: number
  readonly prefillTokenMs: number
  readonly prefillAttentionMs: number
  readonly decodeSequenceMs: number
  readonly decodeContextMs: number
}

/** A model on some hardware. */
export interface EnginePreset {
  readonly cost: StepCost
  /** Size of the KV cache, in tokens. */
  readonly kvCapacityTokens: number
  readonly kvBytesPerToken: number
}

const preset = (
  [baseMs, prefillTokenMs, prefillAttentionMs, decodeSequenceMs, decodeContextMs]: readonly [
    number,
    number,
    number,
    number,
    number
  ],
  kvCapacityTokens: number,
  kvBytesPerToken: number
): EnginePreset => ({
  cost: { baseMs, prefillTokenMs, prefillAttentionMs, decodeSequenceMs, decodeContextMs },
  kvCapacityTokens,
  kvBytesPerToken
})

/**
 * The last two are fitted to measured vLLM 0.19 runs (LLMServingSim validation, CASYS KAIST), within 1 % of their means; their KV sizes
 * are computed and did not limit those runs. The others are scaled by hardware: expect 20 % either way.
 */
export const presets = {
  "8b-h100": preset([6.4, 0.024, 1.3e-6, 0.02, 4.6e-5], 467_000, 131_072),
  "8b-a100": preset([10.5, 0.1, 4.8e-6, 0.03, 7.6e-5], 440_000, 131_072),
  "70b-4xh100": preset([14, 0.068, 1.7e-6, 0.06, 2.9e-5], 513_000, 327_680),
  "70b-4xa100": preset([27, 0.2, 6e-6, 0.06, 4.8e-5], 500_000, 327_680),
  "8b-rtxpro6000": preset([12.2, 0.0406, 2.3e-6, 0.044, 7.7e-5], 560_000, 131_072),
  "qwen3-32b-2xrtxpro6000": preset([25.6, 0.165, 1.5e-6, 0.068, 2e-4], 440_000, 262_144)
} satisfies Record<string, EnginePreset>

export type PresetName = keyof typeof presets

/** `prefillAttention` is Σ chunk·(context before it + chunk/2). Always > 0, for `baseMs` is. */
export const stepMs = (
  cost: StepCost,
  prefillTokens: number,
  prefillAttention: number,
  decodeSequences: number,
  decodeContextTokens: number
): number =>
  cost.baseMs +
  cost.prefillTokenMs * prefillTokens +
  cost.prefillAttentionMs * prefillAttention +
  cost.decodeSequenceMs * decodeSequences +
  cost.decodeContextMs * decodeContextTokens

/** What one hand-over gets of the network where nothing is said. */
export const TRANSFER_GBPS = 100

/** How long the KV cache of one token takes to another engine, where a hand-over gets `gbps` of the network. 10⁹ bits/s are 125 000 bytes/ms. */
export const transferTokenMs = ({ kvBytesPerToken }: EnginePreset, gbps = TRANSFER_GBPS): number =>
  kvBytesPerToken / (gbps * 125_000)
