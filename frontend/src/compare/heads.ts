/** Two runs' heads: how their scores agree, who pruned what, and what many runs have in common. */
import { fraction, place } from '../model/colour'
import { ABSENT, ACTIVE, PRUNED } from '../model/types'
import type { HeadsOf, RunHeads, RunScores } from '../model/types-comparison'

export type Moment = 'first' | 'last'

export const scoresOf = (heads: HeadsOf, name: string): RunScores | undefined =>
    heads.scores.find((one) => one.name === name)

export interface Grid {
    shape: [number, number]
    values: ArrayLike<number>
    step: number
}
export function gridOf(heads: HeadsOf, name: string, moment: Moment): Grid | null {
    const found = scoresOf(heads, name)
    if (!found) return null
    const grid = found[moment]
    return { shape: grid.shape as [number, number], values: grid.data, step: found[`${moment}_step`] }
}

/** States as large as a grid of scores: heads that came later are not there yet. */
export function statesFor(heads: HeadsOf, shape: [number, number]): Int8Array {
    const own = heads.states
    if (!own) return new Int8Array(shape[0] * shape[1]).fill(ACTIVE)
    return Int8Array.from({ length: shape[0] * shape[1] }, (_, at) => {
        const [layer, head] = [Math.floor(at / shape[1]), at % shape[1]]
        return layer < own.shape[0]! && head < own.shape[1]!
            ? own.data[layer * own.shape[1]! + head]!
            : ABSENT
    })
}

/** The larger of two shapes on either side. */
export const jointShape = (heads: HeadsOf[]): [number, number] => {
    const shapes = heads.flatMap((one) => (one.states ? [one.states.shape] : []))
    return [Math.max(0, ...shapes.map((one) => one[0]!)), Math.max(0, ...shapes.map((one) => one[1]!))]
}

/** 0 neither, 1 only the first, 2 only the second, 3 both; −1 where one of them has no such head. */
export function whoPruned(one: Int8Array, other: Int8Array): Int8Array {
    return Int8Array.from(one, (state, at) =>
        state === ABSENT || other[at] === ABSENT
            ? -1
            : Number(state === PRUNED) + 2 * Number(other[at] === PRUNED),
    )
}

/** Of these runs, the share that pruned each head; NaN where no run has it. */
export function prunedShare(heads: RunHeads, runs: number[], shape: [number, number]): Float64Array {
    const [gone, there] = [new Float64Array(shape[0] * shape[1]), new Float64Array(shape[0] * shape[1])]
    for (const run of runs) {
        const own = heads.runs[run]!
        if (!own.states) continue
        statesFor(own, shape).forEach((state, at) => {
            if (state === ABSENT) return
            there[at]! += 1
            if (state === PRUNED) gone[at]! += 1
        })
    }
    return gone.map((count, at) => (there[at] ? count / there[at]! : NaN))
}

/** Spearman's rank correlation over the heads that both measured; null for fewer than three. */
export function rankCorrelation(
    one: ArrayLike<number>,
    other: ArrayLike<number>,
): { r: number; heads: number } | null {
    const both: number[] = []
    for (let at = 0; at < Math.min(one.length, other.length); at++)
        if (Number.isFinite(one[at]) && Number.isFinite(other[at])) both.push(at)
    if (both.length < 3) return null
    const [a, b] = [ranks(both.map((at) => one[at]!)), ranks(both.map((at) => other[at]!))]
    const mean = (both.length - 1) / 2
    let [ab, aa, bb] = [0, 0, 0]
    for (let at = 0; at < both.length; at++) {
        ab += (a[at]! - mean) * (b[at]! - mean)
        aa += (a[at]! - mean) ** 2
        bb += (b[at]! - mean) ** 2
    }
    return aa && bb ? { r: ab / Math.sqrt(aa * bb), heads: both.length } : null
}

/** From 0; equal values share their mean rank. */
export function ranks(values: number[]): number[] {
    const order = values.map((_, at) => at).sort((x, y) => values[x]! - values[y]!)
    const found = new Array<number>(values.length)
    for (let from = 0; from < order.length;) {
        let to = from
        while (to + 1 < order.length && values[order[to + 1]!] === values[order[from]!]) to++
        for (let at = from; at <= to; at++) found[order[at]!] = (from + to) / 2
        from = to + 1
    }
    return found
}

/** Places on the ramp by value within a domain, or by rank among what is there (skewed criteria need that). */
export function placesOf(values: ArrayLike<number>, low: number, high: number, byRank: boolean): Int16Array {
    if (!byRank) return Int16Array.from(values as ArrayLike<number>, (value) => place(value, low, high))
    const known = Array.from(values as ArrayLike<number>).filter(Number.isFinite)
    const order = ranks(known)
    const share = new Map(known.map((value, at) => [value, fraction(order[at]!, 0, known.length - 1)]))
    return Int16Array.from(values as ArrayLike<number>, (value) =>
        Number.isFinite(value) ? Math.round(255 * (share.get(value) ?? 0)) : -1,
    )
}
