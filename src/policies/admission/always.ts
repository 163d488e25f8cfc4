import { defineAdmission } from "../Admission.ts"

/** For comparisons and for pools whose callers are bounded elsewhere; the balancer's request table is the only bound left. */
export const always = defineAdmission(
  {
    name: "always",
    summary: "Lets every request in; the queue is bounded by the balancer's request table alone.",
    definition: "Never rejects.",
    cost: "O(1)",
    source: "none",
    stability: "stable"
  },
  {},
  () => ({ decide: () => null })
)
