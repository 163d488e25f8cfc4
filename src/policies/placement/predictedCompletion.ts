import { Candidates } from "../Candidates.ts"
import { sessionOrRequestState } from "../affinity.ts"
import { chunkOptions, CompletionCosts } from "../CompletionCosts.ts"
import { decodeStepMs, prefillMs, spacedMs } from "../costs.ts"
import { leastOf } from "../leastOf.ts"
import { definePlacement } from "../Placement.ts"
import { PrefixDebts } from "../PrefixDebts.ts"
import { RecentPrefill } from "../RecentPrefill.ts"

/**
 * Everything a choice of worker changes, in one unit: what the request itself waits for, and what those wait for whom it joins. A prefix
 * that is held somewhere, a long prompt ahead in the queue, a slow worker and a full KV cache thus outweigh each other by what they cost.
 *
 * What is computed again counts by the share of time that goes to prefill: where there is time to spare, nobody misses what it takes.
 *
 * Each request alone would follow its prefix to where all who want it wait, and none would pay for a second copy, from which all who come
 * later are better off. So what they lose is summed up, and pays for the copy once it is as much: as skis are bought when the rent that
 * was paid comes to their price.
 *
 * Speeds enter through the step costs. Dividing by `speed` too would count them twice.
 */
export const predictedCompletion = definePlacement(
  {
    name: "predicted-completion",
    summary:
      "The worker where the first token is predicted soonest, counting the delay inflicted on those already there and what the answer suffers from them; a prefix that many want is computed again elsewhere.",
    definition:
      "Least TTFT + externality·E + (1 − u)²·A + recent·R + D over the eligible workers, with step costs fitted to each worker; where there are more " +
      "than compared, over so many: those that hold most of the prefix, an eighth at most, and others from a random place in the order of " +
      "keys. TTFT = the prefill of " +
      "the prompts pending there, with a decode step for every chunkTokens of them, less what was done of those that were pending at the " +
      "last first token there, since then + prefill of the prompt's uncached tokens, with a step for every chunkTokens, at least one + a " +
      "step where requests are in flight, for the one under way + the wait for room, which is the share of what is there that must end " +
      "until prompt and expected answer fit into the KV cache and among the sequences of a step, times the steps of the answer. E = " +
      "requests in flight × (√u times the prefill of what is not cached there and is at the worker of them that has most, which those who are there " +
      "would be spared, + P · (P / (P + absorbed))³, with P the prefill of all that is not cached there: short delays are absorbed). A = the " +
      "tokens of the expected answer · d³ / spacing², with d what the sequences that decode there, and their context, add to a step. R = " +
      "P · (v − u), with v the share of its time that the worker was given prefill for lately, at most 1: that of the prompts placed there, each counting " +
      "e^(−age / memory), / memory; nothing of it is left of a worker that leaves; u = the same share of all the time of these workers. D = max(0, debt − K), with K what would be saved there of TTFT + " +
      "externality·E if as much of the prompt were cached there as where most is: so debt pays for computing it again. Each prefix, as long as what is " +
      "cached where most is, has its own debt, which fades by e^(−age / patience). A request that is placed takes K of its worker off it, and adds " +
      "(1 − u) times what it would have saved at one of the other workers if that had cached as much: the mean over them of how far the cost there, without " +
      "D and K, is below its own, of each at most K / copyAfter. Cached are blocks the worker reported or was " +
      "sent before; the expected answer is the tenant's mean. Ties go to the highest rendezvous score of (session or, without one, request " +
      "id; worker key).",
    cost: "O(N)",
    source:
      "completion-time placement; the marginal delay is that of what a better choice would not compute, which keeps prefixes in one place (cf. LMetric, arXiv 2603.15202); copies as in Karlin et al., Competitive snoopy caching, Algorithmica 3, 1988",
    stability: "stable",
    family: "argmin",
    unit: "seconds",
    uses: ["prefixes", "forecast"]
  },
  {
    externality: {
      kind: "number",
      default: 0.15,
      minimum: 0,
      maximum: 1,
      summary:
        "Weight of the delay inflicted on others. At 0 each request goes where its own first token comes soonest; larger values rather " +
        "wait where a prefix is cached than compute it again beside others."
    },
    absorbed: {
      kind: "duration",
      default: 12_000,
      minimum: 1,
      unit: "ms",
      summary:
        "The delay by a request's own prefill counts for others by an eighth where it is as long as this, and much less where it is shorter. Shorter " +
        "sends long prompts where few requests are in flight, at the expense of spreading short ones evenly."
    },
    spacing: {
      kind: "duration",
      default: 100,
      minimum: 1,
      unit: "ms",
      summary:
        "A token of the answer that comes later by this, for those who decode beside it, costs as much as a first token that comes as much " +
        "later, where no time goes to prefill; the cost goes with the cube. Shorter spreads contexts more evenly, so that no answer is slower " +
        "than others, and follows prefixes less."
    },
    recent: {
      kind: "number",
      default: 0.6,
      minimum: 0,
      maximum: 1,
      summary:
        "By how much a prompt's own prefill counts more at a worker that was all taken by prefill lately than at one that had none. At 0 only what is pending counts; " +
        "larger values share prefill more evenly over seconds, so that answers lose as much to it at one worker as at another."
    },
    memory: {
      kind: "duration",
      default: 3_000,
      minimum: 1,
      unit: "ms",
      summary:
        "After this time a placement counts e times less. Longer evens out slower swings, and counts what is long done."
    },
    copyAfter: {
      kind: "integer",
      default: 2,
      minimum: 1,
      maximum: 65_536,
      unit: "requests",
      summary:
        "Fewest requests that must have been better off elsewhere before their prefix is computed there too. Fewer spread a prefix sooner, and compute more " +
        "prefixes again that nobody comes back for."
    },
    patience: {
      kind: "duration",
      default: 30_000,
      minimum: 1,
      unit: "ms",
      summary:
        "After this time what a prefix has cost those who follow it counts e times less. Longer copies prefixes that are wanted more rarely."
    },
    chunkTokens: {
      ...chunkOptions.chunkTokens,
      summary:
        "Prompt tokens that the engines compute in one step. Smaller values charge more steps for the same prompts, and so weigh the " +
        "sequences that decode there more."
    },
    compared: {
      kind: "integer",
      default: 64,
      minimum: 2,
      maximum: 65_536,
      unit: "workers",
      summary:
        "Workers compared for a request, at most. Of a larger pool an eighth of them are those that hold most of its prefix, the others " +
        "are drawn. More find an idle worker among many busy ones more often, and take longer."
    }
  },
  ({ externality, absorbed, spacing, recent, memory, copyAfter, patience, chunkTokens, compared }, rng) => {
    const candidates = new Candidates(compared, rng)
    const costs = new CompletionCosts(chunkTokens, externality, absorbed)
    const lately = new RecentPrefill(memory)
    const debts = new PrefixDebts(patience)
    /** Of the prefix of the request that was picked for last. */
    let debtMs = 0
    return {
      pick: (request, pool, nowMs) => {
        const { workers } = pool
        const { count, slots } = candidates.choose(request, pool)
        const outputTokens = pool.forecast.meanOutputTokens(request)
        const share = lately.share(slots, count, nowMs)
        const costMs = costs.of(request, pool, slots, count, outputTokens, nowMs, againWeight(share))
        const { copyMs, mostCached, ownMs, stepMs } = costs
        const { baseMs } = workers
        const apart = answerWeight(share)
        debtMs = mostCached === 0 ? 0 : debts.of(request, mostCached, pool.blockTokens, nowMs)
        for (let i = 0; i < count; i++) {
          const worker = slots[i]!
          const aloneMs =
            costMs[worker]! +
            (apart * spacedMs(stepMs[worker]!, baseMs[worker]!, outputTokens, spacing) +
              recent * ownMs[worker]! * (lately.shareAt(worker, nowMs) - share))
          costMs[worker] = aloneMs + Math.max(0, debtMs - copyMs[worker]!)
        }
        const picked = leastOf(workers, slots, count, costMs, sessionOrRequestState(request))
        if (mostCached === 0) return picked
        // What it would have saved if any one of the others had cached as much, on average.
        const paidMs = copyMs[picked]!
        const copiedMs = costMs[picked]! - Math.max(paidMs, debtMs)
        let lostMs = 0
        for (let i = 0; i < count; i++) {
          const worker = slots[i]!
          const copyAtMs = copyMs[worker]!
          const savedMs = copiedMs + Math.max(copyAtMs, debtMs) - costMs[worker]!
          if (savedMs > 0) lostMs += Math.min(savedMs, copyAtMs / copyAfter)
        }
        const addedMs = ((1 - share) * lostMs) / Math.max(1, count - 1)
        debts.set(Math.max(0, debtMs - paidMs) + addedMs, nowMs)
        return picked
      },
      terms: (request, worker, pool, nowMs) => {
        const { workers } = pool
        const outputTokens = pool.forecast.meanOutputTokens(request)
        const stepMs = decodeStepMs(workers, worker)
        const { count, slots } = candidates.chosen(pool)
        const share = lately.share(slots, count, nowMs)
        const again = againWeight(share)
        const soonest = costs.terms(request, pool, worker, outputTokens, nowMs, again)
        return {
          ...soonest,
          answer:
            (answerWeight(share) * spacedMs(stepMs, workers.baseMs[worker]!, outputTokens, spacing)) / 1000,
          recent: recent * soonest.ownPrefill * (lately.shareAt(worker, nowMs) - share),
          debt: debtMs === 0 ? 0 : Math.max(0, debtMs - costs.copyAt(request, pool, worker, again)) / 1000
        }
      },
      placed: ({ promptTokens, uncachedTokens }, worker, { workers }, nowMs) => {
        const context = promptTokens - uncachedTokens
        lately.add(worker, prefillMs(workers, worker, uncachedTokens, context), nowMs)
      },
      changed: (worker, ready) => {
        if (!ready) lately.forget(worker)
      },
      compared: (worker) => candidates.has(worker)
    }
  }
)

/** By the share of time that goes to prefill, and more than in proportion: so prefixes are followed more while that is small. */
const againWeight = (share: number): number => Math.sqrt(share)

/** By the same: spreading answers means computing prompts again, for which there must be time. */
const answerWeight = (share: number): number => (1 - share) ** 2
