/** Decisions with their scores as people know them. */
import { highGoesFirst } from './heads'
import type { Floats } from './types'

interface Scored {
    strategy: string
    score: Floats | null
    threshold: number | null
}
export type AsKnown<Decision> = Decision & { highFirst: boolean }

const known = new WeakMap<object, object>()
const negated = (values: ArrayLike<number>) => Float64Array.from(values, (value) => (value ? -value : value))

/**
 * A decision is recorded with what its strategy ordered by, the lowest going first. Where people know the criterion
 * the other way round (entropy), that was its negative: here it is turned back, and `highFirst` says so.
 */
export function asKnown<Decision extends Scored>(one: Decision): AsKnown<Decision> {
    const found = known.get(one)
    if (found) return found as AsKnown<Decision>
    const values = one.score?.data ?? new Float64Array()
    const highFirst = highGoesFirst(one.strategy)
    const turned = highFirst && values.some((value) => value < 0) && !values.some((value) => value > 0)
    const made: AsKnown<Decision> = { ...one, highFirst }
    if (turned && one.score) {
        made.score = { data: negated(values), shape: one.score.shape }
        made.threshold = one.threshold === null ? null : -one.threshold
    }
    known.set(one, made)
    return made
}
