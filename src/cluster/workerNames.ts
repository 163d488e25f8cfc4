import type { Register } from "../protocol/Message.ts"

type Role = Register["role"]

/** How the cluster calls worker number `index`. No name of a whole worker ends like that of one for a part. */
export const workerNameOf = (model: string, role: Role, index: number): string =>
  role === "both" ? `${model}-${index}` : `${model}-${role}:${index}`

/** The role that such a name tells. */
export const roleIn = (model: string, name: string): Role =>
  (["prefill", "decode"] as const).find((role) => name.startsWith(`${model}-${role}:`)) ?? "both"
