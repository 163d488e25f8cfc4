export type { PrefixChain } from "../structures/PrefixChain.ts"
