import { defineConfig } from "./src/domain/Config.ts"

/** The cluster that `bun run cluster` starts. Every option, its unit, default and consequence: docs/configuration.md. */
export default defineConfig({
  models: [{ name: "sim", workers: 4, engine: { kind: "simulated", preset: "8b-h100" } }],
  pipeline: { preset: "default" }
})
