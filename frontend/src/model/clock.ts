/** From steps to elapsed time and back, so that every chart can show either. */
import { lowerBound, type Numbers } from './downsample'

/** Where a step stands on an x axis. */
export interface Axis {
    readonly kind: 'step' | 'time'
    at(step: number): number
    stepAt(position: number): number
}

export const STEPS: Axis = { kind: 'step', at: (step) => step, stepAt: (position) => position }

const between = (from: Numbers, to: Numbers, value: number): number => {
    const count = from.length
    if (!count) return value
    const right = lowerBound(from, value)
    if (right === 0) return to[0]!
    if (right === count) return to[count - 1]!
    const [a, b] = [from[right - 1]!, from[right]!]
    return to[right - 1]! + ((to[right]! - to[right - 1]!) * (value - a)) / (b - a)
}

/** Seconds since the first of `seconds`; between known steps time is taken to be even. Both arrays rise. */
export function timeAxis(steps: Numbers, seconds: Numbers): Axis {
    const start = seconds.length ? seconds[0]! : 0
    return {
        kind: 'time',
        at: (step) => between(steps, seconds, step) - start,
        stepAt: (position) => between(seconds, steps, position + start),
    }
}

/** Unix seconds at a step; null where no time is known. */
export const timeAt = (steps: Numbers, seconds: Numbers, step: number): number | null =>
    steps.length ? between(steps, seconds, step) : null
