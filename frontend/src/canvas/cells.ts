/** What a layers × heads grid shows at one moment, made from the head history. */
import { domainOf, IMPORTANCE, place } from '../model/colour'
import { rankShares, scoreGrid, shownAt, stateGrid, type Grid } from '../model/heads'
import type { Criterion, Heads } from '../model/types'
import type { Cells } from './grid'

export function placesOf(values: Grid, low: number, high: number): Int16Array {
    return Int16Array.from(values as ArrayLike<number>, (value) => place(value, low, high))
}

/** The run's domain of a criterion; what was written down, or, where that is no domain, what is in the values. */
export function frozenDomain(criterion: Criterion): [number, number] {
    if (Number.isFinite(criterion.low) && Number.isFinite(criterion.high))
        return [criterion.low, criterion.high]
    return domainOf(criterion.values.data) ?? [0, 1]
}

/** Places on the ramp for one measurement: by value in the run's domain, or by rank among heads that are there. */
export function importancePlaces(
    criterion: Criterion | null,
    snapshot: number,
    states: Grid,
    byRank: boolean,
): Int16Array {
    const scores = criterion ? scoreGrid(criterion, snapshot) : null
    if (!criterion || !scores) return new Int16Array(states.length).fill(-1)
    if (byRank) return placesOf(rankShares(scores, states), 0, 1)
    return placesOf(scores, ...frozenDomain(criterion))
}

/** Where in the history a step lies: numbers that change only when the grid does. */
export function moment(heads: Heads, criterion: Criterion | null, step: number) {
    const states = shownAt(heads.states.steps.data, step).at
    const snapshot = criterion ? shownAt(criterion.steps.data, step) : { at: -1, early: false }
    return { states, snapshot: snapshot.early ? -1 : snapshot.at }
}

export function cellsAt(
    heads: Heads,
    criterion: Criterion | null,
    states: number,
    snapshot: number,
    byRank: boolean,
    marked?: ReadonlySet<number>,
): Cells {
    const grid = stateGrid(heads, states)
    return {
        ramp: IMPORTANCE,
        places: importancePlaces(criterion, snapshot, grid, byRank),
        states: grid,
        marked,
    }
}
