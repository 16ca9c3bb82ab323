/** Pure lookups over the head history: states, scores, ranks and the life of one head. */
import { whole } from './format'
import {
    ABSENT,
    ACTIVE,
    ADDED,
    PRUNED,
    REGROWN,
    type Criterion,
    type HeadDecision,
    type Heads,
    type Returned,
} from './types'

export type Grid = ArrayLike<number>
export interface Place {
    layer: number
    head: number
}

export const headName = (layer: number, head: number, incarnation = 1): string =>
    `L${layer}H${head}${incarnation > 1 ? `#${incarnation}` : ''}`
export const STATE_WORDS: Record<number, string> = {
    [ABSENT]: 'absent',
    [PRUNED]: 'pruned',
    [ACTIVE]: 'active',
    [REGROWN]: 'regrown',
    [ADDED]: 'added',
}
export const stateWord = (state: number): string => STATE_WORDS[state] ?? 'unknown'
export const isThere = (state: number): boolean => state >= ACTIVE

/** Index of the last of `steps` (ascending) that is at or before `step`; −1 when all are later. */
export function lastAt(steps: ArrayLike<number>, step: number): number {
    let low = 0
    let high = steps.length
    while (low < high) {
        const middle = (low + high) >>> 1
        if (steps[middle]! <= step) low = middle + 1
        else high = middle
    }
    return low - 1
}

/** The entry to show at `step`: the last before it, or the first one when all are later (`early`). */
export function shownAt(steps: ArrayLike<number>, step: number): { at: number; early: boolean } {
    const at = lastAt(steps, step)
    return at >= 0 ? { at, early: false } : { at: steps.length ? 0 : -1, early: steps.length > 0 }
}

const cellsOf = (heads: Heads): number => heads.shape[0] * heads.shape[1]

/** One state grid, flat, layer by layer; without any recorded state every head is active. */
export function statesAt(heads: Heads, step: number): Int8Array {
    const at = Math.max(lastAt(heads.states.steps.data, step), 0)
    return stateGrid(heads, at)
}

export function stateGrid(heads: Heads, at: number): Int8Array {
    const cells = cellsOf(heads)
    const { data } = heads.states.grids
    return data.length >= (at + 1) * cells && at >= 0
        ? data.subarray(at * cells, (at + 1) * cells)
        : new Int8Array(cells).fill(ACTIVE)
}

/** Scores of one measurement, flat; null when there is none with this number. */
export function scoreGrid(criterion: Criterion, at: number): Float64Array | Float32Array | null {
    const [count = 0, layers = 0, each = 0] = criterion.values.shape
    const cells = layers * each
    return at >= 0 && at < count ? criterion.values.data.subarray(at * cells, (at + 1) * cells) : null
}

export function countActive(states: Grid): { active: number; present: number } {
    let active = 0
    let present = 0
    for (let at = 0; at < states.length; at++) {
        if (states[at]! !== ABSENT) present++
        if (isThere(states[at]!)) active++
    }
    return { active, present }
}

/** Each score's place among heads that are there: 0 lowest, equal scores alike; −1 for others and for NaN. */
export function ranksAmong(scores: Grid, states: Grid): { ranks: Int32Array; of: number } {
    const places: number[] = []
    for (let at = 0; at < scores.length; at++)
        if (isThere(states[at] ?? ABSENT) && !Number.isNaN(scores[at]!)) places.push(at)
    places.sort((a, b) => scores[a]! - scores[b]! || a - b)
    const ranks = new Int32Array(scores.length).fill(-1)
    places.forEach((place, order) => {
        const before = places[order - 1]
        ranks[place] = before !== undefined && scores[before] === scores[place] ? ranks[before]! : order
    })
    return { ranks, of: places.length }
}

/** Ranks as 0…1 among heads that are there, NaN for others: one large head does not make all others look alike. */
export function rankShares(scores: Grid, states: Grid): Float32Array {
    const { ranks, of } = ranksAmong(scores, states)
    return Float32Array.from(ranks, (rank) => (rank < 0 ? NaN : of < 2 ? 0.5 : rank / (of - 1)))
}

const ranked = new WeakMap<Criterion, Criterion>()
/** The criterion with every score replaced by its rank share among the heads that were there then. */
export function rankedCriterion(heads: Heads, criterion: Criterion): Criterion {
    const known = ranked.get(criterion)
    if (known) return known
    const shares = new Float32Array(criterion.values.data.length)
    const cells = cellsOf(heads)
    for (let at = 0; at < criterion.steps.data.length; at++) {
        const scores = scoreGrid(criterion, at)
        if (scores) shares.set(rankShares(scores, statesAt(heads, criterion.steps.data[at]!)), at * cells)
    }
    const found = { ...criterion, low: 0, high: 1, values: { data: shares, shape: criterion.values.shape } }
    ranked.set(criterion, found)
    return found
}

const SUFFIXES = ['th', 'st', 'nd', 'rd']
export function ordinal(n: number): string {
    const tens = n % 100
    return `${whole(n)}${SUFFIXES[(tens - 20) % 10] ?? SUFFIXES[tens] ?? 'th'}`
}

/** “3rd lowest of 31”, or from the other end where that is nearer. */
export function rankWords(rank: number, of: number): string {
    if (rank < 0 || of < 1) return ''
    if (of === 1) return 'the only one'
    const high = of - 1 - rank
    const end = rank <= high ? 'lowest' : 'highest'
    const from = Math.min(rank, high) + 1
    return `${from === 1 ? '' : `${ordinal(from)} `}${end} of ${whole(of)}`
}

export interface LifeSpan {
    state: number
    first: number
    /** Step at which it ended; null while it lasts. */
    end: number | null
    /** The decision that began it; null for the start of the run, and for a return to an earlier state. */
    decision: HeadDecision | null
    restored: Returned | null
    reason: string
    /** Which of its lives this is of: 1, and one more each time it came back. */
    incarnation: number
}

export const reasonOf = (decision: HeadDecision, layer: number, head: number): string =>
    decision.reasons[`${layer}.${head}`] ?? ''

export function concerns(decision: HeadDecision, layer: number, head: number): boolean {
    const { data } = decision.heads
    for (let at = 0; at + 1 < data.length; at += 2)
        if (data[at] === layer && data[at + 1] === head) return true
    return false
}

export function headsOf(decision: HeadDecision): Place[] {
    const { data } = decision.heads
    return Array.from({ length: data.length >> 1 }, (_, at) => ({
        layer: data[2 * at]!,
        head: data[2 * at + 1]!,
    }))
}

const BECOMES: Record<HeadDecision['kind'], number> = { pruned: PRUNED, regrown: REGROWN, added: ADDED }

/** What happened to one head, in order: how it began, each decision that concerned it, and each return that moved it. */
export function lifeOf(heads: Heads, layer: number, head: number, first: number): LifeSpan[] {
    const at = layer * heads.shape[1] + head
    const begun = heads.states.steps.data[0] ?? first
    const spans: LifeSpan[] = [
        {
            state: stateGrid(heads, 0)[at] ?? ABSENT,
            first: Math.min(begun, first),
            end: null,
            decision: null,
            restored: null,
            reason: '',
            incarnation: 1,
        },
    ]
    const begin = (span: Omit<LifeSpan, 'end'>): void => {
        spans.at(-1)!.end = span.first
        spans.push({ ...span, end: null })
    }
    const returns = [...heads.restored]
    const returnsBefore = (step: number): void => {
        while (returns.length && returns[0]!.step < step) {
            const restored = returns.shift()!
            const state = statesAt(heads, restored.step)[at] ?? ABSENT
            const then = spans.findLast((one) => one.first <= restored.to_step) ?? spans[0]!
            const { incarnation } = then
            if (state !== spans.at(-1)!.state)
                begin({
                    state,
                    first: restored.step,
                    decision: null,
                    restored,
                    reason: restored.reason,
                    incarnation,
                })
        }
    }
    for (const decision of heads.decisions) {
        if (!concerns(decision, layer, head)) continue
        returnsBefore(decision.step)
        const back = decision.kind === 'regrown' ? 1 : 0
        begin({
            state: BECOMES[decision.kind],
            first: decision.step,
            decision,
            restored: null,
            reason: reasonOf(decision, layer, head),
            incarnation: spans.at(-1)!.incarnation + back,
        })
    }
    returnsBefore(Infinity)
    return spans
}

/** Which of its lives a head is in at a step. */
export const incarnationAt = (life: LifeSpan[], step: number): number =>
    life.findLast((one) => one.first <= step)?.incarnation ?? 1

/** The decisions at the last step at or before `step` at which there were any. */
export function lastDecisions(heads: Heads, step: number): HeadDecision[] {
    const at = lastAt(
        heads.decisions.map((one) => one.step),
        step,
    )
    const last = heads.decisions[at]
    return last ? heads.decisions.filter((one) => one.step === last.step) : []
}

/** Heads nearest in score at one measurement, nearest first. */
export function alike(scores: Grid, states: Grid, place: number, most: number): number[] {
    const own = scores[place]
    if (own === undefined || Number.isNaN(own)) return []
    const others: number[] = []
    for (let at = 0; at < scores.length; at++)
        if (at !== place && isThere(states[at] ?? ABSENT) && !Number.isNaN(scores[at]!)) others.push(at)
    return others
        .sort((a, b) => Math.abs(scores[a]! - own) - Math.abs(scores[b]! - own) || a - b)
        .slice(0, most)
}

/** The criterion to begin with: the same order of preference as the console has. */
const PREFERRED = ['combined', 'gradient', 'fisher', 'output_norm', 'ablation', 'magnitude', 'entropy']
export function preferred(criteria: Criterion[]): string {
    for (const name of PREFERRED) if (criteria.some((one) => one.name === name)) return name
    return criteria[0]?.name ?? ''
}
/** Criteria whose high end is pruned first. */
export const highGoesFirst = (name: string): boolean => name === 'entropy'

/** Steps worth stopping at: changes of phase, decisions, first and last; ascending, each once. */
export function stops(
    heads: Heads | undefined,
    spans: { first_step: number }[],
    first: number,
    last: number,
): number[] {
    const found = new Set([first, last])
    for (const span of spans) found.add(span.first_step)
    for (const one of heads?.decisions ?? []) found.add(one.step)
    for (const one of heads?.restored ?? []) found.add(one.step)
    return [...found].filter((step) => step >= first && step <= last).sort((a, b) => a - b)
}
export function stopAfter(list: number[], step: number): number {
    return list[lastAt(list, step) + 1] ?? list.at(-1) ?? step
}
export function stopBefore(list: number[], step: number): number {
    const at = lastAt(list, step)
    return (list[at] === step ? list[at - 1] : list[at]) ?? list[0] ?? step
}
