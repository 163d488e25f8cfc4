import { defineAdmission } from "../Admission.ts"
import { AimdLimit } from "../estimators/ConcurrencyLimit.ts"
import { limitInFlight, limitOptions, limitRange, limitRule } from "../limitInFlight.ts"
import { retryAfterRule } from "../retryAfter.ts"

/** Probes for the load at which first tokens come too late, as TCP does for the load at which packets are lost. */
export const aimdLimit = defineAdmission(
  {
    name: "aimd-limit",
    summary:
      "A limit on requests in the pool that grows while first tokens come in time, and shrinks when one does not.",
    definition:
      `${limitRule}, ${retryAfterRule}. After each window: 0.9 × limit if a first token came later than timeout after arrival, a request ` +
      "ran into its deadline, or was refused by its worker; else limit + 1 if half of it was used, or more.",
    cost: "O(1)",
    source:
      "Netflix/concurrency-limits, AIMDLimit.java; Chiu and Jain, Computer Networks and ISDN Systems 17, 1989",
    stability: "experimental"
  },
  {
    ...limitOptions,
    timeout: {
      kind: "duration",
      default: 5_000,
      minimum: 1,
      unit: "ms",
      summary:
        "Time to first token above which a request counts as dropped. Larger admits more, and lets them wait longer."
    }
  },
  ({ window, timeout, ...range }, rng) =>
    limitInFlight({ limit: new AimdLimit(limitRange(range)), windowMs: window, timeoutMs: timeout }, rng)
)
