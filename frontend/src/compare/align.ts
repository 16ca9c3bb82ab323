/** Runs laid over each other: by step, by place in their cycles, or by the share of heads that is gone. */
import { lowerBound, upperBound } from '../model/downsample'
import { smoothed } from '../model/smooth'
import type { Moments, RunLineCurve } from '../model/types-comparison'

export type Alignment = 'step' | 'cycle' | 'sparsity'
export interface Aligned {
    x: Float64Array
    y: Float64Array
    smooth?: boolean
}
const LAST = 20 // points before the heads change again, at most, that stand for a share

/** 1.5: half-way through cycle 1; what is before the first cycle is 0 to 1. */
export function cycleAt({ steps, cycles, last }: Moments, step: number): number {
    const at = upperBound(steps.data, step) - 1
    if (at < 0) return 0
    const begin = steps.data[at]!
    const end = steps.data[at + 1] ?? Math.max(last, begin + 1)
    return cycles.data[at]! + Math.min(Math.max((step - begin) / Math.max(end - begin, 1), 0), 1)
}

/** The value at each share of heads removed: mean of the last points before the heads changed again. */
export function bySparsity(steps: ArrayLike<number>, values: ArrayLike<number>, moments: Moments): Aligned {
    const found = new Map<number, number>()
    const { changed, sparsity } = moments
    for (let at = 0; at < changed.data.length; at++) {
        const next = changed.data[at + 1]
        // What was measured at the very step of a decision was measured before it.
        const from = at ? upperBound(steps, changed.data[at]!) : 0
        const to = next === undefined ? steps.length : upperBound(steps, next)
        const count = Math.min(LAST, Math.ceil((to - from) / 4))
        let sum = 0
        let known = 0
        for (let one = to - count; one < to; one++)
            if (Number.isFinite(values[one])) {
                sum += values[one]!
                known++
            }
        if (known) found.set(sparsity.data[at]!, sum / known)
    }
    const pairs = [...found].sort((a, b) => a[0] - b[0])
    return { x: Float64Array.from(pairs, (one) => one[0]), y: Float64Array.from(pairs, (one) => one[1]) }
}

/** `share`: of a run's points, the width of the mean that smooths it; 0 draws what was recorded. */
export function aligned(curve: RunLineCurve, moments: Moments, by: Alignment, share: number): Aligned {
    if (by === 'sparsity') return bySparsity(curve.steps.data, curve.values.data, moments)
    const { steps, values, smooth } = drawn(curve, moments, share)
    const x =
        by === 'step' ? Float64Array.from(steps) : Float64Array.from(steps, (step) => cycleAt(moments, step))
    return { x, y: values, smooth }
}

/** Where points were left out, those here are the extreme ones: their means came with them. */
function drawn(curve: RunLineCurve, moments: Moments, share: number) {
    const made = share > 0 ? (curve.means ?? curve) : curve
    const [steps, values] = [made.steps.data, made.values.data]
    const width = Math.round(share * values.length)
    if (width < 3) return { steps, values: Float64Array.from(values), smooth: made !== curve }
    const cuts = Array.from(moments.changed.data).map((step) => upperBound(steps, step))
    return { steps, values: smoothed(values, { kind: 'mean', width }, cuts), smooth: true }
}

/** The value of a line at `x`, between its points; NaN outside of them. */
export function valueAt({ x, y }: Aligned, at: number): number {
    if (!x.length || at < x[0]! || at > x.at(-1)!) return NaN
    const right = lowerBound(x, at)
    if (x[right] === at || right === 0) return y[right]!
    const share = (at - x[right - 1]!) / (x[right]! - x[right - 1]!)
    return y[right - 1]! * (1 - share) + y[right]! * share
}
