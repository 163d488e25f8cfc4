import { defineScaling } from "../Scaling.ts"

export const fixed = defineScaling(
  {
    name: "fixed",
    summary: "As many workers as are configured, whatever the load.",
    definition: "The least number allowed, which is `workers` of the model.",
    cost: "O(1)",
    source: "a constant",
    stability: "stable",
    signals: []
  },
  {},
  () => ({ desired: ({ min }) => min })
)
